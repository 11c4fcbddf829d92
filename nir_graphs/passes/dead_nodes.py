"""Pass: remove what no Output depends on."""

from __future__ import annotations

import nir

from zoo.nir_graphs.passes.base import Pass, rebuilt
from zoo.nir_graphs.structure import predecessors


class DeadNodes(Pass):
    """Removes nodes from which no Output can be reached. Inputs stay: callers feed them by name."""

    def call(self, graph: nir.NIRGraph) -> nir.NIRGraph:
        """See the class."""
        sources = predecessors(graph)
        alive = {name for name, node in graph.nodes.items() if isinstance(node, nir.Output | nir.Input)}
        queue = list(alive)
        while queue:
            for source in sources[queue.pop()]:
                if source not in alive:
                    alive.add(source)
                    queue.append(source)
        nodes = {name: node for name, node in graph.nodes.items() if name in alive}
        return rebuilt(graph, nodes, [(a, b) for a, b in graph.edges if a in alive and b in alive])


dead_nodes = DeadNodes()
