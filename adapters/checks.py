"""What all runnables ask of graphs and inputs before they compute anything."""

from __future__ import annotations

from collections.abc import Mapping

import nir
import torch
from torch import Tensor

from zoo.adapters.membranes import NEURONS
from zoo.adapters.ops import LAYERS
from zoo.errors import InvalidInputError

KNOWN = frozenset({nir.Input, nir.Threshold, nir.Delay, *LAYERS, *NEURONS})
"""Node types with a discrete-time meaning."""


def unknown_nodes(graph: nir.NIRGraph) -> list[str]:
    """One sentence for each node without a discrete-time meaning."""
    reasons = []
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            reasons.append(f"node {name!r} is a subgraph; zoo.import_nir flattens it")
        elif type(node) not in KNOWN:
            reasons.append(f"node {name!r} is a {type(node).__name__}, which has no discrete-time meaning")
    return reasons


def nodes_of(graph: nir.NIRGraph, kind: type) -> list[str]:
    """Names of the nodes of a type."""
    return [name for name, node in graph.nodes.items() if isinstance(node, kind)]


def given_inputs(graph: nir.NIRGraph, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensor (T, B, ...) for each Input node.

    Raises:
        InvalidInputError: a missing or unknown input, a shape that does not fit, or numbers that are not finite.
    """
    names = nodes_of(graph, nir.Input)
    given = dict(x) if isinstance(x, Mapping) else {names[0]: x}
    if set(given) != set(names):
        raise InvalidInputError(f"the graph has the inputs {', '.join(names)}, got {', '.join(given)}")
    for name, value in given.items():
        expected = tuple(int(n) for n in graph.nodes[name].input_type["input"])
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


def check_dt(dt: float) -> None:
    """Raise InvalidInputError for a step that is not positive."""
    if not dt > 0:
        raise InvalidInputError(f"dt must be positive, got {dt}")
