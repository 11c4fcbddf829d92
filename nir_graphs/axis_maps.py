"""Linear maps along one image axis as standard convolutions, exactly.

Any matrix M (H', H) along an axis is two grouped convolutions: a one-hot kernel turns the axis into channels, and a kernel of
H' taps with padding H' - 1, holding M upside down, turns the channels back into H' rows. Nearest upsampling has a cheaper
form, because it commutes with cutting an axis into blocks: the axis is cut step by step by its prime factors (one-hot kernels,
dilated by the block length), only blocks of the smallest factor are mapped, and the results are put back in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.nir_graphs.values import Builder, Segment

Array = npt.NDArray[Any]


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
        return np.expand_dims(np.tile(self.kernel, (self.groups, 1, 1)), 3 if axis == 0 else 2)


def linear_axis_map(matrix: Array, channels: int) -> list[AxisConv]:
    """Any linear map along an axis of ``channels`` channels, as two convolutions.

    Args:
        matrix: (H', H), y[q] = sum over h of matrix[q, h] x[h] in each channel; or (K, H', H) for K outputs per channel,
            output k of channel c in channel c * K + k.
        channels: C of the input.
    """
    matrices = matrix[None] if matrix.ndim == 2 else matrix
    return coupled_axis_map(matrices[:, None], channels)


def coupled_axis_map(matrix: Array, channels: int) -> list[AxisConv]:
    """Any linear map along an axis that mixes L neighbouring channels, as two convolutions.

    Args:
        matrix: (K, L, H', H): output k of a group is the sum over its channels l and rows h of matrix[k, l, q, h] x[l, h].
        channels: of the input, a multiple of L; the output has K for every L.
    """
    _, coupled, rows, columns = matrix.shape
    gather = np.eye(columns, dtype=matrix.dtype)[:, None, :]  # output h sees row h
    scatter = matrix[:, :, ::-1].transpose(0, 1, 3, 2)  # tap j of channel h holds M[H' - 1 - j, h]
    scatter = scatter.reshape(len(matrix), coupled * columns, rows)
    return [AxisConv(gather, channels), AxisConv(np.ascontiguousarray(scatter), channels // coupled, padding=rows - 1)]


def reflection(size: int, before: int, after: int) -> Array:
    """(before + size + after, size): the matrix that pads an axis by reflecting it at its first and last row."""
    return np.eye(size, dtype=np.float32)[np.pad(np.arange(size), (before, after), mode="reflect")]


def real_fourier(size: int) -> Array:
    """(2, size // 2 + 1, size): real and imaginary part of the orthonormal Fourier transform of a real axis."""
    cos, sin = _waves(size)
    return np.stack([cos, -sin])[:, : size // 2 + 1]


def complex_fourier(size: int, *, inverse: bool = False) -> Array:
    """(2, 2, size, size): the orthonormal Fourier transform of an axis of pairs (real, imaginary)."""
    cos, sin = _waves(size)
    sin = -sin if inverse else sin
    return np.array([[cos, sin], [-sin, cos]])


def inverse_real_fourier(size: int) -> Array:
    """(1, 2, size, size // 2 + 1): a real axis from the non-negative frequencies of its orthonormal Fourier transform."""
    cos, sin = (wave[:, : size // 2 + 1] for wave in _waves(size))
    single = np.arange(size // 2 + 1) * 2 % size == 0  # the other frequencies stand for their negatives, too
    weight = np.where(single, 1.0, 2.0)
    return np.stack([cos * weight, np.where(single, 0.0, -sin * weight)])[None]


def _waves(size: int) -> tuple[Array, Array]:
    """Cosines and sines (size, size) of the orthonormal transform, in float64, exact where they are 0, 1/2 or 1."""
    product = np.outer(np.arange(size), np.arange(size)) % size
    angle = 2 * np.pi * np.arange(size) / size
    cos, sin = np.cos(angle), np.sin(angle)
    for values, shift in ((cos, 0), (sin, -size / 4)):  # quarter and half turns are exact
        for quarter, value in enumerate((1.0, 0.0, -1.0, 0.0)):
            position = (quarter * size / 4 - shift) % size
            if position == int(position):
                values[int(position)] = value
    return cos[product] / np.sqrt(size), sin[product] / np.sqrt(size)


def _split(factor: int, size: int, channels: int) -> AxisConv:
    """Cut an axis of ``size`` into ``factor`` blocks, which become channels: C x size -> (C * factor) x (size / factor)."""
    return AxisConv(np.eye(factor, dtype=np.float32)[:, None, :], channels, dilation=size // factor)


def _join(factor: int, size: int, channels: int) -> AxisConv:
    """Put ``factor`` channels of ``size`` one behind the other: (C * factor) x size -> C x (size * factor)."""
    kernel = np.eye(factor, dtype=np.float32)[::-1][None]
    return AxisConv(np.ascontiguousarray(kernel), channels, dilation=size, padding=(factor - 1) * size)


def prime_factors(number: int) -> list[int]:
    """Prime factors in descending order; of 1: none."""
    factors, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return ([number] if number > 1 else []) + factors[::-1]


def repeat_rows(size: int, repeats: int, channels: int) -> list[AxisConv]:
    """Nearest upsampling of an axis: row i becomes rows repeats * i ... repeats * i + repeats - 1."""
    return [] if repeats == 1 else _enlarge(size, np.ones(repeats, np.float32), channels)


def spread_rows(size: int, stride: int, channels: int) -> list[AxisConv]:
    """Row i becomes row stride * i; the rows in between are zero."""
    return [] if stride == 1 else _enlarge(size, np.eye(1, stride, dtype=np.float32)[0], channels)


def _enlarge(size: int, pattern: Array, channels: int) -> list[AxisConv]:
    """Row i becomes the rows ``pattern`` times row i.

    A step costs at most p^2 multiplications per output for a prime factor p of ``size``, where the plain map costs
    size^2 * repeats. The smallest factor comes last, since its map is the dearest step.
    """
    repeats = len(pattern)
    *outer, last = prime_factors(size) or [1]
    convs = []
    for factor in outer:
        convs.append(_split(factor, size, channels))
        size, channels = size // factor, channels * factor
    convs += linear_axis_map(np.kron(np.eye(last, dtype=np.float32), pattern[:, None]), channels)
    size *= repeats
    for factor in reversed(outer):
        channels //= factor
        convs.append(_join(factor, size, channels))
        size *= factor
    return convs


def apply_along(builder: Builder, name: str, convs: list[AxisConv], axis: int, segment: Segment) -> Segment:
    """A chain of convolutions along axis 0 (rows) or 1 (columns) of a segment, as nodes ``name`` 0, 1, ..."""
    for index, conv in enumerate(convs):
        segment = builder.convolved(
            f"{name}{index}",
            segment,
            conv.weight(axis),
            padding=(conv.padding, 0) if axis == 0 else (0, conv.padding),
            dilation=(conv.dilation, 1) if axis == 0 else (1, conv.dilation),
            groups=conv.groups,
        )
    return segment
