"""Arithmetic on what is known of a tensor: the power-of-two grid it lies on and the range it stays in.

A bound holds per index of the tensor's first axis (channels), or once for the whole tensor. All functions are sound: they may
claim less than is true, never more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Exponents = npt.NDArray[np.int64]
FREE = 1 << 20
"""Grid exponent of a tensor that is always zero: it lies on every grid."""
_SLACK = 1 + 2.0**-40
"""By how much computed ranges are widened, so that their own rounding errors do not matter."""


@dataclass(frozen=True)
class Bound:
    """Every value is a whole multiple of ``2 ** grid`` and lies in ``low..high``; arrays (C,) or (1,).

    Attributes:
        grid: exponents.
        low, high: range.
    """

    grid: Exponents
    low: Reals
    high: Reals

    @property
    def magnitude(self) -> Reals:
        """Largest absolute value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def whole(self) -> Bound:
        """One bound for the whole tensor."""
        return Bound(self.grid.min(keepdims=True), self.low.min(keepdims=True), self.high.max(keepdims=True))

    def with_zero(self) -> Bound:
        """The bound of a value that may also be missing."""
        return Bound(self.grid, np.minimum(self.low, 0), np.maximum(self.high, 0))


def lowest_bit(values: Any) -> Exponents:
    """Exponent of the lowest set bit of each number; ``FREE`` for zeros. Every float is a whole multiple of a power of two."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    integers = np.abs(mantissa * 2.0**53).astype(np.int64)
    lowest = np.log2((integers & -integers).astype(np.float64), where=integers != 0, out=np.zeros(integers.shape))
    return np.where(integers == 0, FREE, lowest.astype(np.int64) + exponent - 53)


def of_constant(values: Any) -> Bound:
    """The bound of a constant tensor, per index of its first axis."""
    array = np.asarray(values, np.float64)
    # views of few numbers, as graphs have them, are looked at once
    array = array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
    rows = array.reshape(array.shape[0], -1) if array.ndim else array.reshape(1, 1)
    return Bound(lowest_bit(rows).min(1), rows.min(1), rows.max(1))


def spikes(fires: npt.NDArray[np.bool_] | bool = True) -> Bound:
    """Zeros and ones; only zeros where a neuron cannot fire."""
    can = np.atleast_1d(np.asarray(fires))
    return Bound(np.where(can, 0, FREE), np.zeros(can.shape), can.astype(np.float64))


ZERO = Bound(np.array([FREE]), np.zeros(1), np.zeros(1))


def hull(*bounds: Bound) -> Bound:
    """What holds for a value that is one of several."""
    grid, low, high = bounds[0].grid, bounds[0].low, bounds[0].high
    for other in bounds[1:]:
        grid, low, high = np.minimum(grid, other.grid), np.minimum(low, other.low), np.maximum(high, other.high)
    return Bound(grid, low, high)


def product(first: Bound, second: Bound) -> Bound:
    """Element by element."""
    corners = np.stack(
        np.broadcast_arrays(
            first.low * second.low, first.low * second.high, first.high * second.low, first.high * second.high
        )
    )
    return Bound(np.minimum(first.grid + second.grid, FREE), corners.min(0), corners.max(0))


def total(terms: Sequence[Bound]) -> Bound:
    """The sum."""
    if len(terms) == 1:
        return terms[0]
    grid, low, high = terms[0].grid, terms[0].low, terms[0].high
    for term in terms[1:]:
        grid, low, high = np.minimum(grid, term.grid), low + term.low, high + term.high
    return Bound(grid, np.where(low < 0, low * _SLACK, low / _SLACK), np.where(high > 0, high * _SLACK, high / _SLACK))


def partial_sums(terms: Sequence[Bound]) -> tuple[Reals, Exponents]:
    """(largest absolute value, grid) of the sums of all subsets of the terms: of what any order of summation meets."""
    maybe = total([term.with_zero() for term in terms])
    return maybe.magnitude, maybe.grid


def linear_map(weight: Reals, x: Bound) -> Bound:
    """All partial sums of ``sum over i, k of weight[o, i, k] * x[i]``, per o.

    Args:
        weight: (O, I, taps).
        x: (I,) or (1,).
    """
    x = x.with_zero()  # padding and partial sums leave terms out
    up, down = np.clip(weight, 0, None).sum(2), np.clip(weight, None, 0).sum(2)
    inputs = np.broadcast_arrays(x.grid, x.low, x.high, np.zeros(weight.shape[1]))[:3]
    grid, low, high = (np.asarray(part) for part in inputs)
    highest, lowest = up @ high + down @ low, up @ low + down @ high
    grids = np.minimum(lowest_bit(weight).min(2) + grid, FREE).min(1)
    return Bound(grids, lowest * _SLACK, highest * _SLACK)


def units(magnitude: Reals, grid: Exponents) -> Reals:
    """log2 of a magnitude in units of its grid: the bits that it takes; 0 where it takes none."""
    some = (magnitude > 0) & (grid < FREE)
    return np.where(some, np.log2(magnitude, where=some, out=np.zeros(np.shape(some))) - grid, 0.0).clip(0)


def margin(potential: Bound, threshold: Any) -> float:
    """Least distance of a threshold from any number that the potential can take, in units of its grid: 0 (ties) to 0.5.

    Infinite where no threshold lies in the potential's reach.
    """
    array = np.asarray(threshold, np.float64)
    array = array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
    rows = array.reshape(array.shape[0], -1) if array.ndim else array.reshape(1, 1)
    grid, low, high = (part[:, None] for part in (potential.grid, potential.low, potential.high))
    theta, grid, low, high = np.broadcast_arrays(rows, grid, low, high)
    unit = np.ldexp(1.0, np.clip(grid, -1000, 1000))
    near = (theta >= low - unit) & (theta <= high + unit) & (grid < FREE)
    scaled = theta[near] / unit[near]
    return float(np.abs(scaled - np.round(scaled)).min()) if near.any() else np.inf
