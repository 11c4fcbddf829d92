"""What a fusion is: nodes of a graph that can run as one unit with the very same bits.

A fusion is found from the graph's structure and numbers, never from names or metadata. Each one is a module of this package
with a function that finds it, a :class:`Match` that makes its unit, and the kernel of that unit; ``FUSIONS`` lists the
functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from zoo.adapters.membranes import Framework
from zoo.adapters.units import CountOf, Key, Unit
from zoo.nir_graphs.graph import FlatGraph

Identity = tuple[type, tuple[str, ...], frozenset[str]]
"""(kind of match, nodes that it makes, nodes that it hides)."""


class Parts(Protocol):
    """What a match makes its unit from.

    Attributes:
        graph: the graph.
        framework: brings the surrogate gradient.
        dtype: of the computation.
    """

    graph: FlatGraph
    framework: Framework
    dtype: torch.dtype

    def terms(self, names: Sequence[str]) -> tuple[Key, ...]:
        """What to sum for a list of sources: whole banks in front are replaced by their counts."""
        ...

    def keep(self, match: Match, make: Callable[[], nn.Module]) -> Any:
        """The module of a match, made if it is new: plans of one graph share their modules."""
        ...


@dataclass(frozen=True, eq=False)
class Match:
    """Nodes that run as one unit.

    Attributes:
        makes: nodes whose values the unit can make.
        hides: nodes whose values exist only inside of it.
        is_differentiable: whether its kernel has the gradients of its nodes. One that has not runs only where no gradient can
            flow.
    """

    makes: tuple[str, ...]
    hides: frozenset[str] = frozenset()
    is_differentiable: ClassVar[bool] = True

    @property
    def count(self) -> CountOf | None:
        """The sum of ``makes``, where the unit makes that, too."""
        return None

    @property
    def needs(self) -> CountOf | None:
        """A sum that another match has to make."""
        return None

    @property
    def identity(self) -> Identity:
        """Which fusion of which nodes."""
        return type(self), self.makes, self.hides

    def unit(self, parts: Parts) -> Unit:
        """The unit that runs it."""
        raise NotImplementedError


@dataclass
class Scope:
    """What has been found so far.

    Attributes:
        graph: where to look.
        visible: nodes that no match may hide.
        differentiable: whether all matches must be.
        refused: matches that turned out to be of no use.
        matches: by each of their nodes.
        on_cycles: nodes that are stepped through time, unless a match takes the whole cycle.
    """

    graph: FlatGraph
    visible: frozenset[str]
    differentiable: bool
    refused: set[Identity] = field(default_factory=set)
    matches: dict[str, Match] = field(default_factory=dict)
    on_cycles: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.on_cycles = frozenset(name for cycle in self.cycles for name in cycle)

    @property
    def cycles(self) -> list[tuple[str, ...]]:
        """The nodes of each cycle."""
        return [component for component in self.graph.components if self.graph.is_cycle(component)]

    @property
    def counts(self) -> dict[frozenset[str], CountOf]:
        """The sums that matches make, by their nodes."""
        found = [match.count for match in self.matches.values() if match.count is not None]
        return {frozenset(count.nodes): count for count in found}

    def is_free(self, name: str) -> bool:
        """Whether a node lies outside of cycles and no match has it yet."""
        return name not in self.matches and name not in self.on_cycles

    def add(self, match: Match) -> None:
        """Take a match, unless some of its nodes are taken, or must be seen, or it has been refused."""
        nodes = {*match.makes, *match.hides}
        if (
            match.identity not in self.refused
            and (match.is_differentiable or not self.differentiable)
            and not match.hides & self.visible
            and not nodes & self.matches.keys()
        ):
            self.matches.update(dict.fromkeys(nodes, match))


Fusion = Callable[[Scope], Iterable[Match]]
"""Finds matches among the nodes that are free."""


def find(
    graph: FlatGraph, fusions: Iterable[Fusion], *, visible: frozenset[str] = frozenset(), differentiable: bool = False
) -> Scope:
    """Let each fusion find its matches, in turn, until every match has the sum that it needs."""
    refused: set[Identity] = set()
    while True:
        scope = Scope(graph, visible, differentiable, refused)
        for fusion in fusions:
            for match in fusion(scope):
                scope.add(match)
        made: Mapping[frozenset[str], CountOf] = scope.counts
        lacking = {
            match.identity for match in scope.matches.values() if match.needs and match.needs not in made.values()
        }
        if not lacking:
            return scope
        refused |= lacking
