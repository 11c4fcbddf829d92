"""From a name to a detector: the snnTorch form from config and weights, every other backend from config and graph."""

from __future__ import annotations

from pathlib import Path

import torch

from zoo.detectors.detector import Detector
from zoo.detectors.graph import GraphDetector
from zoo.errors import InvalidInputError
from zoo.hub.sources import resolve
from zoo.loading.graph import load_graph
from zoo.loading.module import load_module


def load(
    name_or_path: str | Path,
    *,
    backend: str = "snntorch",
    revision: str | None = None,
    device: str = "cpu",
    dtype: str | torch.dtype | None = None,
    trainable: bool = False,
) -> Detector | GraphDetector:
    """Load a trained detector; see :func:`zoo.load` for arguments and errors."""
    source = resolve(name_or_path, revision=revision)
    if backend == "snntorch":
        return load_module(source, device=device, dtype=dtype, trainable=trainable)
    if trainable:
        raise InvalidInputError(f"trainable=True needs backend='snntorch', got backend={backend!r}")
    return load_graph(source, backend, device=device, dtype=dtype)


def load_trainable(name_or_path: str | Path) -> Detector:
    """The form before batch norms were folded, for fine-tuning, quantisation and conversion; see :func:`zoo.load`."""
    return load_module(resolve(name_or_path), trainable=True)


__all__ = ["load", "load_graph", "load_module", "load_trainable"]
