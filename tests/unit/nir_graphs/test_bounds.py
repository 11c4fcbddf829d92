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


def test_spikes_of_neurons_that_cannot_fire_are_zero() -> None:
    never = bounds.spikes(np.array([True, False]))
    assert never.high.tolist() == [1.0, 0.0]
    assert never.grid.tolist() == [0, FREE]
