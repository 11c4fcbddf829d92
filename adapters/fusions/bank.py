"""Bank: Thresholds on one potential.

The sum of their outputs is the number of thresholds exceeded. It is a small whole number, exact in any order, so where
somebody sums the whole bank first, the count can stand for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import nir
import numpy as np
import torch
from torch import Tensor

from zoo.adapters.fusions.matching import Match, Parts, Scope
from zoo.adapters.ops import Constants, Spike, fire
from zoo.adapters.units import Context, CountOf, LevelsUnit, Unit
from zoo.layers.counting import count_exceeded, evenly_spaced
from zoo.nir_graphs.fields import Array
from zoo.nir_graphs.graph import FlatGraph


@dataclass(frozen=True, eq=False)
class Bank(Match):
    """Thresholds with the same in-edges; ``makes`` are its levels, lowest threshold first."""

    @property
    def count(self) -> CountOf:
        """See :class:`Match`."""
        return CountOf(self.makes)

    def unit(self, parts: Parts) -> Unit:
        """See :class:`Match`."""
        kernel = parts.keep(
            self, lambda: Levels(thresholds_of(parts.graph, self.makes), parts.dtype, parts.framework.spike)
        )
        return BankUnit(parts.terms(parts.graph.sources[self.makes[0]]), self.makes, kernel)


def find_banks(scope: Scope) -> list[Bank]:
    """All free Thresholds outside of cycles. Those with the same in-edges go together if somebody reads them together."""
    graph = scope.graph
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in graph.names(nir.Threshold):
        if scope.is_free(name):
            groups[graph.sources[name]].append(name)
    return [Bank(in_order(graph, nodes)) for names in groups.values() for nodes in _read_together(graph, names)]


def _read_together(graph: FlatGraph, names: Iterable[str]) -> list[list[str]]:
    """Nodes in groups that share readers."""
    groups: list[tuple[set[str], list[str]]] = []
    for name in names:
        readers, members = set(graph.targets[name]), [name]
        for group in [group for group in groups if group[0] & readers]:
            groups.remove(group)
            readers, members = readers | group[0], group[1] + members
        groups.append((readers, members))
    return [members for _, members in groups]


def thresholds_of(graph: FlatGraph, levels: Iterable[str]) -> list[Array]:
    """The threshold of each level, compact."""
    return [np.asarray(graph.nodes[name]["threshold"], np.float64) for name in levels]


def in_order(graph: FlatGraph, levels: Sequence[str]) -> tuple[str, ...]:
    """Levels, lowest threshold first."""
    least = {name: float(threshold.min()) for name, threshold in zip(levels, thresholds_of(graph, levels), strict=True)}
    return tuple(sorted(levels, key=lambda name: (least[name], name)))


def is_thermometer(graph: FlatGraph, levels: Sequence[str]) -> bool:
    """Whether each threshold is at least the one before, for every element."""
    return all(bool((low <= high).all()) for low, high in pairwise(thresholds_of(graph, levels)))


class Levels(Constants):
    """The levels of a bank, one by one or counted.

    Args:
        thresholds: ascending or not, compact.
        dtype: of the computation.
        spike: Heaviside function with a surrogate gradient.

    Attributes:
        size: number of levels.
        first: the lowest threshold, where they are t, t + 1, t + 2, ... and can be counted in one operation; else None.
    """

    first: Tensor | None

    def __init__(self, thresholds: Sequence[Array], dtype: torch.dtype, spike: Spike | None) -> None:
        super().__init__()
        for index, threshold in enumerate(thresholds):
            # rounded to the working type first, exactly as the single nodes are
            self.constant(f"threshold{index}", threshold, dtype)
        self.size, self.spike = len(thresholds), spike
        self.register_buffer("first", evenly_spaced(self.thresholds, dtype), persistent=False)

    @property
    def is_even(self) -> bool:
        """Whether the thresholds are evenly spaced, one apart, and can be counted in one operation."""
        return self.first is not None

    @property
    def thresholds(self) -> list[Tensor]:
        """Rounded to the working type."""
        return [getattr(self, f"threshold{index}") for index in range(self.size)]

    def level(self, x: Tensor, index: int) -> Tensor:
        """[x > threshold of that index], in the type of x."""
        return fire(x, getattr(self, f"threshold{index}"), self.spike)

    def forward(self, x: Tensor) -> Tensor:
        """Number of thresholds below x, in the type of x; its gradient is the sum of those of the levels."""
        if self.size == 1:
            return self.level(x, 0)
        if not (torch.is_grad_enabled() and x.requires_grad):
            first = self.first
            return count_exceeded(x, self.thresholds if first is None else [first] * self.size, first)
        count = self.level(x, 0)
        for index in range(1, self.size):
            count = count + self.level(x, index)
        return count


@dataclass
class BankUnit(LevelsUnit):
    """Thresholds with the same in-edges: their count for those who take all of them, single levels for the others."""

    kernel: Levels

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        x = context.take(self.reads)
        if context.needs(self.count):
            context.put(self.count, self.kernel(x))
        put_levels(context, self.levels, self.kernel, x)


def put_levels(context: Context, levels: Sequence[str], kernel: Levels, potential: Tensor) -> None:
    """The single levels of a bank, as far as somebody needs them."""
    for index, name in enumerate(levels):
        if context.needs(name):
            y = kernel.level(potential, index)
            context.note(name, potential, y)
            context.put(name, y)
