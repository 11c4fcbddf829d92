"""Turns a graph into a list of units, in an order that respects all edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nir
import torch
from torch import nn

from zoo.adapters.fusions import FUSIONS
from zoo.adapters.fusions.matching import Match, Scope, find
from zoo.adapters.membranes import MEMBRANES, Cell, Framework
from zoo.adapters.ops import LAYERS, Delay, Threshold
from zoo.adapters.units import CountOf, Key, Layer, Loop, Neuron, SharedSum, Shift, SumOf, Unit
from zoo.nir_graphs.graph import FlatGraph, FlatNode

RUN = frozenset({nir.Input, nir.Threshold, nir.Delay, *LAYERS, *MEMBRANES})
"""The node types that the executor runs."""


@dataclass(frozen=True)
class Goal:
    """What a plan is for.

    Attributes:
        fuse: whether to use fused kernels.
        visible: nodes whose values must be made, even where a fused kernel would do without them.
        differentiable: whether gradients can flow.
    """

    fuse: bool = True
    visible: frozenset[str] = frozenset()
    differentiable: bool = False


def operation(node: FlatNode, framework: Framework, dtype: torch.dtype, dt: float) -> nn.Module:
    """What one node does."""
    if node.type in LAYERS:
        return LAYERS[node.type](node, dtype)
    if node.type is nir.Threshold:
        return Threshold(node, dtype, framework.spike)
    if node.type is nir.Delay:
        return Delay(node, dtype)
    return framework.neuron(node, dtype, dt)


class Planner:
    """Makes one plan.

    Args:
        graph: what to plan for.
        framework: brings the cells.
        dtype: of the computation.
        keep: (node or match, maker) -> its module, made if it is new: plans of one graph share their modules.
        goal: what the plan is for.
    """

    def __init__(
        self,
        graph: FlatGraph,
        framework: Framework,
        dtype: torch.dtype,
        keep: Callable[[str | Match, Callable[[], nn.Module]], Any],
        goal: Goal,
    ) -> None:
        self.graph, self.framework, self.dtype, self.keep, self.goal = graph, framework, dtype, keep, goal
        fusions = FUSIONS if goal.fuse else ()
        scope: Scope = find(graph, fusions, visible=goal.visible, differentiable=goal.differentiable)
        self.matches = scope.matches
        self.counts = scope.counts

    def plan(self) -> list[Unit]:
        """All units."""
        units: list[Unit] = []
        done: set[str] = set()
        for component in self.graph.components:
            for name in component:
                match = self.matches.get(name)
                if name in done or self.graph.nodes[name].type is nir.Input or (match and name in match.hides):
                    continue
                unit = match.unit(self) if match else self._unit(name, component)
                units.append(unit)
                done.update(made for made in unit.makes if isinstance(made, str))
        return share_sums(units) if self.goal.fuse else units

    def terms(self, names: Sequence[str]) -> tuple[Key, ...]:
        """What to sum for a list of sources: whole banks in front are replaced by their counts.

        This is exact as long as everything before is a count, too: then all partial sums are small whole numbers. A count
        holds each level once; a level that is summed twice (the same edge twice) is left to be summed by itself.
        """
        terms: list[CountOf] = []
        rest, most = tuple(names), max(map(len, self.counts), default=0)
        while rest:
            fronts = (rest[:size] for size in range(min(most, len(rest)), 0, -1))
            front = next((f for f in fronts if len(set(f)) == len(f) and frozenset(f) in self.counts), ())
            if not front:
                break
            terms.append(self.counts[frozenset(front)])
            rest = rest[len(front) :]
        return (*terms, *rest)

    def _op(self, name: str) -> Any:
        node = self.graph.nodes[name]
        return self.keep(name, lambda: operation(node, self.framework, self.dtype, self.graph.dt))

    def _unit(self, name: str, component: Sequence[str]) -> Unit:
        """The unit of a node that no match has, or of the whole cycle that it lies on."""
        if self.graph.is_cycle(component):
            return self._loop(component)
        node, terms, op = self.graph.nodes[name], self.terms(self.graph.sources[name]), self._op(name)
        if isinstance(op, Delay):
            return Shift(terms, name, op)
        if isinstance(op, Cell):
            return Neuron(terms, name, op, node.facts.spiking)
        return Layer(terms, name, op)

    def _loop(self, component: Sequence[str]) -> Unit:
        members, sources = set(component), self.graph.sources
        ordered = tuple(name for name in self.graph.order if name in members)
        outside = tuple(dict.fromkeys(term for name in ordered for term in sources[name] if term not in members))
        fires = frozenset(name for name in ordered if self.graph.nodes[name].facts.spiking)
        return Loop(outside, ordered, sources, {name: self._op(name) for name in ordered}, fires)


def share_sums(units: Sequence[Unit]) -> list[Unit]:
    """Let units that sum the very same terms sum them once."""
    uses = Counter(tuple(unit.reads) for unit in units if unit.sums and len(unit.reads) > 1)
    shared: list[Unit] = []
    made: set[SumOf] = set()
    for unit in units:
        terms = tuple(unit.reads)
        if unit.sums and uses[terms] > 1:
            key = SumOf(terms)
            if key not in made:
                made.add(key)
                shared.append(SharedSum(terms))
            unit = replace(unit, reads=(key,))  # noqa: PLW2901
        shared.append(unit)
    return shared
