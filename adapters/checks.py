"""What all runnables ask of inputs before they compute anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from zoo.errors import InvalidInputError
from zoo.nir_graphs.graph import FlatGraph


def not_run(graph: FlatGraph, kinds: Collection[type], backend: str) -> list[str]:
    """One sentence for each node of another type than those that a backend runs."""
    return [
        f"node {name!r} is a {node.kind}, which the backend {backend} does not run"
        for name, node in graph.nodes.items()
        if node.type not in kinds
    ]


def given_inputs(graph: FlatGraph, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensor (T, B, ...) for each Input node.

    Raises:
        InvalidInputError: a missing or unknown input, a shape that does not fit, or numbers that are not finite.
    """
    given = dict(x) if isinstance(x, Mapping) else {graph.inputs[0]: x}
    check_shapes(graph, {name: tuple(value.shape) for name, value in given.items()})
    if not all(bool(value.isfinite().all()) for value in given.values() if not value.is_meta):
        raise InvalidInputError("the input contains NaN or infinity")
    return given


def check_shapes(graph: FlatGraph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Require one input (T, B, ...) for each Input node, all with the same T and B.

    Raises:
        InvalidInputError: a missing or unknown input, or a shape that does not fit.
    """
    if set(shapes) != set(graph.inputs):
        raise InvalidInputError(f"the graph has the inputs {', '.join(graph.inputs)}, got {', '.join(shapes)}")
    for name, shape in shapes.items():
        expected = graph.nodes[name].shape
        if shape[2:] != expected or 0 in shape:
            sizes = ", ".join(str(n) for n in ("T", "B", *expected))
            raise InvalidInputError(f"input {name!r} must have the shape ({sizes}), got {shape}")
    if len({shape[:2] for shape in shapes.values()}) > 1:
        raise InvalidInputError("all inputs must have the same number of time steps and the same batch size")


def check_type(dtype: torch.dtype) -> None:
    """Raise InvalidInputError for another type than float32 or float64."""
    if dtype not in {torch.float32, torch.float64}:
        raise InvalidInputError(f"graphs run in float32 or float64, not in {dtype}")
