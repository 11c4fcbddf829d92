"""Delays of any length on every backend: hundreds and thousands of steps, other ones per element, inside and outside cycles."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch

from tests.equivalence.graphs import Array, full, start
from zoo.adapters.base import BACKENDS, get_backend

WIDTH = 3
MIXED = np.array([1.0, 400.0, 7.0])


def delayed(x: Array, steps: Array) -> Array:
    """y_t = x_{t - steps}, zero before the first input; by the definition, element by element."""
    y = np.zeros_like(x)
    for element, count in enumerate(steps.astype(int)):
        y[count:, :, element] = x[: max(0, len(x) - count), :, element]
    return y


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("steps", "length"),
    [(full(400, (3,)), 416), (MIXED, 416), (full(5000, (3,)), 16), (np.array([2.0, 5000, 15]), 16)],
    ids=["400", "mixed", "5000 in a short run", "mixed in a short run"],
)
def test_a_delay_outside_cycles(backend: str, steps: Array, length: int) -> None:
    x = np.random.default_rng(0).normal(size=(length, 2, WIDTH))
    sketch = start((WIDTH,))
    late = sketch.like(nir.Delay(steps), ["input", "input"])
    sketch.output([late], "out")
    out = get_backend(backend).build(sketch.graph(), dtype=torch.float64)(torch.from_numpy(x))["out"].numpy()
    np.testing.assert_array_equal(out, delayed(x + x, steps))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_delay_of_5000_steps_arrives(backend: str) -> None:
    x = np.random.default_rng(1).normal(size=(5008, 1, 1))
    sketch = start((1,))
    sketch.output([sketch.like(nir.Delay(full(5000, (1,))), ["input"])], "out")
    out = get_backend(backend).build(sketch.graph(), dtype=torch.float64)(torch.from_numpy(x))["out"].numpy()
    assert not out[:5000].any()
    np.testing.assert_array_equal(out[5000:], x[:8])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("steps", [full(40, (3,)), np.array([1.0, 40, 7])], ids=["40", "mixed"])
def test_a_delay_inside_a_cycle(backend: str, steps: Array) -> None:
    """A threshold that its own spikes of long ago excite: z_t = [x_t + 2 z_{t - steps} > 1.5]."""
    x = np.random.default_rng(2).integers(-4, 8, (96, 4, WIDTH)) / 4
    sketch = start((WIDTH,))
    spike = sketch.like(nir.Threshold(full(1.5, (WIDTH,))), ["input"])
    late = sketch.like(nir.Delay(steps), [spike])
    sketch.edges.append((sketch.like(nir.Scale(full(2, (WIDTH,))), [late]), spike))
    sketch.output([spike], "out")
    expected = np.zeros_like(x)
    for t, element in np.ndindex(len(x), WIDTH):
        before = t - int(steps[element])
        back = expected[before, :, element] if before >= 0 else 0
        expected[t, :, element] = x[t, :, element] + 2 * back > 1.5
    out = get_backend(backend).build(sketch.graph(), dtype=torch.float64)(torch.from_numpy(x))["out"].numpy()
    np.testing.assert_array_equal(out, expected)
    assert 0.05 < expected.mean() < 0.5
    assert (expected != (x > 1.5)).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_longest_delay_costs_no_memory(backend: str) -> None:
    sketch = start((1,))
    sketch.output([sketch.like(nir.Delay(full(2**31 - 1, (1,))), ["input"])], "out")
    assert not get_backend(backend).build(sketch.graph())(torch.ones(4, 2, 1))["out"].any()
