"""Pass: no edge occurs twice, as stock nir demands (``nir.NIRGraph`` raises "Duplicate edge")."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import Edge, FlatGraph
from zoo.nir_graphs.passes.base import Notes, Pass, rebuilt, unique


class SingleEdges(Pass):
    """Leads the second and every later connection between two nodes through a Scale(1) of its own.

    Its place in the target's sum stays, so the sum rounds as before.
    """

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """See the class."""
        nodes: dict[str, Any] = dict(graph.nodes)
        edges: list[Edge] = []
        notes: list[Note] = []
        seen: set[Edge] = set()
        for source, target in graph.edges:
            if (source, target) not in seen:
                seen.add((source, target))
                edges.append((source, target))
                continue
            copy = unique(nodes, f"{source}.again")
            nodes[copy] = nir.Scale(np.broadcast_to(np.float32(1), graph.shapes[source]))
            edges += [(source, copy), (copy, target)]
            notes.append(Note("duplicate edge", f"the edge {source} -> {target} is led through the new node {copy!r}"))
        return (rebuilt(graph, nodes, edges) if notes else graph), tuple(notes)

    def ensures(self, before: FlatGraph, after: FlatGraph) -> None:
        """No edge twice, and the same Outputs."""
        if len(set(after.edges)) != len(after.edges) or after.outputs != before.outputs:
            raise InvalidGraphError("an edge still occurs twice")


single_edges = SingleEdges()
