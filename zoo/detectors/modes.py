"""Eval mode for the length of a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(detector: object) -> Iterator[None]:
    """Eval mode inside, and the mode of every module as it was afterwards; nothing where the detector is no module.

    Batch norms in train mode would compute with the statistics of the batch and update their running ones.
    """
    modules = list(detector.modules()) if isinstance(detector, nn.Module) else []
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
