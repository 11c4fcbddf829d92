"""What a pass is: a pure function on graphs with stated conditions before and after."""

from __future__ import annotations

from abc import ABC, abstractmethod

import nir


class Pass(ABC):
    """One transformation: ``requires`` -> ``call`` -> ``ensures``.

    A pass never changes the graph that it is given; it returns a new one, which may share nodes with the old one.
    """

    def __call__(self, graph: nir.NIRGraph) -> nir.NIRGraph:
        """Check, transform, check."""
        self.requires(graph)
        edges, names = list(graph.edges), list(graph.nodes)
        result = self.call(graph)
        if edges != list(graph.edges) or names != list(graph.nodes):
            raise AssertionError(f"the pass {type(self).__name__} changed its input")
        self.ensures(result)
        return result

    def requires(self, graph: nir.NIRGraph) -> None:  # noqa: B027 - most passes take any graph
        """Raise InvalidGraphError where the pass cannot be applied."""

    @abstractmethod
    def call(self, graph: nir.NIRGraph) -> nir.NIRGraph:
        """The transformation."""

    def ensures(self, graph: nir.NIRGraph) -> None:  # noqa: B027 - most passes promise what their code shows
        """Raise InvalidGraphError where the result is not what was promised."""


def rebuilt(graph: nir.NIRGraph, nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]]) -> nir.NIRGraph:
    """A graph with other nodes and edges and the same metadata."""
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata or {}), type_check=False)
