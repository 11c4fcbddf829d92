"""Small graphs for conformance cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Shape = tuple[int, ...]
STEPS, BATCH = 16, 16


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
