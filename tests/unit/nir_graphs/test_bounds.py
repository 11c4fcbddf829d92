"""Bounds are sound: whatever values lie within bounds, results lie within the resulting bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.nir_graphs import bounds
from zoo.nir_graphs.bounds import FREE, Bound, Reals

Rng = np.random.Generator


def draw(rng: Rng, count: int) -> Bound:
    """A random bound with ``count`` rows whose ends lie on its grid."""
    grid = rng.integers(-6, 4, count)
    units = np.sort(rng.integers(-20, 21, (2, count)), axis=0)
    return Bound(grid, *(units * 2.0**grid))


def values(rng: Rng, bound: Bound) -> Reals:
    unit = np.exp2(bound.grid.astype(np.float64))
    low, high = (np.round(end / unit).astype(np.int64) for end in (bound.low, bound.high))
    return rng.integers(low, high + 1) * unit


def require_inside(value: Reals, bound: Bound) -> None:
    assert (value >= bound.low).all()
    assert (value <= bound.high).all()
    some = value != 0
    units = value[some] / np.broadcast_to(2.0 ** np.clip(bound.grid, -500, 500), value.shape)[some]
    assert np.array_equal(units, np.round(units))


@pytest.mark.parametrize(
    ("number", "exponent"), [(1.0, 0), (0.5, -1), (3.0, 0), (12.0, 2), (-0.375, -3), (0.1, -55), (2.0**60, 60)]
)
def test_lowest_bit(number: float, exponent: int) -> None:
    assert bounds.lowest_bit([number]).tolist() == [exponent]


def test_zero_lies_on_every_grid() -> None:
    assert bounds.lowest_bit([0.0]).tolist() == [FREE]
    assert bounds.bits(bounds.in_units(np.zeros(1), np.array([-10]))).tolist() == [0.0]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sums_products_and_hulls_are_sound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = draw(rng, 5), draw(rng, 5)
    a, b = values(rng, first), values(rng, second)
    require_inside(a + b, bounds.total([first, second]))
    require_inside(a * b, bounds.product(first, second))
    require_inside(np.where(rng.random(5) < 0.5, a, b), bounds.hull(first, second))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_linear_maps_cover_every_partial_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-9, 10, (3, 4, 2)) * 2.0 ** rng.integers(-4, 3, (3, 4, 1))
    bound = draw(rng, 4)
    out = bounds.linear_map(weight, bound)
    x = np.stack([values(rng, bound), values(rng, bound)], 1)  # one number per channel and tap
    terms = (weight * x).reshape(3, -1)
    order = rng.permutation(terms.shape[1])
    for stop in range(terms.shape[1] + 1):
        require_inside(terms[:, order[:stop]].sum(1), out)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_margin_is_the_least_distance_that_a_search_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = int(rng.integers(-3, 3))
    low, high = np.sort(rng.integers(-8, 9, 2)) * 2.0**grid
    threshold = rng.integers(-10, 11, 4) * 2.0 ** (grid - int(rng.integers(0, 3)))
    bound = Bound(np.array([grid]), np.array([low]), np.array([high]))
    reachable = np.arange(low / 2.0**grid - 1, high / 2.0**grid + 2) * 2.0**grid
    near = threshold[(threshold >= low - 2.0**grid) & (threshold <= high + 2.0**grid)]
    expected = min((np.abs(reachable - one).min() / 2.0**grid for one in near), default=np.inf)
    assert bounds.margin(bound, threshold[:, None]) == expected


def test_spikes_of_neurons_that_cannot_fire_are_zero_and_of_those_that_must_are_one() -> None:
    found = bounds.spikes(np.array([True, False, True]), np.array([False, False, True]))
    assert found.high.tolist() == [1.0, 0.0, 1.0]
    assert found.low.tolist() == [0.0, 0.0, 1.0]
    assert found.grid.tolist() == [0, FREE, 0]


def test_bounds_broadcast_along_every_axis() -> None:
    rows, columns = (bounds.of_constant(np.array(values)) for values in ([[1.0], [8193.0]], [[4097.0, 1.0]]))
    out = bounds.product(rows, columns)
    assert out.high.tolist() == [[4097.0, 1.0], [8193.0 * 4097.0, 8193.0]]
    assert bounds.total([rows, columns]).low.tolist() == [[4098.0, 2.0], [12290.0, 8194.0]]
    assert out.over((1,)).low.tolist() == [[1.0], [8193.0]]
    assert bounds.hull(rows, bounds.ZERO).low.tolist() == [[0.0], [0.0]]


def test_constants_of_many_elements_are_bounded_per_channel() -> None:
    big = np.ones((3, 1024, 1024))
    big[1, 5, 7] = 0.25
    found = bounds.of_constant(big)
    assert found.grid.ravel().tolist() == [0, -2, 0]
    assert found.low.ravel().tolist() == [1.0, 0.25, 1.0]
    assert found.grid.shape == (3, 1, 1)


def test_ranges_end_on_the_grid() -> None:
    found = bounds.on_grid(np.array([0, -1, 3]), np.array([-3.3, 0.3, -17.0]), np.array([2.7, 2.6, 0.5]))
    assert found.low.tolist() == [-3.0, 0.5, -16.0]
    assert found.high.tolist() == [2.0, 2.5, 0.0]


def test_what_was_rounded_away_is_added_again() -> None:
    """2^60 + 1 - 2^60 is 0 in float64."""
    terms = [bounds.of_constant(value) for value in (2.0**60, 1.0, -(2.0**60))]
    found = bounds.total(terms)
    assert found.low < 1 < found.high
    exact = bounds.total([bounds.of_constant(value) for value in (2.0**50, 1.0, -(2.0**50))])
    assert exact.low == exact.high == 1


def test_numbers_beyond_float64_are_unbounded_not_undefined() -> None:
    huge = bounds.of_constant(np.array([1e300, -1e300]))
    product = bounds.product(huge, huge)
    assert product.high.tolist() == [np.inf, np.inf]
    assert bounds.total([product, -product]).low.tolist() == [-np.inf, -np.inf]
    mapped = bounds.linear_map(np.full((1, 2, 1), 1e300), huge)
    assert mapped.high.tolist() == [np.inf]
    assert mapped.low.tolist() == [-np.inf]


def test_a_linear_map_keeps_the_axes_before_apart() -> None:
    x = bounds.of_constant(np.array([[1.0, 2.0], [0.0, 4.0]]))
    out = bounds.linear_map(np.array([[[3.0], [1.0]], [[0.0], [0.5]]]), x)
    assert out.high.tolist() == [[5.0, 1.0], [4.0, 2.0]]
    assert out.grid.tolist() == [[0, 0], [2, 1]]


@pytest.mark.parametrize(
    ("grid", "threshold", "expected"), [(-1070, 3.0 * 2.0**-1072, 0.25), (1000, 1.25 * 2.0**1000, 0.25)]
)
def test_margin_on_extreme_grids(grid: int, threshold: float, expected: float) -> None:
    unit = np.ldexp(1.0, grid)
    bound = Bound(np.array(grid), np.array(0.0), np.array(4 * unit))
    assert bounds.margin(bound, threshold) == expected


def test_what_is_always_zero_ties_with_zero_alone() -> None:
    assert bounds.margin(bounds.ZERO, 0.0) == 0
    assert bounds.margin(bounds.ZERO, 0.1) == np.inf
