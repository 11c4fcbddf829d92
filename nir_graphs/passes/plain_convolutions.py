"""Pass: convolutions whose types nir 1.0.8 infers rightly: one group, square kernels.

A grouped convolution becomes a dense one with zeros between the groups. A kernel that is not square lies in a square one,
with zeros around it; :mod:`zoo.nir_graphs.passes.windows` finds the padding. Products with zeros add exact zeros, so nothing
else is computed. Only where a group has several inputs may a matrix library take a float sum in another order.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from zoo.errors import ExportError, InvalidGraphError
from zoo.nir_graphs.fields import Array, Note
from zoo.nir_graphs.graph import Edge, FlatGraph, FlatNode
from zoo.nir_graphs.passes.base import Notes, Pass, rebuilt, unique
from zoo.nir_graphs.passes.windows import Axis, Cut, Fit, Square, square

MAX_WEIGHTS = 2**28
"""Of all convolutions together: 1 GiB in float32, which stock nir holds in memory."""


class PlainConvolutions(Pass):
    """Makes every convolution dense and square."""

    def requires(self, graph: FlatGraph) -> None:
        """All convolutions together fit into memory.

        Raises:
            ExportError: names the largest.
        """
        needs = {name: _weights(node) for name, node in graph.nodes.items() if _is_convolution(node)}
        total = sum(needs.values())
        if total > MAX_WEIGHTS:
            worst = sorted(needs, key=lambda name: -needs[name])[:3]
            listed = "; ".join(f"the node {name!r} ({graph.nodes[name].kind}) {needs[name]:,}" for name in worst)
            raise ExportError(
                f"as dense convolutions with square kernels, this graph needs {total:,} weights, and the limit is "
                f"{MAX_WEIGHTS:,}. Most of them: {listed}"
            )

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """See the class."""
        nodes: dict[str, Any] = dict(graph.nodes)
        edges: list[Edge] = list(graph.edges)
        notes: list[Note] = []
        for name, node in graph.nodes.items():
            if not _is_convolution(node) or _is_plain(node):
                continue
            form = _square(node)
            notes.append(Note("convolution", f"the node {name!r} ({node.kind}) became {_described(node, form)}"))
            if form.cut is None:
                nodes[name] = _dense(node, form)
                continue
            wide = unique(nodes, f"{name}.wide")
            nodes[wide], nodes[name] = _dense(node, form), _cutting(form.cut, node.shape[0], node["weight"].dtype)
            edges = [(source, wide) if target == name else (source, target) for source, target in edges]
            edges.append((wide, name))
        return (rebuilt(graph, nodes, edges) if notes else graph), tuple(notes)

    def ensures(self, before: FlatGraph, after: FlatGraph) -> None:
        """Every convolution is dense and square, and whatever was there keeps its name and shape."""
        for name, node in after.nodes.items():
            if _is_convolution(node) and not _is_plain(node):
                raise InvalidGraphError(f"the node {name!r} ({node.kind}) is still grouped, or not square")
        for name, shape in before.shapes.items():
            if after.shapes.get(name) != shape:
                raise InvalidGraphError(f"the node {name!r} of shape {shape} got the shape {after.shapes.get(name)}")


def _is_convolution(node: FlatNode) -> bool:
    return node.type in {nir.Conv1d, nir.Conv2d}


def _is_plain(node: FlatNode) -> bool:
    return node["groups"] == 1 and len(set(node["weight"].shape[2:])) == 1


def _square(node: FlatNode) -> Square:
    """Where the kernel lies in a square one; a kernel of one axis, or one that is square, stays as it is."""
    if len(set(node["weight"].shape[2:])) == 1:
        return Square(node["weight"].shape[2], *[Fit(0, 1, d, s, None) for d, s in _options(node)])
    before = [side for side, _ in node["padding"]]
    parts = zip(node.input_shape[1:], node["weight"].shape[2:], _options(node), before, node.shape[1:], strict=True)
    rows, columns = (Axis(n, k, d, s, b, m) for n, k, (d, s), b, m in parts)
    return square(rows, columns)


def _options(node: FlatNode) -> list[tuple[int, int]]:
    """(dilation, stride) of two axes; the second of a Conv1d is its first again."""
    options = list(zip(node["dilation"], node["stride"], strict=True))
    return options if len(options) == 2 else options * 2


def _weights(node: FlatNode) -> int:
    """Weights of the dense, square form."""
    form = _square(node)
    outputs, inputs, axes = node.shape[0], node.input_shape[0], node["weight"].ndim - 2
    cut = 0 if form.cut is None else outputs**2 * form.cut.taps**2
    return int(outputs * inputs * form.taps**axes + cut)


def _dense(node: FlatNode, form: Square) -> nir.NIRNode:
    """The node with one group and a square kernel."""
    old: Array = node["weight"]
    kernel = old.shape[2:]
    axes = len(kernel)
    new = np.zeros((old.shape[0], node.input_shape[0], *(form.taps,) * axes), old.dtype)
    fits = (form.rows, form.columns)[:axes]
    window = tuple(slice(f.first, f.first + f.step * (k - 1) + 1, f.step) for f, k in zip(fits, kernel, strict=True))
    outputs, inputs = len(old) // node["groups"], old.shape[1]
    for group in range(node["groups"]):
        rows = slice(group * outputs, (group + 1) * outputs)
        columns = slice(group * inputs, (group + 1) * inputs)
        new[(rows, columns, *window)] = old[rows]
    plain = node.to_nir()
    plain.weight, plain.groups = new, 1
    if len(set(kernel)) > 1:
        plain.dilation = tuple(fit.dilation for fit in fits)
        plain.stride = tuple(fit.stride for fit in fits)
        plain.padding = form.padding
    return plain


def _cutting(cut: Cut, channels: int, dtype: np.dtype[Any]) -> nir.Conv2d:
    weight = np.zeros((channels, channels, cut.taps, cut.taps), dtype)
    weight[(range(channels), range(channels), *cut.one)] = 1.0
    bias = np.broadcast_to(np.zeros((), dtype), (channels,))
    return nir.Conv2d(None, weight, (1, 1), cut.padding, cut.dilation, 1, bias)


def _described(node: FlatNode, form: Square) -> str:
    kernel = "x".join(map(str, node["weight"].shape[2:]))
    axes = node["weight"].ndim - 2
    return f"dense with a kernel of {'x'.join([str(form.taps)] * axes)} (it had {node['groups']} groups and {kernel})"


plain_convolutions = PlainConvolutions()
