"""What all runnables ask of inputs before they compute anything."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.errors import InvalidInputError
from zoo.nir_graphs.graph import FlatGraph


def given_inputs(graph: FlatGraph, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensor (T, B, ...) for each Input node.

    Raises:
        InvalidInputError: a missing or unknown input, a shape that does not fit, or numbers that are not finite.
    """
    given = dict(x) if isinstance(x, Mapping) else {graph.inputs[0]: x}
    if set(given) != set(graph.inputs):
        raise InvalidInputError(f"the graph has the inputs {', '.join(graph.inputs)}, got {', '.join(given)}")
    for name, value in given.items():
        expected = graph.nodes[name].shape
        if tuple(value.shape[2:]) != expected or value.numel() == 0:
            sizes = ", ".join(str(n) for n in ("T", "B", *expected))
            raise InvalidInputError(f"input {name!r} must have the shape ({sizes}), got {tuple(value.shape)}")
    if len({value.shape[:2] for value in given.values()}) > 1:
        raise InvalidInputError("all inputs must have the same number of time steps and the same batch size")
    if not all(bool(value.isfinite().all()) for value in given.values() if not value.is_meta):
        raise InvalidInputError("the input contains NaN or infinity")
    return given


def check_type(dtype: torch.dtype) -> None:
    """Raise InvalidInputError for another type than float32 or float64."""
    if dtype not in {torch.float32, torch.float64}:
        raise InvalidInputError(f"graphs run in float32 or float64, not in {dtype}")
