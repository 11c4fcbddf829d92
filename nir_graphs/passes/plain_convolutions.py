"""Pass: convolutions whose types nir 1.0.8 infers rightly: one group, square kernels.

A grouped convolution becomes a dense one with zeros between the groups. A kernel that is not square lies in a square one,
with zeros around it; :mod:`zoo.nir_graphs.passes.windows` finds the padding. The products with zeros add exact zeros, so
nothing else is computed; a float sum may be taken in another order where a group has several inputs.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from zoo.errors import ExportError, InvalidGraphError
from zoo.nir_graphs.fields import Array, Note
from zoo.nir_graphs.graph import Edge, FlatGraph, FlatNode
from zoo.nir_graphs.passes.base import Notes, Pass, rebuilt, unique
from zoo.nir_graphs.passes.windows import Axis, Fit, Square, square

MAX_WEIGHTS = 2**28
"""Of all convolutions together: 1 GiB in float32, which stock nir holds in memory."""


class PlainConvolutions(Pass):
    """Makes every convolution dense and square."""

    def requires(self, graph: FlatGraph) -> None:
        """Every convolution has a square form, and all of them fit into memory.

        Raises:
            ExportError: names the nodes that stand in the way.
        """
        reasons = []
        total = 0
        for name, node in graph.nodes.items():
            if not _is_convolution(node):
                continue
            form = _square(node)
            if form is None:
                size = "x".join(map(str, node["weight"].shape[2:]))
                reasons.append(
                    f"the node {name!r} ({node.kind}) has a kernel of {size}, and no square one computes the same with as "
                    "many zeros before as behind its input"
                )
                continue
            total += _weights(node, form.taps)
        if total > MAX_WEIGHTS:
            reasons += _largest(graph, total)
        if reasons:
            raise ExportError("its convolutions cannot all be made dense and square:\n" + _listed(reasons))

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """See the class."""
        nodes: dict[str, Any] = dict(graph.nodes)
        edges: list[Edge] = list(graph.edges)
        notes: list[Note] = []
        for name, node in graph.nodes.items():
            form = _square(node) if _is_convolution(node) and not _is_plain(node) else None
            if form is None:
                continue
            notes.append(Note("convolution", f"the node {name!r} ({node.kind}) became {_described(node, form)}"))
            if form.picks == (1, 1):
                nodes[name] = _dense(node, form)
                continue
            spread = unique(nodes, f"{name}.spread")
            nodes[spread], nodes[name] = _dense(node, form), _picking(node, form.picks)
            edges = [(source, spread) if target == name else (source, target) for source, target in edges]
            edges.append((spread, name))
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


def _square(node: FlatNode) -> Square | None:
    """Where the kernel lies in a square one; a kernel of one axis, or one that is square, stays as it is."""
    if len(set(node["weight"].shape[2:])) == 1:
        return Square(node["weight"].shape[2], *[Fit(0, 1, d, s, None) for d, s in _options(node)])
    rows, columns = (
        Axis(n, k, d, s, before, m)
        for n, k, (d, s), (before, _), m in zip(
            node.input_shape[1:],
            node["weight"].shape[2:],
            _options(node),
            node["padding"],
            node.shape[1:],
            strict=True,
        )
    )
    return square(rows, columns)


def _options(node: FlatNode) -> list[tuple[int, int]]:
    """(dilation, stride) of two axes; the second of a Conv1d is its first again."""
    options = list(zip(node["dilation"], node["stride"], strict=True))
    return options if len(options) == 2 else options * 2


def _weights(node: FlatNode, taps: int) -> int:
    axes = node["weight"].ndim - 2
    return int(node["weight"].shape[0]) * node.input_shape[0] * taps**axes


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


def _picking(node: FlatNode, stride: tuple[int, int]) -> nir.Conv2d:
    """A 1x1 convolution that takes every second row or column, or both."""
    channels = node.shape[0]
    weight = np.eye(channels, dtype=np.float32)[:, :, None, None]
    return nir.Conv2d(None, weight, stride, (0, 0), (1, 1), 1, np.broadcast_to(np.float32(0), (channels,)))


def _described(node: FlatNode, form: Square) -> str:
    kernel = "x".join(map(str, node["weight"].shape[2:]))
    axes = node["weight"].ndim - 2
    return f"dense with a kernel of {'x'.join([str(form.taps)] * axes)} (it had {node['groups']} groups and {kernel})"


def _largest(graph: FlatGraph, total: int) -> list[str]:
    """The nodes that need most weights."""
    needs = {
        name: _weights(node, form.taps)
        for name, node in graph.nodes.items()
        if _is_convolution(node) and (form := _square(node)) is not None
    }
    worst = sorted(needs, key=lambda name: -needs[name])[:3]
    return [
        f"the node {name!r} ({graph.nodes[name].kind}) needs {needs[name]:,} weights; all convolutions together need "
        f"{total:,}, the limit is {MAX_WEIGHTS:,}"
        for name in worst
    ]


def _listed(reasons: list[str]) -> str:
    return "\n".join(f"  - {reason}" for reason in reasons)


plain_convolutions = PlainConvolutions()
