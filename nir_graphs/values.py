"""Fan-in algebra: what a traced tensor is in terms of graph nodes.

A traced tensor is a concatenation, along channels, of sums of nodes. NIR sums the in-edges of a node, so residual additions,
integer spikes (sums of binary levels) and concatenations in front of convolutions need no nodes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Segment:
    """A sum of nodes, all of one shape.

    Attributes:
        nodes: names, in the order in which they are added up.
        shape: (C, H, W).
        is_thermometer: the nodes are the binary levels 1..D of integer spikes, a higher one never on without the lower.
    """

    nodes: tuple[str, ...]
    shape: Shape
    is_thermometer: bool = False


Value = tuple[Segment, ...]
"""Channel segments, first to last."""


def channels(value: Value) -> int:
    """Channels of all segments together."""
    return sum(segment.shape[0] for segment in value)


def spatial(value: Value) -> tuple[int, int]:
    """(H, W), the same in all segments."""
    return value[0].shape[1:]


def constant(number: float | npt.NDArray[Any], shape: Shape, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """One number as an array of ``shape`` that takes no memory."""
    return np.broadcast_to(np.asarray(number, dtype), shape)


@dataclass
class Builder:
    """Collects nodes and edges.

    Attributes:
        nodes: so far, in the order of creation.
        edges: so far; the in-edges of a node are in the order in which they are summed.
        neurons: per neuron layer, segments of levels of node names.
    """

    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    neurons: dict[str, list[list[str]]] = field(default_factory=dict)

    def unique(self, name: str) -> str:
        """``name``, or with a number behind it where a node (or a group of nodes) has that name already."""
        taken, number = name, 1
        while taken in self.nodes or any(other.startswith(taken + ".") for other in self.nodes):
            number += 1
            taken = f"{name}_{number}"
        return taken

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

    def plus(self, first: Segment, second: Segment, name: str) -> Segment:
        """The sum of two segments.

        Sums flatten left to right with the longer one first, which adds up exactly as the module does; where both are
        sums, the second is first made one node. No node may feed another twice, so what occurs twice is copied.
        """
        if first.shape != second.shape:
            raise ValueError(f"cannot add shapes {first.shape} and {second.shape}")
        longer, shorter = (second, first) if len(second.nodes) > len(first.nodes) else (first, second)
        if first.nodes == second.nodes:
            return self.scaled(self.unique(name), first, 2.0)
        if len(shorter.nodes) > 1 or set(shorter.nodes) & set(longer.nodes):
            shorter = self.scaled(self.unique(name), shorter, 1.0)
        return replace(longer, nodes=longer.nodes + shorter.nodes, is_thermometer=False)

    def single(self, value: Value, name: str) -> Segment:
        """A value as one segment: concatenation becomes a sum of one-hot 1x1 convolutions, which is exact."""
        if len(value) == 1:
            return value[0]
        total, (height, width) = channels(value), spatial(value)
        names, offset = [], 0
        for index, segment in enumerate(value):
            count = segment.shape[0]
            weight = np.zeros((total, count, 1, 1), np.float32)
            weight[offset + np.arange(count), np.arange(count)] = 1.0
            node = conv2d(weight, np.zeros(total, np.float32), (height, width))
            names.append(self.add(f"{name}.place{index}", node, segment.nodes))
            offset += count
        return Segment(tuple(names), (total, height, width))


def conv2d(
    weight: npt.NDArray[Any],
    bias: npt.NDArray[Any],
    input_size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] | str = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> nir.Conv2d:
    """A ``nir.Conv2d``.

    nir 1.0.8 infers wrong shapes from ``input_shape`` for grouped and for non-square convolutions, so it is stated only
    where that inference is right.
    """
    square = weight.shape[2] == weight.shape[3] and not isinstance(padding, str)
    return nir.Conv2d(
        input_shape=input_size if square and groups == 1 else None,
        weight=weight,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
