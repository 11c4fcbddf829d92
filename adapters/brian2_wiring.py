"""The synapses of each node: which neuron of its input drives which of its own, and how strongly.

Neurons are counted as indices into the flattened value of a node. The synapses follow from the equations of the nodes; nothing
is shared with the layers of the torch backends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from zoo.adapters.checks import not_run
from zoo.adapters.membranes import MEMBRANES
from zoo.errors import UnsupportedGraphError
from zoo.nir_graphs.fields import Array
from zoo.nir_graphs.graph import FlatGraph, FlatNode

MAX_NEURONS, MAX_SYNAPSES = 4_000, 200_000


class _TooLargeError(Exception):
    """A node has more synapses than Brian2 can be asked for; the caller adds the node's name."""


@dataclass(frozen=True)
class Synapses:
    """One synapse per weight that is not zero, and what is done with their sum.

    Attributes:
        pre, post: neurons (synapses,).
        weight: of each (synapses,).
        bias: added to the sum (outputs,), if there is one.
        divisor: by which the sum is divided.
    """

    pre: Array
    post: Array
    weight: Array
    bias: Array | None = None
    divisor: float = 1.0


@dataclass(frozen=True)
class Station:
    """A neuron group and what drives it.

    Attributes:
        name: of the group; that of its node, unless it sums the inputs of one.
        node: to which it belongs.
        sources: stations whose values it gets.
        synapses: from each source to the group, all alike.
        sums: whether it only sums what its node gets.
    """

    name: str
    node: FlatNode
    sources: tuple[str, ...]
    synapses: Synapses
    sums: bool = False

    @property
    def size(self) -> int:
        """Neurons of one copy."""
        return math.prod(self.node.input_shape if self.sums else self.node.shape)

    @property
    def synapse_count(self) -> int:
        """Synapses of one copy."""
        return len(self.synapses.pre) * len(self.sources)


def stations(graph: FlatGraph) -> list[Station]:
    """All groups, in the order in which they run within a step.

    Raises:
        UnsupportedGraphError: more neurons or synapses than Brian2 can be asked for, or a node type without synapses here.
    """
    if reasons := not_run(graph, {*ONE_TO_ONE, *LISTED}, "brian2"):
        raise UnsupportedGraphError("brian2", reasons)
    made: list[Station] = []
    neurons = count = 0
    for name in graph.order:
        try:
            added = _stations_of(graph.nodes[name], graph.sources[name])
            neurons += sum(station.size for station in added)
            count += sum(station.synapse_count for station in added)
            _require_total(neurons, count)
        except _TooLargeError as error:
            raise UnsupportedGraphError("brian2", [f"node {name!r} {error}: too large for explicit synapses"]) from None
        made += added
    return made


def _require_total(neurons: int, count: int) -> None:
    if neurons > 10 * MAX_NEURONS or count > MAX_SYNAPSES:
        most = f"{10 * MAX_NEURONS} and {MAX_SYNAPSES}"
        raise _TooLargeError(f"brings the graph to {neurons} neurons and {count} synapses, more than {most}")


def _stations_of(node: FlatNode, sources: tuple[str, ...]) -> list[Station]:
    """The group of a node, and in front of it one that sums, where weights act on a sum."""
    wires = synapses(node)
    if len(sources) < 2 or node.type in ONE_TO_ONE:
        return [Station(node.name, node, sources, wires)]
    before = f"{node.name}\0sum"  # no node of a file has such a name
    summing = Station(before, node, sources, one_to_one(math.prod(node.input_shape)), sums=True)
    return [summing, Station(node.name, node, (before,), wires)]


def one_to_one(size: int) -> Synapses:
    """Every neuron drives its own counterpart."""
    each = np.arange(size)
    return Synapses(each, each, np.ones(size))


def synapses(node: FlatNode) -> Synapses:
    """The synapses from the sum of a node's inputs to the node.

    Raises:
        _TooLargeError: more than ``MAX_NEURONS`` neurons on either side, or more than ``MAX_SYNAPSES`` synapses.
    """
    if node.type in ONE_TO_ONE:
        return one_to_one(math.prod(node.shape))
    before, after = math.prod(node.input_shape), math.prod(node.shape)
    if max(before, after) > MAX_NEURONS:
        raise _TooLargeError(f"connects {before} with {after} neurons, more than {MAX_NEURONS}")
    return LISTED[node.type](node)


def _scale(node: FlatNode) -> Synapses:
    weight = node.full("scale").ravel()
    (kept,) = weight.nonzero()
    return Synapses(kept, kept, weight[kept])


def _dense(node: FlatNode) -> Synapses:
    """The matrix, once for each place along the axes in front of the last."""
    weight: Array = node["weight"]
    places = math.prod(node.input_shape[:-1])
    post, pre = weight.nonzero()
    _require_few(places * len(pre))
    copies = np.arange(places)[:, None]
    rows, columns = weight.shape
    bias = np.tile(node["bias"], places) if node.type is nir.Affine else None
    return Synapses(
        (copies * columns + pre).ravel(), (copies * rows + post).ravel(), np.tile(weight[post, pre], places), bias
    )


def _convolution(node: FlatNode) -> Synapses:
    weight: Array = node["weight"]
    inner, groups = weight.shape[1], node["groups"]
    taps = []
    for tap, (before, after) in _taps(node, weight.shape[2:], node["dilation"]):
        here: Any = (..., *tap)
        outputs, inputs = weight[here].nonzero()
        channel = outputs // (len(weight) // groups) * inner + inputs
        strength = weight[here][outputs, inputs]
        taps.append((before[channel], after[outputs], strength[:, None]))
        _require_few(sum(part[0].size for part in taps))
    spread = np.broadcast_to(node["bias"].reshape(-1, *[1] * (len(node.shape) - 1)), node.shape)
    return _joined(taps, bias=spread.ravel())


def _pool(node: FlatNode) -> Synapses:
    kernel = node["kernel_size"]
    one: Array = np.ones((1, 1))
    taps = [(*places, one) for _, places in _taps(node, kernel, (1, 1))]
    _require_few(sum(part[0].size for part in taps))
    return _joined(taps, divisor=float(math.prod(kernel)) if node.type is nir.AvgPool2d else 1.0)


def _taps(
    node: FlatNode, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> Iterable[tuple[tuple[int, ...], tuple[Array, Array]]]:
    """For each tap of a window: (its place in the window, (input neurons, output neurons)), both (channels, positions).

    Positions whose tap lies in the padding are left out.
    """
    inside = np.arange(math.prod(node.input_shape)).reshape(node.input_shape)
    padded = np.pad(inside, [(0, 0), *node["padding"]], constant_values=-1).reshape(node.input_shape[0], -1)
    sizes = [n + sum(sides) for n, sides in zip(node.input_shape[1:], node["padding"], strict=True)]
    outputs = np.arange(math.prod(node.shape)).reshape(node.shape[0], -1)
    starts = np.indices(node.shape[1:]).reshape(len(kernel), -1)
    for tap in np.ndindex(*kernel):
        at = [s * p + d * k for s, p, d, k in zip(node["stride"], starts, dilation, tap, strict=True)]
        reached = padded[:, np.ravel_multi_index(at, sizes)]
        kept = reached[0] >= 0
        yield tap, (reached[:, kept], outputs[:, kept])


def _joined(taps: list[tuple[Array, Array, Array]], bias: Array | None = None, divisor: float = 1.0) -> Synapses:
    """All taps in the order of their target."""
    pre, post, weight = (
        np.concatenate([np.broadcast_to(part[which], part[0].shape).ravel() for part in taps]) for which in range(3)
    )
    order = np.lexsort((pre, post))
    return Synapses(pre[order], post[order], weight[order], bias, divisor)


def _require_few(count: int) -> None:
    if count > MAX_SYNAPSES:
        raise _TooLargeError(f"has {count} synapses, more than {MAX_SYNAPSES}")


LISTED: dict[type, Callable[[FlatNode], Synapses]] = {
    nir.Scale: _scale,
    nir.Affine: _dense,
    nir.Linear: _dense,
    nir.Conv1d: _convolution,
    nir.Conv2d: _convolution,
    nir.SumPool2d: _pool,
    nir.AvgPool2d: _pool,
}
"""Node types whose synapses are not one to one."""
ONE_TO_ONE = frozenset({nir.Input, nir.Output, nir.Flatten, nir.Threshold, nir.Delay, *MEMBRANES})
"""Node types whose neurons are driven each by its own counterpart."""
