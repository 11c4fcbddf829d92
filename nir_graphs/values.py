"""Fan-in algebra: what a traced tensor is in terms of graph nodes.

A traced tensor is a concatenation, along channels, of sums of nodes. NIR sums the in-edges of a node, left to right, so
residual additions, integer spikes (sums of binary levels) and concatenations in front of convolutions need no nodes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

Shape = tuple[int, int, int]
Array = npt.NDArray[Any]


class Refusal(Exception):  # noqa: N818 - not an error of its own: lowering makes it an ExportError that names the module
    """Raised where a lowering cannot be exact; the message is the reason."""


@dataclass(frozen=True)
class Segment:
    """A sum of nodes, all of one shape.

    Attributes:
        nodes: names, in the order in which they are added up; no name twice, since NIR knows no duplicate edges.
        shape: (C, H, W).
        is_thermometer: the nodes are the binary levels 1..D of integer spikes, a higher one never on without the lower.
        ternary: of spikes -1, 0 and 1: the binary nodes that fire where it is 1, and where it is -1.
    """

    nodes: tuple[str, ...]
    shape: Shape
    is_thermometer: bool = False
    ternary: tuple[str, str] | None = None


@dataclass(frozen=True)
class Value:
    """A traced tensor.

    Attributes:
        segments: along channels, first to last; one (H, W) for all.
    """

    segments: tuple[Segment, ...]

    @property
    def channels(self) -> int:
        """Channels of all segments together."""
        return sum(segment.shape[0] for segment in self.segments)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.segments[0].shape[1:]

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return (self.channels, *self.size)

    def named(self, name: str) -> list[tuple[str, Segment]]:
        """The segments, each with a name for its nodes: ``name`` alone where there is just one."""
        if len(self.segments) == 1:
            return [(name, self.segments[0])]
        return [(f"{name}.seg{index}", segment) for index, segment in enumerate(self.segments)]


def compact(array: Array) -> Array:
    """The same numbers in float32 where that holds them exactly, else in float64."""
    wide = np.asarray(array, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow, wide) else wide


def constant(number: float | Array, shape: Shape) -> Array:
    """One number as an array of ``shape`` that takes no memory: a read-only view of a single element."""
    return np.broadcast_to(compact(np.asarray(number)), shape)


def sliding_size(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """(H', W') of a convolution or pool, as PyTorch defines it.

    Raises:
        Refusal: the padded input is smaller than the kernel.
    """
    out = [
        (size[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis in range(2)
    ]
    if min(out) < 1:
        raise Refusal(f"its input of {size[0]}x{size[1]} pixels is smaller than its window")
    return out[0], out[1]


def conv2d(
    weight: Array,
    bias: Array | None,
    input_size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] | str = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> nir.Conv2d:
    """A ``nir.Conv2d`` that states its true types.

    Args:
        weight: (O, I / groups, kh, kw).
        bias: (O,); None for zeros, since NIR cannot store a missing bias.
        input_size: (H, W).
        stride, dilation, groups: as in PyTorch.
        padding: likewise; ``same`` only where the two sides differ, at stride 1.

    Raises:
        Refusal: the input is smaller than the kernel.
    """
    node = nir.Conv2d(
        input_shape=input_size,  # stock nir.read insists on it
        weight=weight,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=np.broadcast_to(np.float32(0), weight.shape[:1]) if bias is None else bias,
    )
    outputs, inputs, height, width = weight.shape
    size = input_size
    if not isinstance(padding, str):
        size = sliding_size(input_size, (height, width), stride, padding, dilation)
    # nir 1.0.8 infers wrong types from input_shape for grouped and for non-square convolutions
    node.input_type = {"input": np.array((inputs * groups, *input_size))}
    node.output_type = {"output": np.array((outputs, *size))}
    return node


@dataclass
class Builder:
    """Collects nodes and edges.

    Attributes:
        time_steps: T that neurons with memory must agree on; None until the first one says so.
        nodes: so far, in the order of creation.
        edges: so far; the in-edges of a node are in the order in which they are summed.
        neurons: per neuron layer, segments of levels of node names.
    """

    time_steps: int | None = None
    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    neurons: dict[str, list[list[str]]] = field(default_factory=dict)
    _groups: set[str] = field(default_factory=set)
    _joined: dict[tuple[Segment, ...], Segment] = field(default_factory=dict)

    def unique(self, path: str) -> str:
        """A name for the nodes of one call of a module or function: its path, numbered from the second call on.

        Slashes become underscores, since HDF5 takes them for separators.
        """
        path = path.replace("/", "_")
        name, number = path, 1
        while name in self._groups:
            number += 1
            name = f"{path}_{number}"
        self._groups.add(name)
        return name

    def add(self, name: str, node: nir.NIRNode, inputs: Sequence[str]) -> str:
        """Add a node that reads the sum of ``inputs``; returns its name."""
        if name in self.nodes:
            raise ValueError(f"two nodes would be called {name!r}")
        self.nodes[name] = node
        self.edges += [(source, name) for source in inputs]
        return name

    def scaled(self, name: str, segment: Segment, factor: float) -> Segment:
        """The sum of a segment times a number, as one node."""
        node = nir.Scale(constant(factor, segment.shape))
        return Segment((self.add(name, node, segment.nodes),), segment.shape)

    def convolved(
        self, name: str, segment: Segment, weight: Array, bias: Array | None = None, **options: Any
    ) -> Segment:
        """A segment through one convolution; arguments as :func:`conv2d`, None becomes a bias of zeros.

        Raises:
            Refusal: the input is smaller than the kernel.
        """
        node = conv2d(weight, bias, segment.shape[1:], **options)
        channels, height, width = node.output_type["output"].tolist()
        return Segment((self.add(name, node, segment.nodes),), (channels, height, width))

    def plus(self, name: str, first: Value, second: Value) -> Value:
        """The sum of two values of one shape, segment by segment where their segments match, else as one segment each.

        Raises:
            Refusal: different shapes.
        """
        if first.shape != second.shape:
            raise Refusal(f"it adds tensors of different shapes, {first.shape} and {second.shape}")
        if [s.shape for s in first.segments] != [s.shape for s in second.segments]:
            first = Value((self.joined(f"{name}.first", first),))
            second = Value((self.joined(f"{name}.second", second),))
        pairs = zip(first.named(name), second.segments, strict=True)
        return Value(tuple(self._plus(inner, a, b) for (inner, a), b in pairs))

    def _plus(self, name: str, first: Segment, second: Segment) -> Segment:
        """Sums flatten left to right with the longer one first, which adds up exactly as the module does.

        Where both are sums, the shorter is first made one node. No node may feed another twice, so what occurs on both
        sides is copied, and x + x is 2 x.
        """
        if first.nodes == second.nodes:
            return self.scaled(name, first, 2.0)
        longer, shorter = (second, first) if len(second.nodes) > len(first.nodes) else (first, second)
        if len(shorter.nodes) > 1 or set(shorter.nodes) & set(longer.nodes):
            shorter = self.scaled(name, shorter, 1.0)
        return Segment(longer.nodes + shorter.nodes, longer.shape)

    def joined(self, name: str, value: Value) -> Segment:
        """A value as one segment: concatenation becomes a sum of one-hot 1x1 convolutions, which is exact.

        A value that was joined before is not joined twice.
        """
        if len(value.segments) == 1:
            return value.segments[0]
        if value.segments not in self._joined:
            names: list[str] = []
            offset = 0
            for inner, segment in value.named(name):
                count = segment.shape[0]
                weight = np.zeros((value.channels, count, 1, 1), np.float32)
                weight[offset + np.arange(count), np.arange(count)] = 1.0
                names += self.convolved(inner, segment, weight).nodes
                offset += count
            self._joined[value.segments] = Segment(tuple(names), value.shape)
        return self._joined[value.segments]
