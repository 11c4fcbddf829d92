"""Pass: remove what no Output depends on."""

from __future__ import annotations

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.fields import Note, names
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.passes.base import Notes, Pass, rebuilt


class DeadNodes(Pass):
    """Removes every node from which no path leads to an Output, and names it in a note. Inputs stay."""

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """See the class."""
        live = _live(graph)
        dead = [name for name in graph.nodes if name not in live]
        if not dead:
            return graph, ()
        nodes = {name: node for name, node in graph.nodes.items() if name in live}
        edges = [edge for edge in graph.edges if live.issuperset(edge)]
        note = Note("dead nodes", f"removed {names(dead)}: no Output depends on them")
        return rebuilt(graph, nodes, edges), (note,)

    def ensures(self, before: FlatGraph, after: FlatGraph) -> None:
        """All Outputs are there, and each node leads to one of them."""
        if after.outputs != before.outputs or _live(after) != set(after.nodes):
            raise InvalidGraphError("the removal of dead nodes left some, or took an Output")


def _live(graph: FlatGraph) -> set[str]:
    """Inputs, and the nodes from which a path leads to an Output."""
    found = set(graph.outputs)
    queue = list(found)
    while queue:
        for source in graph.sources[queue.pop()]:
            if source not in found:
                found.add(source)
                queue.append(source)
    return found.union(graph.inputs)


dead_nodes = DeadNodes()
