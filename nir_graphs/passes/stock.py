"""Profile ``stock``: a graph that plain ``nir.read(path)`` loads, with right types.

nir 1.0.8 infers the types of all nodes when it reads a file, and refuses what does not fit. Its inference is wrong for grouped
and for non-square convolutions (docs/upstream.md), so these are made dense and square. It also knows no edge that occurs twice,
and gives every node that nobody reads an Output of its own.
"""

from __future__ import annotations

import dataclasses

import nir

from zoo.errors import ExportError
from zoo.nir_graphs.fields import Shape, names
from zoo.nir_graphs.graph import FlatGraph, FlatNode
from zoo.nir_graphs.passes.base import Notes, Pass
from zoo.nir_graphs.passes.dead_nodes import dead_nodes
from zoo.nir_graphs.passes.plain_convolutions import plain_convolutions
from zoo.nir_graphs.passes.single_edges import single_edges


class Stock(Pass):
    """Rewrites a graph for ``nir.read(path)`` with nir's defaults; what a node computes stays.

    Raises:
        ExportError: something has no such form; names the nodes.
    """

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """See the class."""
        done = graph
        for inner in (dead_nodes, single_edges, plain_convolutions):
            done, _ = inner(done)
        return FlatGraph(done.nodes, done.edges, done.dt, done.info, graph.notes, done.metadata), done.notes[
            len(graph.notes) :
        ]

    def ensures(self, before: FlatGraph, after: FlatGraph) -> None:
        """The same Outputs; nir's own inference finds the true shape of every node, and adds no node."""
        wrong = _inferred_wrongly(after)
        if after.outputs != before.outputs:
            wrong = f"its outputs became {names(after.outputs)}"
        if wrong:
            raise ExportError(f"nir {nir.version} would not read this graph with its defaults: {wrong}")


def _inferred_wrongly(graph: FlatGraph) -> str:
    """What nir's inference, which ``nir.read`` runs, does not find as it is; empty if all is right."""
    try:
        found = nir.NIRGraph({name: _as_read(node) for name, node in graph.nodes.items()}, list(graph.edges))
    except Exception as error:  # noqa: BLE001 - its inference raises whatever comes up
        return str(error) or type(error).__name__
    added = set(found.nodes) - set(graph.nodes)
    if added:
        return f"it would add the nodes {names(sorted(added))}"
    wrong = [
        f"it takes the node {name!r} ({node.kind}) for a map {_types(found.nodes[name])}, not {(node.input_shape, node.shape)}"
        for name, node in graph.nodes.items()
        if _types(found.nodes[name]) != (node.input_shape, node.shape)
    ]
    return "; ".join(wrong[:8])


def _as_read(node: FlatNode) -> nir.NIRNode:
    """A node as ``nir.read`` makes it from a file: from its stored fields alone, without the types that we know."""
    plain = node.to_nir()
    stored = [field.name for field in dataclasses.fields(plain) if field.init]
    return type(plain)(**{name: getattr(plain, name) for name in stored})


def _types(node: nir.NIRNode) -> tuple[Shape, Shape]:
    given, out = next(iter(node.input_type.values())), next(iter(node.output_type.values()))
    return tuple(int(n) for n in given), tuple(int(n) for n in out)


stock = Stock()
