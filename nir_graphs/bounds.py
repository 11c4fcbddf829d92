"""Arithmetic on what is known of a tensor: the power-of-two grid it lies on and the range it stays in.

The arrays of a bound broadcast to the tensor: they have no axes, or the tensor's axes, with length 1 where one bound holds for
all of an axis. All functions are sound: they may claim less than is true, never more.

Ranges are computed in float64, exactly as long as they stay below 2^52 grid units: their ends are whole multiples of the grid,
and so are all sums and products on the way. Beyond that, they are widened by more than what could have been rounded away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.nir_graphs.fields import distinct

Reals = npt.NDArray[np.float64]
Exponents = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
FREE = 1 << 20
"""Grid exponent of a tensor that is always zero: it lies on every grid."""
_EXACT = 2.0**52
"""Grid units up to which ranges are computed exactly."""
_SLACK = 2.0**-20
"""By how much, relatively, larger ranges are widened: more than a sum of 2^30 terms loses to rounding."""
_LARGEST = 1 << 20
"""Elements of a constant that are told apart; of larger ones, only the indices of the first axis are."""


@dataclass(frozen=True)
class Bound:
    """Every value is a whole multiple of ``2 ** grid`` and lies in ``low..high``.

    Attributes:
        grid: exponents.
        low, high: range.
    """

    grid: Exponents
    low: Reals
    high: Reals

    def __post_init__(self) -> None:
        grid = np.asarray(self.grid, np.int64)
        parts = np.broadcast_arrays(np.where(grid > FREE // 2, FREE, grid), self.low, self.high)
        for name, part in zip(("grid", "low", "high"), parts, strict=True):
            object.__setattr__(self, name, part)

    @property
    def magnitude(self) -> Reals:
        """Largest absolute value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def whole(self) -> Bound:
        """One bound for the whole tensor, without axes."""
        return Bound(self.grid.min(), self.low.min(), self.high.max())

    def over(self, axes: tuple[int, ...]) -> Bound:
        """One bound for each index of the other axes; these ones get length 1."""
        if not self.grid.ndim:
            return self
        grid, low = (part.min(axis=axes, keepdims=True) for part in (self.grid, self.low))
        return Bound(grid, low, self.high.max(axis=axes, keepdims=True))

    def reshaped(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Bound:
        """The same change of shape in all arrays."""
        return Bound(change(self.grid), change(self.low), change(self.high))

    def with_zero(self) -> Bound:
        """The bound of a value that may also be missing."""
        return Bound(self.grid, np.minimum(self.low, 0), np.maximum(self.high, 0))

    def __neg__(self) -> Bound:
        return Bound(self.grid, -self.high, -self.low)

    def same_as(self, other: Bound) -> bool:
        """Whether both say the same."""
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("grid", "low", "high"))


def lowest_bit(values: Any) -> Exponents:
    """Exponent of the lowest set bit of each number; ``FREE`` for zeros. Every float is a whole multiple of a power of two."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    integers = np.abs(mantissa * 2.0**53).astype(np.int64)
    lowest = np.frexp((integers & -integers).astype(np.float64))[1] - 1
    return np.where(integers == 0, FREE, lowest.astype(np.int64) + exponent - 53)


def of_constant(values: Any) -> Bound:
    """The bound of a constant."""
    array = distinct(np.asarray(values, np.float64))
    bound = Bound(lowest_bit(array), array, array)
    return bound if array.size <= _LARGEST else bound.over(tuple(range(1, array.ndim)))


def spikes(fires: Mask | bool = True, always: Mask | bool = False) -> Bound:
    """Zeros and ones; only zeros where a neuron cannot fire, only ones where it fires at every step."""
    can, must = np.broadcast_arrays(np.asarray(fires), np.asarray(always))
    return Bound(np.where(can, 0, FREE), must.astype(np.float64), can.astype(np.float64))


ZERO = Bound(np.asarray(FREE), np.zeros(()), np.zeros(()))


def on_grid(grid: Exponents, low: Reals, high: Reals) -> Bound:
    """The multiples of ``2 ** grid`` in a range, which need not end on them."""
    with np.errstate(over="ignore", under="ignore"):
        down, up = np.ldexp(np.floor(np.ldexp(high, -grid)), grid), np.ldexp(np.ceil(np.ldexp(low, -grid)), grid)
        inside = (np.ldexp(np.abs(high), -grid) < _EXACT) & (grid < FREE)
        above = (np.ldexp(np.abs(low), -grid) < _EXACT) & (grid < FREE)
    return Bound(grid, np.where(above, up, low), np.where(inside, down, high))


def where(condition: Mask, first: Bound, second: Bound) -> Bound:
    """The first bound where the condition holds, else the second."""
    return Bound(*(np.where(condition, getattr(first, n), getattr(second, n)) for n in ("grid", "low", "high")))


def hull(*bounds: Bound) -> Bound:
    """What holds for a value that is one of several."""
    grid, low, high = bounds[0].grid, bounds[0].low, bounds[0].high
    for other in bounds[1:]:
        grid, low, high = np.minimum(grid, other.grid), np.minimum(low, other.low), np.maximum(high, other.high)
    return Bound(grid, low, high)


def _computed(grid: Exponents, low: Reals, high: Reals, met: Reals) -> Bound:
    """A range that was computed, widened where numbers up to ``met`` may have been rounded on the way."""
    wild = ~(in_units(met, grid) < _EXACT)  # also where it is no number
    with np.errstate(over="ignore", invalid="ignore"):
        slack = np.where(wild, np.abs(met) * _SLACK, 0.0)
        low, high = low - slack, high + slack
    return Bound(grid, np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high))


def in_units(magnitude: Reals, grid: Exponents) -> Reals:
    """A magnitude in units of its grid; infinite where float64 cannot hold that."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(magnitude, -np.asarray(grid))


def product(first: Bound, second: Bound) -> Bound:
    """Element by element."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        corners = np.stack(
            np.broadcast_arrays(
                first.low * second.low, first.low * second.high, first.high * second.low, first.high * second.high
            )
        )
        low, high = corners.min(0), corners.max(0)
        met = np.abs(corners).max(0)
    return _computed(np.minimum(first.grid + second.grid, FREE), low, high, met)


def total(terms: Sequence[Bound]) -> Bound:
    """The sum."""
    if len(terms) == 1:
        return terms[0]
    grid, low, high, met = terms[0].grid, terms[0].low, terms[0].high, terms[0].magnitude
    with np.errstate(over="ignore", invalid="ignore"):
        for term in terms[1:]:
            grid, low, high = np.minimum(grid, term.grid), low + term.low, high + term.high
            met = met + term.magnitude
    return _computed(grid, low, high, met)


def partial_sums(terms: Sequence[Bound]) -> Bound:
    """The sums of all subsets of the terms: what any order of summation meets."""
    return total([term.with_zero() for term in terms])


def linear_map(weight: Reals, x: Bound) -> Bound:
    """All partial sums of ``sum over i, k of weight[..., o, i, k] * x[..., i]``: (..., O).

    Args:
        weight: (..., O, I, taps).
        x: (..., I) or (..., 1); the axes before broadcast to those of the weight.
    """
    x = x.with_zero()  # padding and partial sums leave terms out
    inputs = weight.shape[-2]
    low, high = (np.broadcast_to(part, (*part.shape[:-1], inputs))[..., None] for part in (x.low, x.high))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        up, down = np.clip(weight, 0, None).sum(-1), np.clip(weight, None, 0).sum(-1)
        highest, lowest = (up @ high + down @ low)[..., 0], (up @ low + down @ high)[..., 0]
    grid = (lowest_bit(weight).min(-1) + x.grid[..., None, :]).min(-1)
    return _computed(np.minimum(grid, FREE), lowest, highest, np.maximum(highest, -lowest))


def bits(units: Reals) -> Reals:
    """log2 of whole numbers of units; 0 where there are none."""
    some = units > 0
    return np.where(some, np.log2(units, where=some, out=np.zeros(np.shape(units))), 0.0).clip(0)


def margin(potential: Bound, threshold: Any) -> float:
    """Least distance of a threshold from any number that the potential can take, in units of its grid: 0 (ties) to 0.5.

    Infinite where no threshold lies in the potential's reach.
    """
    theta, grid, low, high = np.broadcast_arrays(
        distinct(np.asarray(threshold, np.float64)), potential.grid, potential.low, potential.high
    )
    some = (grid < FREE) | (theta == 0)  # what is always zero ties with zero alone
    theta, grid, low, high = theta[some], np.where(grid < FREE, grid, 0)[some], low[some], high[some]
    with np.errstate(over="ignore", under="ignore"):
        unit = np.ldexp(1.0, grid)
        near = (theta >= low - unit) & (theta <= high + unit)
        scaled = np.ldexp(theta[near], -grid[near])
    # beyond 2^53 units, where float64 has no fractions, the distance counts as zero
    distance = np.where(np.isfinite(scaled), np.abs(scaled - np.round(scaled)), 0.0)
    return float(distance.min()) if near.any() else np.inf
