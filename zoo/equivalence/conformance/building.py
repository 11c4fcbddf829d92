"""What conformance cases are made of: nodes, small graphs and inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Shape = tuple[int, ...]
STEPS, BATCH = 16, 16
N: Shape = (8,)
MAP: Shape = (4, 6, 6)


@dataclass(frozen=True)
class Case:
    """A graph and what it is fed.

    Attributes:
        name: unique.
        group: row of the table: a node type, or what is wired.
        make: the graph, and the input (T, B, ...) of each Input node or of the only one.
        dt: length of a step in the graph's unit of time.
        recorded: spikes (T, B, ...) that somebody else recorded, if any.
        stock: whether stock importers are asked, too.
    """

    name: str
    group: str
    make: Callable[[], tuple[nir.NIRGraph, Any]]
    dt: float = 1.0
    recorded: Callable[[], Array] | None = None
    stock: bool = True


def full(value: float, shape: Shape) -> Array:
    """One number as an array."""
    return np.full(shape, float(value))


class Builder:
    """Collects nodes and edges, starting with the Input node ``input``."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shape)})}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, Shape] = {"input": shape}

    def add(self, name: str, node: nir.NIRNode, sources: Sequence[str], shape: Shape | None = None) -> str:
        """Add a node; by default it keeps the shape of its first source."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        self.shapes[name] = self.shapes[sources[0]] if shape is None else shape
        return name

    def output(self, source: str, *more: str, name: str = "output") -> str:
        """Add an Output node."""
        node = nir.Output({"output": np.array(self.shapes[source])})
        return self.add(name, node, [source, *more])

    def graph(self) -> nir.NIRGraph:
        """The graph."""
        return nir.NIRGraph(self.nodes, self.edges, type_check=False)


def chain(shape: Shape, *layers: tuple[str, Any, Shape | None]) -> nir.NIRGraph:
    """Input, the layers (name, node, shape) one after another, Output."""
    builder, last = Builder(shape), "input"
    for name, node, out in layers:
        last = builder.add(name, node, [last], out)
    builder.output(last)
    return builder.graph()


def grid(shape: Shape, *, seed: int = 0, low: int = -6, high: int = 15, steps: int = STEPS) -> Array:
    """Quarters (T, B, ...): ties with thresholds are common."""
    return np.random.default_rng(seed).integers(low, high, (steps, BATCH, *shape)) / 4


def spikes(shape: Shape, *, seed: int = 0, rate: float = 0.3, steps: int = STEPS) -> Array:
    """Binary spikes (T, B, ...)."""
    return (np.random.default_rng(seed).random((steps, BATCH, *shape)) < rate).astype(np.float64)


def weights(*shape: int, seed: int = 0) -> Array:
    """Eighths in -1..1."""
    return np.random.default_rng(seed).integers(-8, 9, shape) / 8


def fields(shape: Shape, **values: float | Array) -> dict[str, Array]:
    """Parameters of a node as arrays of one shape."""
    return {name: np.array(np.broadcast_to(value, shape), float) for name, value in values.items()}


def lif(shape: Shape = N, **values: float | Array) -> nir.LIF:
    """A LIF with tau = 2 and threshold 1, apart from ``values``."""
    given = {"tau": 2.0, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **values}
    return nir.LIF(**fields(shape, **given))


def integrate(shape: Shape = N, **values: float | Array) -> nir.IF:
    """An IF with threshold 2, apart from ``values``."""
    return nir.IF(**fields(shape, **{"r": 1.0, "v_threshold": 2.0, "v_reset": 0.0, **values}))


def conv2d(out: int, inn: int, kernel: tuple[int, int] = (3, 3), **options: Any) -> nir.Conv2d:
    """A Conv2d with padding 1 and stride 1, apart from ``options``."""
    groups = options.get("groups", 1)
    settings = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, **options}
    return nir.Conv2d(
        input_shape=(6, 6), weight=weights(out, inn // groups, *kernel), bias=weights(out, seed=1), **settings
    )


def conv1d(**options: Any) -> nir.Conv1d:
    """A Conv1d of 4 to 4 channels over 12 places, with padding 1 and stride 1 apart from ``options``."""
    groups = options.get("groups", 1)
    settings = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, **options}
    return nir.Conv1d(input_shape=12, weight=weights(4, 4 // groups, 3), bias=weights(4, seed=1), **settings)


def pool(kind: type, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> nir.NIRNode:
    """A pool."""
    node: nir.NIRNode = kind(*(np.array(value) for value in (kernel, stride, padding)))
    return node
