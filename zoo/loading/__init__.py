"""From a name to a detector: the snnTorch form from config and weights, every other backend from config and graph."""

from __future__ import annotations

from pathlib import Path

from zoo.detectors.detector import Detector
from zoo.hub.sources import resolve
from zoo.loading.graph import load_graph
from zoo.loading.module import load_module


def load_trainable(name_or_path: str | Path) -> Detector:
    """The form before batch norms were folded, for fine-tuning, quantisation and conversion; see :func:`zoo.load`."""
    return load_module(resolve(name_or_path), trainable=True)


__all__ = ["load_graph", "load_module", "load_trainable", "resolve"]
