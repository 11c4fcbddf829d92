"""JAX: float64 wherever its function is called from, gradients, threads, copies."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
import torch

from tests.equivalence.graphs import Array, full, start
from zoo.adapters.base import get_backend
from zoo.errors import InvalidInputError
from zoo.nir_graphs import reference

BACKEND: Any = get_backend("jax")
import jax  # noqa: E402 - after the backend, which silences deprecations
import jax.numpy as jnp  # noqa: E402


def accumulator() -> nir.NIRGraph:
    """Ten times 0.1 is above 1 in float32 and below in float64."""
    sketch = start((2,))
    zero = full(0, (2,))
    sketch.output([sketch.like(nir.IF(full(1, (2,)), full(1, (2,)), zero), ["input"], "neuron")], "out")
    return sketch.graph()


def network() -> nir.NIRGraph:
    """Convolution, neurons of three kinds, a cycle, a Delay per element, a pool and a dense layer."""
    sketch = start((2, 6, 6), seed=3)
    conv = sketch.conv(["input"], 3, padding=(1, 1))
    neuron = sketch.like(sketch.neuron("LIF", (3, 6, 6)), [conv], "neuron")
    late = sketch.like(nir.Delay(full(1, (3, 6, 6))), [neuron])
    sketch.edges.append((sketch.conv([late], 3, padding=(1, 1)), neuron))
    other = sketch.like(nir.Delay(1.0 + np.arange(108).reshape(3, 6, 6) % 5), [neuron])
    window = (np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    pool = sketch.add(nir.AvgPool2d(*window), [neuron, other], (3, 3, 3))
    flat = sketch.add(nir.Flatten({"input": np.array((3, 3, 3))}, 0, -1), [pool], (27,))
    dense = sketch.add(nir.Affine(sketch.weights(4, 27), sketch.weights(4)), [flat], (4,))
    hidden = sketch.like(sketch.neuron("CubaLIF", (4,)), [dense], "hidden")
    sketch.output([sketch.like(sketch.neuron("LI", (4,)), [hidden, dense])], "out")
    return sketch.graph()


def frames(shape: tuple[int, ...] = (2, 6, 6), steps: int = 16, batch: int = 4) -> Array:
    return np.random.default_rng(0).normal(0.4, 0.8, (steps, batch, *shape))


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "numpy": lambda r, x: r.function(r.parameters, x),
    "by input": lambda r, x: r.function(r.parameters, {"input": x}),
    "array": lambda r, x: r.function(r.parameters, r.array(x)),
    "jit": lambda r, x: jax.jit(r.function)(r.parameters, r.array(x)),
    "jit of x alone": lambda r, x: jax.jit(lambda given: r.function(r.parameters, given))(r.array(x)),
    "vjp": lambda r, x: jax.vjp(lambda p: r.function(p, r.array(x)), r.parameters)[0],
    "vmap": lambda r, x: {
        k: v[0] for k, v in jax.vmap(lambda y: r.function(r.parameters, y))(r.array(x)[None]).items()
    },
    "x64 on": lambda r, x: _with_x64(lambda: jax.jit(r.function)(r.parameters, jnp.asarray(x))),
}


def _with_x64(call: Callable[[], Any]) -> Any:
    with jax.enable_x64(True):
        return call()


@pytest.mark.parametrize("call", CALLS)
def test_the_function_computes_in_float64(call: str) -> None:
    assert jnp.asarray(np.zeros(1)).dtype == np.float32  # x64 is off
    x = np.full((16, 2, 2), 0.1)
    expected = reference.run(accumulator(), x).outputs["out"]
    single, double = (BACKEND.build(accumulator(), dtype=dtype) for dtype in (torch.float32, torch.float64))
    out = CALLS[call](double, x)["out"]
    assert out.dtype == np.float64
    np.testing.assert_array_equal(np.asarray(out), expected)
    flipped = np.asarray(single.function(single.parameters, x)["out"])
    assert (flipped != expected).any()  # what it would be in float32
    assert flipped.dtype == np.float32


def test_what_jax_may_have_rounded_is_refused() -> None:
    runnable, x = BACKEND.build(accumulator(), dtype=torch.float64), np.full((16, 2, 2), 0.1)
    with pytest.raises(InvalidInputError, match=r"'input' is float32.*runnable\.array"):
        jax.jit(runnable.function)(runnable.parameters, x)  # JAX rounds numpy's float64 here
    with pytest.raises(InvalidInputError, match=r"parameter is float32.*enable_x64"):
        runnable.function(jax.tree.map(lambda p: jnp.asarray(np.float32(p)), runnable.parameters), x)
    eighths = np.round(x * 8) / 8
    out = runnable.function(runnable.parameters, jnp.asarray(eighths))["out"]  # float32 numbers of the caller's own
    np.testing.assert_array_equal(np.asarray(out), reference.run(accumulator(), eighths).outputs["out"])


def test_inputs_that_do_not_fit_are_refused_by_the_function() -> None:
    runnable = BACKEND.build(accumulator())
    for x in (
        np.zeros((3, 2, 5)),
        np.zeros((0, 2, 2)),
        np.zeros(2),
        {"input": np.zeros((3, 2, 2)), "more": np.zeros(2)},
    ):
        with pytest.raises(InvalidInputError, match="input"):
            runnable.function(runnable.parameters, x)


def loss(runnable: Any, x: Any) -> Callable[[Any], Any]:
    def value(parameters: Any) -> Any:
        out = runnable.function(parameters, x)["out"]
        return jnp.sum(out * jnp.cos(jnp.arange(out.size, dtype=out.dtype).reshape(out.shape)))

    return value


def test_gradients_are_the_same_where_x64_is_off() -> None:
    runnable, x = BACKEND.build(network(), dtype=torch.float64), frames()
    expected = _with_x64(lambda: jax.jit(jax.grad(loss(runnable, x)))(runnable.parameters))
    array = runnable.array(x)

    def inside(parameters: Any) -> Any:
        return _with_x64(lambda: loss(runnable, array)(parameters))

    for gradient in (jax.jit(jax.grad(inside)), jax.grad(jax.jit(inside))):
        found = gradient(runnable.parameters)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert one.dtype == np.float64
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    weights = [node for node in expected if "weight" in expected[node]]
    assert len(weights) == 3
    assert all(np.abs(expected[node]["weight"]).max() > 0 for node in weights)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(expected))


def test_a_runnable_in_float32_stays_so_where_x64_is_on() -> None:
    runnable, x = BACKEND.build(network()), frames()
    out = runnable(torch.from_numpy(x))["out"].numpy()
    gradient = jax.jit(jax.grad(loss(runnable, x)))(runnable.parameters)
    with jax.enable_x64(True):
        found = jax.jit(runnable.function)(runnable.parameters, jnp.asarray(x))["out"]
        twin = jax.jit(jax.grad(loss(runnable, x)))(runnable.parameters)
        np.testing.assert_array_equal(runnable(torch.from_numpy(x))["out"].numpy(), out)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(found), out)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(twin), strict=True):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_do_not_depend_on_whether_constants_are_known_to_xla(dtype: torch.dtype) -> None:
    """XLA folds constants that it knows; the zeros of jax_ops keep it from changing the order of operations."""
    runnable, x = BACKEND.build(network(), dtype=dtype), frames()
    given = runnable.array(x)
    known = jax.jit(lambda y: runnable.function(runnable.parameters, y))(given)["out"]
    np.testing.assert_array_equal(np.asarray(known), runnable(torch.from_numpy(x))["out"].numpy())


def test_gradients_of_surrogates_are_those_of_spyx() -> None:
    import spyx

    sketch = start((5,))
    sketch.output([sketch.like(nir.Threshold(full(0.25, (5,))), ["input"])], "out")
    runnable = BACKEND.build(sketch.graph())
    x = runnable.array(frames((5,)))
    found = jax.grad(lambda y: runnable.function(runnable.parameters, y)["out"].sum())(x)
    expected = jax.grad(lambda y: spyx.axn.superspike()(y - 0.25).sum())(x)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_threads_share_a_runnable() -> None:
    runnable = BACKEND.build(network(), dtype=torch.float64)
    inputs = [torch.from_numpy(frames() + 0.1 * k) for k in range(8)]
    fresh = BACKEND.build(network(), dtype=torch.float64)
    expected = [fresh.run(x, record="all") for x in inputs]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(50):
            trace = runnable.run(inputs[k], record="all")
            if any(not np.array_equal(trace.spikes[n], spikes) for n, spikes in expected[k].spikes.items()):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_runnables_can_be_pickled_and_copied(dtype: torch.dtype) -> None:
    runnable, x = BACKEND.build(network(), dtype=dtype), torch.from_numpy(frames())
    runnable.parameters = jax.tree.map(lambda p: runnable.array(np.asarray(p) * 1.125), runnable.parameters)
    expected = runnable.run(x, record="all")
    for twin in (pickle.loads(pickle.dumps(runnable)), copy.deepcopy(runnable)):
        trace = twin.run(x, record="all")
        for part in ("outputs", "spikes", "potentials"):
            for name, value in getattr(expected, part).items():
                np.testing.assert_array_equal(getattr(trace, part)[name], value)
        assert jax.tree.leaves(twin.parameters)[0].dtype == runnable.array(0).dtype
