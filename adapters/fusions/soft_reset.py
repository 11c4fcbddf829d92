"""Soft reset: the canonical loop of DESIGN.md section 3 on a whole sequence.

U = x + B; Z_k = [U > theta_k]; D = U + sum_k reset_k Z_k, one step later; B = beta D.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import nir
import torch
from torch import Tensor

from zoo.adapters.fusions.bank import Levels, in_order, put_levels, thresholds_of
from zoo.adapters.fusions.matching import Match, Parts, Scope
from zoo.adapters.ops import Constants, Spike
from zoo.adapters.units import Context, CountOf, LevelsUnit, Unit
from zoo.nir_graphs.fields import Array
from zoo.nir_graphs.graph import FlatGraph


@dataclass(frozen=True, eq=False)
class SoftReset(Match):
    """A canonical loop; ``makes`` are the Z_k, lowest threshold first.

    Attributes:
        sources: what is summed into x.
        resets: (index into ``makes``, reset_k) in the order in which D sums them.
        decay: beta, compact.
    """

    sources: tuple[str, ...] = ()
    resets: tuple[tuple[int, Array], ...] = ()
    decay: Array | None = None

    @property
    def count(self) -> CountOf:
        """See :class:`Match`."""
        return CountOf(self.makes)

    def unit(self, parts: Parts) -> Unit:
        """See :class:`Match`."""
        kernel = parts.keep(
            self,
            lambda: SoftResetKernel(
                thresholds_of(parts.graph, self.makes), self.resets, self.decay, parts.dtype, parts.framework.spike
            ),
        )
        return SoftResetUnit(parts.terms(self.sources), self.makes, kernel)


def find_soft_resets(scope: Scope) -> list[SoftReset]:
    """Cycles that are canonical loops, and of which only the spikes are read outside."""
    return [match for cycle in scope.cycles if (match := _match(scope.graph, cycle)) is not None]


def _match(graph: FlatGraph, component: Sequence[str]) -> SoftReset | None:
    kinds: dict[type, list[str]] = defaultdict(list)
    sources, targets = graph.sources, graph.targets
    for name in component:
        kinds[graph.nodes[name].type].append(name)
    if set(kinds) != {nir.Delay, nir.Scale, nir.Threshold} or len(kinds[nir.Delay]) != 1:
        return None
    delay, members, levels = kinds[nir.Delay][0], set(component), in_order(graph, kinds[nir.Threshold])
    potential, *resets = sources[delay]
    decay = next((name for name in kinds[nir.Scale] if sources[name] == (delay,)), None)
    if decay is None or potential not in members or sources[potential][-1:] != (decay,):
        return None
    outer = sources[potential][:-1]
    is_canonical = (
        bool(outer)
        and not members & set(outer)
        and members == {delay, potential, decay, *resets, *levels}
        and graph.nodes[potential].type is nir.Scale
        and graph.nodes[potential].number("scale") == 1.0
        and graph.nodes[delay].number("steps") == 1
        and all(sources[level] == (potential,) for level in levels)
        and all(graph.nodes[n].type is nir.Scale and len(sources[n]) == 1 and sources[n][0] in levels for n in resets)
        and not any(set(targets[name]) - members for name in members - set(levels))
    )
    if not is_canonical:
        return None
    amounts = tuple((levels.index(sources[name][0]), graph.nodes[name]["scale"]) for name in resets)
    return SoftReset(levels, frozenset(members - set(levels)), outer, amounts, graph.nodes[decay]["scale"])


class SoftResetKernel(Constants):
    """Runs the loop.

    Args:
        thresholds: theta_k, lowest first, compact.
        resets: (index of the level, reset_k) in the order in which they are summed.
        decay: beta.
        dtype: of the computation.
        spike: Heaviside function with a surrogate gradient.

    Attributes:
        subtracts_count: whether the resets of all levels are subtracted together.
    """

    decay: Tensor

    def __init__(
        self,
        thresholds: Sequence[Array],
        resets: Sequence[tuple[int, Array]],
        decay: Array | None,
        dtype: torch.dtype,
        spike: Spike | None,
    ) -> None:
        super().__init__()
        self.levels = Levels(thresholds, dtype, spike)
        self.constant("decay", decay, dtype)
        self.order = [level for level, _ in resets]
        for index, (_, amount) in enumerate(resets):
            self.constant(f"reset{index}", amount, dtype)
        is_unit = all(amount.ndim == 0 and amount == -1 for _, amount in resets)
        once_each = sorted(self.order) == list(range(self.levels.size))
        first = self.levels.first
        self.subtracts_count = first is not None and bool((first >= 0.5).all()) and is_unit and once_each

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Currents (T, B, ...) -> counts, potentials U (T, B, ...)."""
        run = self._differentiable if torch.is_grad_enabled() and x.requires_grad else self._counted
        counts, potentials = run(x.unbind())
        return torch.stack(counts), torch.stack(potentials)

    def _counted(self, currents: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        u = currents[0]
        counts, potentials = [self.levels(u)], [u]
        for current in currents[1:]:
            rest = self._less_count(u, counts[-1]) if self.subtracts_count else self._less(u, self._spikes(u))
            u = current + self.decay * rest
            counts.append(self.levels(u))
            potentials.append(u)
        return counts, potentials

    def _differentiable(self, currents: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The same with the gradients of the nodes, those of the resets included."""
        u, spikes = currents[0], self._spikes(currents[0])
        counts, potentials = [_total(spikes)], [u]
        for current in currents[1:]:
            u = current + self.decay * self._less(u, spikes)
            spikes = self._spikes(u)
            counts.append(_total(spikes))
            potentials.append(u)
        return counts, potentials

    def _spikes(self, u: Tensor) -> list[Tensor]:
        return [self.levels.level(u, index) for index in range(self.levels.size)]

    def _less(self, u: Tensor, spikes: Sequence[Tensor]) -> Tensor:
        """The potential less its resets, one after the other."""
        for index, level in enumerate(self.order):
            u = u + getattr(self, f"reset{index}") * spikes[level]
        return u

    def _less_count(self, u: Tensor, count: Tensor) -> Tensor:
        """u - 1 - ... - 1, as often as levels fire, without looking at each of them.

        As long as u < 1/eps, u - count is the same: thresholds lie at 0.5, 1.5, ... or above, so that all differences are
        multiples of the unit in the last place of u, and not larger than u. Beyond, every level fires and each 1 may round.
        So the ones are subtracted one by one where all fire, and in any other way where not.
        """
        if self.levels.size == 1:
            return u - count
        all_fire = (count - (self.levels.size - 1)).clamp_(min=0)
        u = u - torch.sub(count, all_fire, alpha=self.levels.size - 1)
        for _ in range(self.levels.size - 1):
            u.sub_(all_fire)
        return u


def _total(spikes: Sequence[Tensor]) -> Tensor:
    total = spikes[0]
    for spike in spikes[1:]:
        total = total + spike
    return total


@dataclass
class SoftResetUnit(LevelsUnit):
    """The canonical soft-reset loop."""

    kernel: SoftResetKernel

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        counts, potentials = self.kernel(context.take(self.reads))
        context.put(self.count, counts)
        put_levels(context, self.levels, self.kernel.levels, potentials)
