"""Pooling of spikes."""

from __future__ import annotations

from torch import nn


class SpikeMaxPool2d(nn.MaxPool2d):
    """Max-pool of spike counts: (N, C, H, W) -> (N, C, H', W').

    A type of its own because it states that the input is spikes. That makes it expressible in NIR: level k of the pooled
    count is ``[sum of the window's level-k spikes > 0.5]``, whereas a max-pool of real values has no NIR form.

    Args:
        kernel_size: window size.
        stride: by default 1.
        padding: by default half the window, which keeps the size at stride 1.
    """

    def __init__(self, kernel_size: int, stride: int = 1, padding: int | None = None) -> None:
        super().__init__(kernel_size, stride, kernel_size // 2 if padding is None else padding)
