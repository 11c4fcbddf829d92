"""Pass: put the nodes of subgraphs into the graph itself."""

from __future__ import annotations

import nir

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.passes.base import Pass, rebuilt


class FlattenSubgraphs(Pass):
    """Replaces each subgraph by its nodes, named ``subgraph.node``.

    A subgraph's Input becomes Scale(1) where several edges lead into it, so that sums keep their order; otherwise edges are
    joined. Subgraphs with several inputs or outputs are refused: NIR edges do not say which one they mean.
    """

    def requires(self, graph: nir.NIRGraph) -> None:
        """Each subgraph has one Input and one Output."""
        for name, node in graph.nodes.items():
            if isinstance(node, nir.NIRGraph):
                for kind in (nir.Input, nir.Output):
                    count = sum(isinstance(inner, kind) for inner in node.nodes.values())
                    if count != 1:
                        raise InvalidGraphError(
                            f"the subgraph {name!r} has {count} {kind.__name__} nodes; which one an edge means is ambiguous"
                        )
                self.requires(node)

    def call(self, graph: nir.NIRGraph) -> nir.NIRGraph:
        """See the class."""
        nodes: dict[str, nir.NIRNode] = {}
        edges: list[tuple[str, str]] = []
        ends: dict[str, tuple[str, str]] = {}
        for name, node in graph.nodes.items():
            if not isinstance(node, nir.NIRGraph):
                nodes[name] = node
                ends[name] = (name, name)
                continue
            inner = self.call(node)
            for part, inner_node in inner.nodes.items():
                # inside, Input and Output only pass on: a subgraph's border is not the graph's border
                nodes[f"{name}.{part}"] = inner_node
            edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in inner.edges]
            entry = next(part for part, n in inner.nodes.items() if isinstance(n, nir.Input))
            leave = next(part for part, n in inner.nodes.items() if isinstance(n, nir.Output))
            ends[name] = (f"{name}.{entry}", f"{name}.{leave}")
        edges += [(ends[a][1], ends[b][0]) for a, b in graph.edges]
        borders = {end for name, pair in ends.items() if pair[0] != pair[1] for end in pair}
        return _without_borders(rebuilt(graph, nodes, edges), borders)

    def ensures(self, graph: nir.NIRGraph) -> None:
        """No subgraph is left."""
        left = [name for name, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)]
        if left:
            raise InvalidGraphError(f"the subgraph {left[0]!r} could not be flattened")


def _without_borders(graph: nir.NIRGraph, borders: set[str]) -> nir.NIRGraph:
    """Replace the inner Inputs and Outputs by Scale(1), a node that passes on the sum of its inputs."""
    nodes = dict(graph.nodes)
    for name in borders:
        node = nodes[name]
        shape = node.input_type["input"] if isinstance(node, nir.Input) else node.output_type["output"]
        if shape is None:
            raise InvalidGraphError(f"the subgraph border {name!r} does not state its shape")
        nodes[name] = nir.Scale(_ones(tuple(int(n) for n in shape)))
    return rebuilt(graph, nodes, list(graph.edges))


def _ones(shape: tuple[int, ...]) -> object:
    from zoo.nir_graphs.values import constant

    return constant(1.0, shape)  # type: ignore[arg-type]


flatten_subgraphs = FlattenSubgraphs()
