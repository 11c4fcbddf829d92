"""Shapes of all values in a graph.

nir 1.0.8 infers wrong shapes for grouped and for non-square convolutions and overlooks wrong channel counts, so graphs are
written without its type check and checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.reference import conv_padding
from zoo.nir_graphs.structure import evaluation_order, predecessors

Shape = tuple[int, ...]


class _Mismatch(Exception):  # noqa: N818 - internal: the caller adds the node's name
    pass


def _sizes(value: Any, axes: int) -> list[int]:
    values = [int(one) for one in np.atleast_1d(value)]
    return values * axes if len(values) == 1 else values


def _window(size: int, before: int, after: int, reach: int, stride: int) -> int:
    if stride < 1:
        raise _Mismatch(f"has a stride of {stride}")
    out = (size + before + after - reach - 1) // stride + 1
    if out < 1:
        raise _Mismatch(f"has a window of {reach + 1}, larger than its padded input of {size + before + after}")
    return out


def _convolution(node: nir.Conv1d | nir.Conv2d, x: Shape) -> Shape:
    weight, groups = np.shape(node.weight), int(node.groups)
    axes = len(weight) - 2
    if len(x) != axes + 1:
        raise _Mismatch(f"takes inputs of {axes + 1} axes, gets {x}")
    if groups < 1 or weight[0] % groups or x[0] != weight[1] * groups:
        raise _Mismatch(f"takes {weight[1] * groups} channels in {groups} groups, gets {x[0]}")
    if np.size(node.bias) != weight[0]:
        raise _Mismatch(f"has {weight[0]} output channels, but {np.size(node.bias)} biases")
    stride, dilation = _sizes(node.stride, axes), _sizes(node.dilation, axes)
    reach = [d * (k - 1) for d, k in zip(dilation, weight[2:], strict=True)]
    padding = conv_padding(node.padding, reach)
    if isinstance(node.padding, str | bytes) and max(stride) > 1 and padding != [(0, 0)] * axes:
        raise _Mismatch("has padding 'same' with a stride, which has no agreed meaning")
    if any(p < 0 for pair in padding for p in pair) or min(dilation) < 1:
        raise _Mismatch("has a negative padding or a dilation below 1")
    spatial = [_window(n, *p, r, s) for n, p, r, s in zip(x[1:], padding, reach, stride, strict=True)]
    return (weight[0], *spatial)


def _pool(node: nir.SumPool2d | nir.AvgPool2d, x: Shape) -> Shape:
    if len(x) != 3:
        raise _Mismatch(f"takes inputs (C, H, W), gets {x}")
    kernel, stride, padding = (_sizes(p, 2) for p in (node.kernel_size, node.stride, node.padding))
    spatial = [_window(n, p, p, k - 1, s) for n, p, k, s in zip(x[1:], padding, kernel, stride, strict=True)]
    return (x[0], *spatial)


def _dense(node: nir.Affine | nir.Linear, x: Shape) -> Shape:
    rows, columns = np.shape(node.weight)[-2:]
    if not x or x[-1] != columns:
        raise _Mismatch(f"takes {columns} inputs, gets {x}")
    bias = getattr(node, "bias", None)
    if bias is not None and np.shape(bias) not in {(rows,), ()}:
        raise _Mismatch(f"has {rows} outputs, but a bias of shape {np.shape(bias)}")
    return (*x[:-1], rows)


def _flatten(node: nir.Flatten, x: Shape) -> Shape:
    start, end = int(node.start_dim) % len(x), int(node.end_dim) % len(x)
    return (*x[:start], int(np.prod(x[start : end + 1])), *x[end + 1 :])


def _elementwise(*fields: str) -> Callable[[Any, Shape], Shape]:
    def rule(node: Any, x: Shape) -> Shape:
        for field in fields:
            value: Any = getattr(node, field, None)
            shape = () if value is None else np.shape(value)
            try:
                fits = value is None or np.broadcast_shapes(shape, x) == x
            except ValueError:
                fits = False
            if not fits:
                raise _Mismatch(f"has a {field} of shape {shape}, gets {x}")
        return x

    return rule


_LIF = ("tau", "r", "v_leak", "v_threshold", "v_reset")
_CUBA = ("tau_syn", "tau_mem", "r", "v_leak", "w_in", "v_threshold", "v_reset")
RULES: dict[type, Callable[[Any, Shape], Shape]] = {
    nir.Conv1d: _convolution,
    nir.Conv2d: _convolution,
    nir.SumPool2d: _pool,
    nir.AvgPool2d: _pool,
    nir.Affine: _dense,
    nir.Linear: _dense,
    nir.Flatten: _flatten,
    nir.LIF: _elementwise(*_LIF),
    nir.LI: _elementwise(*_LIF),
    nir.IF: _elementwise("r", "v_threshold", "v_reset"),
    nir.I: _elementwise("r"),
    nir.CubaLIF: _elementwise(*_CUBA),
    nir.CubaLI: _elementwise(*_CUBA),
    nir.Threshold: _elementwise("threshold"),
    nir.Scale: _elementwise("scale"),
    nir.Delay: _elementwise("delay"),
}


def infer(graph: nir.NIRGraph) -> dict[str, Shape]:
    """Output shape of every node, without time and batch.

    Raises:
        InvalidGraphError: shapes that do not fit, a node without input, a cycle without Delay; the message names the node.
    """
    sources = predecessors(graph)
    shapes: dict[str, Shape] = {}
    order = evaluation_order(graph)
    for name in order:
        node = graph.nodes[name]
        if isinstance(node, nir.Input):
            shapes[name] = tuple(int(n) for n in node.input_type["input"])
        elif isinstance(node, nir.Delay) and not all(source in shapes for source in sources[name]):
            shapes[name] = np.shape(node.delay)  # its input, part of a cycle, is checked below
        else:
            shapes[name] = _checked(name, node, [(s, shapes[s]) for s in sources[name]])
    for name in order:
        node = graph.nodes[name]
        if isinstance(node, nir.Delay):
            found = _checked(name, node, [(s, shapes[s]) for s in sources[name]])
            if found != shapes[name]:
                raise InvalidGraphError(f"the Delay {name!r} has the shape {shapes[name]}, but gets {found}")
    return shapes


def _checked(name: str, node: Any, inputs: list[tuple[str, Shape]]) -> Shape:
    if not inputs:
        raise InvalidGraphError(f"the node {name!r} has no input")
    (_, shape), *others = inputs
    for source, other in others:
        if other != shape:
            raise InvalidGraphError(
                f"the inputs of node {name!r} differ in shape: {inputs[0][0]} {shape}, {source} {other}"
            )
    if isinstance(node, nir.Output):
        expected = node.output_type["output"]
        if expected is not None and tuple(int(n) for n in expected) != shape:
            raise InvalidGraphError(f"the Output {name!r} expects the shape {tuple(expected)}, but gets {shape}")
        return shape
    rule = RULES.get(type(node))
    if rule is None:
        raise InvalidGraphError(
            f"the node {name!r} is a {type(node).__name__}, whose shape is not known; flatten subgraphs first"
        )
    try:
        return rule(node, shape)
    except _Mismatch as problem:
        raise InvalidGraphError(f"the node {name!r} ({type(node).__name__}) {problem}") from None
