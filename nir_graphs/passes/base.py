"""What a pass is: a pure function on graphs with stated conditions before and after.

Every application checks both: ``requires`` -> ``call`` -> ``ensures``. A ``FlatGraph`` cannot be changed, so a pass returns a
new one, together with a note for everything that it changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import nir

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import Edge, FlatGraph, FlatNode
from zoo.nir_graphs.metadata import GraphInfo
from zoo.nir_graphs.normalise import normalise

Notes = tuple[Note, ...]


class Pass(ABC):
    """One transformation of graphs, which keeps what they compute."""

    def __call__(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """Check, transform, check.

        Args:
            graph: is not changed.

        Returns:
            (the new graph, whose ``notes`` are those of the old one and the new ones; the new ones alone).

        Raises:
            InvalidGraphError: the pass cannot be applied to this graph; the message names the nodes.
        """
        self.requires(graph)
        result, notes = self.call(graph)
        _require_same_inputs(graph, result)
        self.ensures(graph, result)
        return result.with_notes(notes), notes

    def requires(self, graph: FlatGraph) -> None:  # noqa: B027 - some passes take any graph
        """Raise InvalidGraphError where the pass cannot be applied."""

    @abstractmethod
    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """The transformation, and what it changed."""

    @abstractmethod
    def ensures(self, before: FlatGraph, after: FlatGraph) -> None:
        """Raise InvalidGraphError where the result is not what the pass promises."""


def _require_same_inputs(before: FlatGraph, after: FlatGraph) -> None:
    """No pass changes what is fed in, or when: Inputs, their shapes and dt stay."""
    kept = {name: before.shapes[name] for name in before.inputs}
    if {name: after.shapes[name] for name in after.inputs} != kept or after.dt != before.dt:
        raise InvalidGraphError("a pass changed the inputs of a graph, or its dt")


def rebuilt(
    graph: FlatGraph,
    nodes: Mapping[str, FlatNode | nir.NIRNode],
    edges: Iterable[Edge],
    info: GraphInfo | None = None,
) -> FlatGraph:
    """A graph with other nodes and edges, checked and shaped as at the door; metadata, dt and notes stay.

    Args:
        graph: the old one.
        nodes: kept nodes as they are, new ones as NIR nodes.
        edges: in the order in which their sources are summed.
        info: another note of the zoo.
    """
    plain = {name: node.to_nir() if isinstance(node, FlatNode) else node for name, node in nodes.items()}
    draft = nir.NIRGraph(plain, list(edges), dict(graph.metadata), type_check=False)
    new = normalise(draft, dt=graph.dt).with_info(info or graph.info)
    notes = (*graph.notes, *(note for note in new.notes if note not in graph.notes))
    return FlatGraph(new.nodes, new.edges, new.dt, new.info, notes, new.metadata)


def unique(taken: Iterable[str], name: str) -> str:
    """A name that is not taken."""
    used = set(taken)
    while name in used:
        name += "_"
    return name
