"""What the rooms above may ask of any layer: how it becomes deployed, and how a neuron goes on where it stopped.

They are asked structurally (``isinstance`` looks for the methods), so that a new layer touches no list, and this file knows no
framework.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Folds(Protocol):
    """A module with batch norms to fold."""

    def fuse_(self, *, merge: bool) -> None:
        """Replace batch norms by what they do to the convolutions before them, in place, computed in float64.

        Args:
            merge: also make re-parameterised convolutions into one dense convolution each.
        """
        ...


@runtime_checkable
class Neuron(Protocol):
    """A spiking neuron on folded tensors (T*B, C, H, W).

    Attributes:
        thresholds: (levels,) for all channels, or (levels, C).
        time_steps: T, by which the folded first dimension is unfolded.
    """

    thresholds: Tensor
    time_steps: int

    def freeze(self, dtype: torch.dtype) -> None:
        """Compare with stored thresholds from now on, the very numbers of ``dtype`` that an exported graph holds."""
        ...

    def forward(self, current: Tensor) -> Tensor:
        """Input current (T*B, C, H, W) -> spikes, same shape."""
        ...


@runtime_checkable
class ContinuingNeuron(Neuron, Protocol):
    """A neuron that can start from the potential at which it stopped.

    Attributes:
        carries: whether the next call starts from ``carry``, and stores there where it stopped.
        carry: potential (B, C, H, W); None for rest.
    """

    carries: bool
    carry: Tensor | None
