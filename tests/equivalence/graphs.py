"""Graphs for the tests of backends: a small builder, and random graphs over every node type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from zoo.nir_graphs import metadata

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
SPIKING_KINDS = ("LIF", "IF", "CubaLIF", "Threshold")


def full(value: float, shape: Shape) -> Array:
    """One number as an array."""
    return np.full(shape, float(value))


class Sketch:
    """Collects nodes and edges.

    Args:
        rng: for random parameters.
        dyadic: whether weights are multiples of 1/8 and time constants 1 or 2: then sums are exact, and ties common.
    """

    def __init__(self, rng: np.random.Generator, *, dyadic: bool = False) -> None:
        self.rng, self.dyadic = rng, dyadic
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, Shape] = {}

    def add(self, node: nir.NIRNode, inputs: Sequence[str], shape: Shape, name: str | None = None) -> str:
        """Add a node; by default its name is its type and a number."""
        name = name or f"{type(node).__name__}.{len(self.nodes)}"
        self.nodes[name] = node
        self.edges += [(source, name) for source in inputs]
        self.shapes[name] = tuple(shape)
        return name

    def like(self, node: nir.NIRNode, inputs: Sequence[str], name: str | None = None) -> str:
        """Add a node that keeps the shape of its inputs."""
        return self.add(node, inputs, self.shapes[inputs[0]], name)

    def weights(self, *shape: int, gain: float = 1.6) -> Array:
        """Random weights that keep a network lively."""
        values = self.rng.normal(0.05, gain / np.sqrt(np.prod(shape[1:]) or 1), shape)
        return np.round(values * 8) / 8 if self.dyadic else values

    def numbers(self, low: float, high: float, shape: Shape, *, kind: int | None = None) -> Array:
        """Parameters of a neuron: one number, one per channel, or one per element."""
        kind = int(self.rng.integers(3)) if kind is None else kind
        sizes: Shape = {0: (), 1: (shape[0], *[1] * (len(shape) - 1)), 2: shape}[kind]
        values = self.rng.uniform(low, high, sizes)
        if self.dyadic:
            values = np.round(values * 4) / 4
        return np.array(np.broadcast_to(values, shape))

    def time_constants(self, low: float, high: float, shape: Shape) -> Array:
        """Of a neuron; 1 or 2 where dyadic, so that decays are exact: else rounding, which differs from processor to processor,
        decides ties with thresholds.
        """
        values = self.numbers(low, high, shape)
        return np.where(values < np.sqrt(low * high), 1.0, 2.0) if self.dyadic else values

    def neuron(self, kind: str, shape: Shape) -> nir.NIRNode:
        """A random neuron: gains, leaks, resets and time constants of all sorts."""
        tau = self.time_constants(1.25, 6.0, shape)
        r = self.numbers(0.75, 2.0, shape)
        v_leak = self.numbers(-0.5, 0.5, shape) if self.rng.random() < 0.4 else full(0, shape)
        threshold = self.numbers(0.25, 1.0, shape)
        reset = self.numbers(-0.5, 0.25, shape) if self.rng.random() < 0.4 else full(0, shape)
        tau_syn = self.time_constants(1.25, 4.0, shape)
        makers: dict[str, Any] = {
            "LIF": lambda: nir.LIF(tau=tau, r=r, v_leak=v_leak, v_threshold=threshold, v_reset=reset),
            "IF": lambda: nir.IF(r=r, v_threshold=threshold, v_reset=reset),
            "LI": lambda: nir.LI(tau=tau, r=r, v_leak=v_leak),
            "I": lambda: nir.I(r=r * (0.125 if self.dyadic else 0.1)),
            "CubaLIF": lambda: nir.CubaLIF(
                tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=v_leak, v_threshold=threshold, v_reset=reset, w_in=r
            ),
            "CubaLI": lambda: nir.CubaLI(tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=v_leak, w_in=r),
            "Threshold": lambda: nir.Threshold(threshold),
        }
        return makers[kind]()

    def conv(self, inputs: Sequence[str], channels: int, kernel: tuple[int, int] = (3, 3), **options: Any) -> str:
        """A 2-D convolution."""
        before = self.shapes[inputs[0]]
        groups = options.get("groups", 1)
        settings = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": groups, **options}
        weight = self.weights(channels, before[0] // groups, *kernel)
        node = nir.Conv2d(input_shape=None, weight=weight, bias=self.weights(channels, 4), **settings)
        if node.bias.ndim > 1:
            node.bias = node.bias[:, 0]
        if settings["padding"] == "same":
            size: Shape = before[1:]
        else:
            padding, stride, dilation = (settings[k] for k in ("padding", "stride", "dilation"))
            size = tuple(
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, p, s, d, k in zip(before[1:], padding, stride, dilation, kernel, strict=True)
            )
        return self.add(node, inputs, (channels, *size))

    def bank(self, inputs: Sequence[str], levels: int = 4, first: float = 0.5) -> list[str]:
        """Thresholds first, first + 1, ... on one sum."""
        shape = self.shapes[inputs[0]]
        return [self.like(nir.Threshold(full(first + k, shape)), inputs) for k in range(levels)]

    def soft_reset(self, inputs: Sequence[str], levels: int, decay: float, *, theta: float = 1.0) -> list[str]:
        """The canonical loop of DESIGN.md section 3; returns its levels."""
        shape = self.shapes[inputs[0]]
        u = self.like(nir.Scale(full(1, shape)), inputs)
        spikes = [self.like(nir.Threshold(full(theta * (k + 0.5), shape)), [u]) for k in range(levels)]
        resets = [self.like(nir.Scale(full(-theta, shape)), [spike]) for spike in spikes]
        delay = self.like(nir.Delay(full(1, shape)), [u, *resets])
        back = self.like(nir.Scale(full(decay, shape)), [delay])
        self.edges.append((back, u))
        return spikes

    def output(self, inputs: Sequence[str], name: str) -> str:
        """An Output node."""
        shape = self.shapes[inputs[0]]
        return self.add(nir.Output({"output": np.array(shape)}), inputs, shape, name)

    def graph(self, *, shuffled: bool = False) -> nir.NIRGraph:
        """The graph with dt = 1, with its edges in the order of creation or shuffled."""
        edges = list(self.edges)
        if shuffled:
            edges = [edges[i] for i in self.rng.permutation(len(edges))]
        return metadata.put(nir.NIRGraph(self.nodes, edges, type_check=False), metadata.GraphInfo(dt=1.0))


def start(shape: Shape, seed: int = 0, *, dyadic: bool = False) -> Sketch:
    """A sketch with the Input node ``input``."""
    sketch = Sketch(np.random.default_rng(seed), dyadic=dyadic)
    sketch.add(nir.Input({"input": np.array(shape)}), [], shape, "input")
    return sketch


def random_graph(seed: int, *, dyadic: bool = False) -> nir.NIRGraph:
    """A random network with every kind of node but Conv1d: diamonds, fan-in, feedback, pools, banks, several outputs."""
    sketch = start((2, 7, 6), seed, dyadic=dyadic)
    rng = sketch.rng
    spikes = [sketch.like(sketch.neuron("LIF", (2, 7, 6)), ["input"])]
    kinds = list(rng.permutation([*SPIKING_KINDS, "LI", "I", "CubaLI"]))
    for index in range(7):
        inputs = _fan_in(sketch, spikes)
        current = sketch.conv(inputs, int(rng.choice([2, 4])), **_conv_options(rng, sketch.shapes[inputs[0]]))
        added = [current, *_fan_in(sketch, [n for n in sketch.nodes if sketch.shapes[n] == sketch.shapes[current]])]
        added = list(dict.fromkeys(added))
        spikes.append(sketch.like(sketch.neuron(kinds[index], sketch.shapes[current]), added))
        if index == 2:
            spikes += sketch.bank([current], levels=3)
        if index == 4:
            spikes += sketch.soft_reset([spikes[-1], current], levels=2, decay=0.25)
    spikes.append(_feedback(sketch, spikes[0]))
    spikes.append(_pooled(sketch, spikes[-1]))
    spikes.append(sketch.like(nir.Delay(1.0 + rng.integers(0, 3, sketch.shapes[spikes[-1]])), [spikes[-1]]))
    shape = sketch.shapes[spikes[-1]]
    sketch.output([sketch.like(nir.Scale(sketch.numbers(0.5, 2, shape)), [spikes[-1]])], "out")
    flat = sketch.add(nir.Flatten({"input": np.array(shape)}, 0, -1), [spikes[-1]], (int(np.prod(shape)),))
    affine = sketch.add(nir.Affine(sketch.weights(5, int(np.prod(shape))), sketch.weights(5)), [flat], (5,))
    hidden = sketch.like(sketch.neuron("LIF", (5,)), [affine])
    linear = sketch.add(nir.Linear(sketch.weights(3, 5)), [hidden], (3,))
    sketch.output([sketch.like(sketch.neuron("LI", (3,)), [linear])], "decision")
    return sketch.graph(shuffled=True)


def _fan_in(sketch: Sketch, names: Sequence[str]) -> list[str]:
    """Up to three nodes of one shape, in any order."""
    first = names[int(sketch.rng.integers(len(names)))]
    same = [name for name in names if sketch.shapes[name] == sketch.shapes[first] and name != first]
    count = int(sketch.rng.integers(0, 3))
    return [first, *[str(name) for name in sketch.rng.permutation(same)[:count]]] if same else [first]


def _conv_options(rng: np.random.Generator, shape: Shape) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [
        {"kernel": (3, 3), "padding": (1, 1)},
        {"kernel": (1, 1)},
        {"kernel": (3, 3), "padding": "same", "dilation": (2, 1)},
        {"kernel": (1, 2), "padding": "same"},
        {"kernel": (3, 3), "padding": (1, 1), "groups": 2},
        {"kernel": (1, 5), "padding": (0, 2)},
    ]
    if min(shape[1:]) > 5:
        choices.append({"kernel": (3, 2), "padding": (1, 1), "stride": (1, 2)})
    return choices[int(rng.integers(len(choices)))]


def _feedback(sketch: Sketch, source: str) -> str:
    """A LIF that excites its neighbours one step later."""
    shape = sketch.shapes[source]
    name = sketch.like(sketch.neuron("LIF", shape), [source])
    back = sketch.conv([sketch.like(nir.Delay(full(1, shape)), [name])], shape[0], padding=(1, 1))
    sketch.edges.append((back, name))
    return name


def _pooled(sketch: Sketch, source: str) -> str:
    """Pools of both kinds, and a max-pool of spikes."""
    shape = sketch.shapes[source]
    size = ((shape[1] - 1) // 2 + 1, (shape[2] - 1) // 2 + 1)
    window = (np.array([3, 3]), np.array([2, 2]), np.array([1, 1]))
    summed = sketch.add(nir.SumPool2d(*window), [source], (shape[0], *size))
    mean = sketch.add(nir.AvgPool2d(*window), [source], (shape[0], *size))
    top = sketch.like(nir.Threshold(full(0.5, sketch.shapes[summed])), [summed])
    return sketch.like(nir.Threshold(full(0.75, sketch.shapes[top])), [top, mean])
