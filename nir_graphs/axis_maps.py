"""Linear maps along one image axis as standard convolutions, exactly.

Any matrix M (H', H) along an axis is two grouped convolutions: a one-hot kernel turns the axis into channels, and a kernel of
height H' with padding H' - 1, holding M upside down, turns the channels back into H' rows. Nearest upsampling has a cheaper
form: the axis is split step by step into its prime factors, only the last factor is mapped, and the blocks are put back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class AxisConv:
    """One grouped convolution along one axis, without bias.

    Attributes:
        kernel: (outputs per group, inputs per group, taps), the same in every group.
        groups: number of groups.
        dilation, padding: along the axis.
    """

    kernel: Array
    groups: int
    dilation: int = 1
    padding: int = 0

    def weight(self, axis: int) -> Array:
        """Weight (O, I / groups, kh, kw) of the convolution along axis 0 (rows) or 1 (columns)."""
        kernel = np.tile(self.kernel, (self.groups, 1, 1))
        return np.expand_dims(kernel, 3 if axis == 0 else 2)


def axis_map(matrix: Array, channels: int) -> list[AxisConv]:
    """Any linear map along an axis: two convolutions whose composition is ``matrix`` (H', H) on every channel."""
    rows, columns = matrix.shape
    gather = np.eye(columns, dtype=matrix.dtype)[:, None, :]  # output h sees input row h
    scatter = matrix[::-1].T[None]  # tap k of input channel h is M[H' - 1 - k, h]
    return [AxisConv(gather, channels), AxisConv(np.ascontiguousarray(scatter), channels, padding=rows - 1)]


def _split(factor: int, size: int, channels: int) -> AxisConv:
    """Cut an axis of ``size`` into ``factor`` blocks, which become channels: C x size -> (C * factor) x (size / factor)."""
    return AxisConv(np.eye(factor, dtype=np.float32)[:, None, :], channels, dilation=size // factor)


def _join(factor: int, size: int, channels: int) -> AxisConv:
    """Put ``factor`` channels of ``size`` behind each other: (C * factor) x size -> C x (size * factor)."""
    kernel = np.eye(factor, dtype=np.float32)[::-1][None]
    return AxisConv(np.ascontiguousarray(kernel), channels, dilation=size, padding=(factor - 1) * size)


def prime_factors(number: int) -> list[int]:
    """Prime factors in ascending order."""
    factors, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors + [number] * (number > 1)


def repeat_rows(size: int, repeats: int, channels: int) -> list[AxisConv]:
    """Nearest upsampling of an axis of ``size`` by ``repeats``: row i becomes rows repeats * i ... repeats * i + repeats - 1.

    With s the largest prime factor of the size, this costs convolutions of at most s * repeats taps instead of size *
    repeats.
    """
    *outer, last = prime_factors(size) or [1]
    convs = []
    for factor in outer:
        convs.append(_split(factor, size, channels))
        size, channels = size // factor, channels * factor
    convs += axis_map(np.repeat(np.eye(last, dtype=np.float32), repeats, axis=0), channels)
    size *= repeats
    for factor in reversed(outer):
        channels //= factor
        convs.append(_join(factor, size, channels))
        size *= factor
    return convs
