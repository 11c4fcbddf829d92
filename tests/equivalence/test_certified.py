"""A certified graph gives the same bits whatever is summed in which order, where, in which batch and in which type.

Random graphs, certified or not; convolutions are summed in random order, on one and two threads, in channels_last, with T
folded and stepped, alone and in company, in float32 and float64. Where the margin is half a unit, spikes are the same even
without oneDNN and with NNPACK, whose Winograd kernels round.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.equivalence.graphs import Sketch, full, start
from tests.unit.nir_graphs.dyadic_graphs import seeded
from zoo.adapters.base import get_backend
from zoo.nir_graphs import reference
from zoo.nir_graphs.certificate import InputGrid, certify

GRID = InputGrid(-2, -2.0, 3.0)
BATCH, SHAPE = 32, (2, 8, 8)
Trace = reference.Trace


def frames(seed: int, steps: int) -> Tensor:
    """Quarters in -2..3: (T, B, 2, 8, 8)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 13, (steps, BATCH, *SHAPE), generator=generator).double() / 4


def grid_weights(rng: np.random.Generator, *shape: int, bits: int, exponent: int) -> Any:
    largest = 2 ** (bits - 1) - 1
    return rng.integers(-largest, largest + 1, shape) * 2.0**exponent


def neurons(sketch: Sketch, inputs: list[str], kind: str, unit: float, steps: int) -> list[str]:
    """Neurons whose thresholds lie half a unit off the grid of their potentials, or, for three in ten, on it."""
    shape = sketch.shapes[inputs[0]]
    base = float(sketch.rng.integers(1, 5)) * 8 * unit
    finest = {"ilif": 1, "if": 1, "soft": steps, "lif": steps + 1}[kind]  # a decay of one half: a bit per step
    theta = base + (unit / 2**finest if sketch.rng.random() < 0.7 else 0.0)
    if kind == "ilif":
        return [sketch.like(nir.Threshold(full(theta + k * base, shape)), inputs) for k in range(3)]
    if kind == "soft":
        u = sketch.like(nir.Scale(full(1, shape)), inputs)
        spike = sketch.like(nir.Threshold(full(theta, shape)), [u])
        reset = sketch.like(nir.Scale(full(-base, shape)), [spike])
        delay = sketch.like(nir.Delay(full(1, shape)), [u, reset])
        back = sketch.like(nir.Scale(full(0.5, shape)), [delay])
        sketch.edges.append((back, u))
        return [spike]
    fields = {"r": full(1, shape), "v_threshold": full(theta, shape), "v_reset": full(0, shape)}
    if kind == "if":
        return [sketch.like(nir.IF(**fields), inputs)]
    return [sketch.like(nir.LIF(tau=full(2, shape), v_leak=full(0, shape), **fields), inputs)]


def candidate(seed: int, steps: int) -> nir.NIRGraph:
    """conv - neurons - (grouped) conv - neurons - pool and skip - conv - neurons, on power-of-two grids."""
    rng = np.random.default_rng(seed)
    sketch = start(SHAPE, seed)
    kinds = ("ilif", "if", "lif", "soft") if steps > 1 else ("ilif", "if")
    bits = int(rng.integers(3, 8))
    current, unit = ["input"], 2.0**GRID.exponent
    channels = 2
    for depth in range(3):
        exponent = int(rng.integers(-5, -1))
        groups = int(rng.choice([1, 2])) if depth else 1
        name = sketch.conv(current, 4, (3, 3), padding=(1, 1), groups=groups)
        node: Any = sketch.nodes[name]
        node.weight = grid_weights(rng, 4, channels // groups, 3, 3, bits=bits, exponent=exponent)
        unit = unit * 2.0**exponent if depth == 0 else 2.0**exponent
        node.bias = rng.integers(-8, 9, 4) * unit
        channels = 4
        current = neurons(sketch, [name], str(rng.choice(kinds)), unit, steps)
        if depth == 1:
            shape = sketch.shapes[current[0]]
            summed = sketch.like(nir.Scale(full(1, shape)), current)
            pool = nir.SumPool2d(np.array([3, 3]), np.array([1, 1]), np.array([1, 1]))
            current = [summed, sketch.like(pool, [summed])]
    sketch.output(current, "out")
    return sketch.graph()


def everything(
    graph: nir.NIRGraph, x: Tensor, backend: str = "norse", dtype: Any = torch.float32, **options: Any
) -> Trace:
    return get_backend(backend).build(graph, dtype=dtype, **options).run(x, record=list(graph.nodes))


def require_same(one: Trace, other: Trace, *, only_spikes: bool = False) -> None:
    for node, spikes in one.spikes.items():
        np.testing.assert_array_equal(other.spikes[node], spikes, err_msg=node)
    if not only_spikes:
        for kind in ("potentials", "outputs"):
            for node, value in getattr(one, kind).items():
                np.testing.assert_array_equal(getattr(other, kind)[node], value, err_msg=node)


@contextmanager
def convolutions(change: Any) -> Iterator[None]:
    """Another way to compute convolutions."""
    patch = pytest.MonkeyPatch()
    patch.setattr(torch.nn.functional, "conv2d", change(torch.nn.functional.conv2d))
    try:
        yield
    finally:
        patch.undo()


def shuffled(seed: int) -> Any:
    """Channel by channel and tap by tap, in random order."""

    def change(honest: Any) -> Any:
        def conv(x: Tensor, w: Tensor, b: Any, s: Any, p: Any, d: Any, groups: int) -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            total = None
            count = w.shape[1] * w.shape[2] * w.shape[3]
            for index in torch.randperm(count, generator=generator):
                mask = torch.zeros(count).index_fill(0, index, 1.0).view(w.shape[1:]).to(w)
                part = honest(x, w * mask, None, s, p, d, groups)
                total = part if total is None else total + part
            assert total is not None
            return total + b.view(-1, 1, 1)

        return conv

    return change


def channels_last(honest: Any) -> Any:
    return lambda x, w, *rest: honest(x.contiguous(memory_format=torch.channels_last), w, *rest).contiguous()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def require_invariant(graph: nir.NIRGraph, x: Tensor, seed: int) -> None:
    """All that a certificate promises."""
    expected = reference.run(graph, x.numpy(), record=list(graph.nodes))  # stepped, float64
    plain = everything(graph, x)
    require_same(expected, plain)
    require_same(plain, everything(graph, x, dtype=torch.float64))
    require_same(plain, everything(graph, x, fuse=False))
    for change in (shuffled(seed), shuffled(seed + 1), channels_last):
        with convolutions(change):
            require_same(plain, everything(graph, x))
    for count in (1, 2):
        with threads(count):
            require_same(plain, everything(graph, x))
    alone = everything(graph, x[:, :1])
    for node, value in alone.potentials.items():
        np.testing.assert_array_equal(value, plain.potentials[node][:, :1], err_msg=node)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 2, 3]))
def test_certified_graphs_are_invariant(seed: int, steps: int) -> None:
    graph, x = candidate(seed, steps), frames(seed, steps)
    found = certify(graph, inputs=GRID, time_steps=steps)
    if found.certified:
        require_invariant(graph, x, seed)


@pytest.mark.parametrize("steps", [1, 3])
def test_enough_of_the_random_graphs_are_certified_and_alive(steps: int) -> None:
    """Otherwise the test above would prove nothing."""
    certified, alive, ties = 0, 0, 0
    for seed in range(16):
        graph = candidate(seed, steps)
        found = certify(graph, inputs=GRID, time_steps=steps)
        if found.certified:
            certified += 1
            trace = reference.run(graph, frames(seed, steps).numpy(), record="all")
            rates = [spikes.mean() for spikes in trace.spikes.values()]
            alive += 0.02 < float(np.mean(rates)) < 0.7
            ties += found.margin == 0
    assert certified >= 8
    assert alive >= certified / 2
    assert 0 < ties < certified


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 2, 3]))
def test_bounds_hold_for_everything_that_is_observed(seed: int, steps: int) -> None:
    graph, x = candidate(seed, steps), frames(seed, steps)
    found = certify(graph, dtype="float64", inputs=GRID, time_steps=steps)
    trace = reference.run(graph, x.numpy(), record=list(graph.nodes))
    for name, node in found.nodes.items():
        value = trace.spikes.get(name, trace.potentials[name])
        assert value.min() >= node.low, name
        assert value.max() <= node.high, name
        if node.grid is None:
            assert not value.any(), name
        else:
            units = value / 2.0**node.grid
            assert np.array_equal(units, np.round(units)), name


def nnpack(honest: Any) -> Any:
    """Without oneDNN, torch takes NNPACK for many convolutions: it sums by Winograd's transform."""

    def conv(*arguments: Any) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of torch, on switches of other devices
            with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=True):
                y: Tensor = honest(*arguments)
                return y

    return conv


def other_sums(graph: nir.NIRGraph, x: Tensor) -> tuple[Trace, Trace]:
    """(as usual, by NNPACK)."""
    plain = everything(graph, x)
    with convolutions(nnpack):
        return plain, everything(graph, x)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 3]))
def test_the_margin_protects_spikes_from_winograd_sums(seed: int, steps: int) -> None:
    graph, x = candidate(seed, steps), frames(seed, steps)
    found = certify(graph, inputs=GRID, time_steps=steps)
    if found.certified and found.margin == 0.5:
        require_same(*other_sums(graph, x), only_spikes=True)


def test_without_a_margin_winograd_sums_do_change_spikes() -> None:
    rounded = changed = kept = 0
    for seed in range(40):
        graph, x = candidate(seed, 1), frames(seed, 1)
        found = certify(graph, inputs=GRID, time_steps=1)
        if found.certified:
            plain, other = other_sums(graph, x)
            differs = any((other.spikes[node] != spikes).any() for node, spikes in plain.spikes.items())
            rounded += any((other.potentials[node] != value).any() for node, value in plain.potentials.items())
            changed += differs and found.margin == 0
            kept += found.margin == 0.5
            assert not (differs and found.margin == 0.5)
    assert rounded > 0  # it really is another algorithm
    assert changed > 0
    assert kept > 3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(-1, 3))
def test_beyond_the_bound_a_witness_diverges(seed: int, excess: int) -> None:
    """weights (a, 1, -a): a float32 sum loses the one exactly where the certificate says so."""
    rng = np.random.default_rng(seed)
    a = 2.0 ** (24 + excess)
    scale = 2.0 ** int(rng.integers(-20, 20))
    sketch = start((3,))
    sketch.add(nir.Affine(np.array([[a, 1.0, -a]]) * scale, np.zeros(1)), ["input"], (1,), "fc")
    sketch.like(nir.Threshold(full(scale / 2, (1,))), ["fc"], "fire")
    sketch.output(["fire"], "out")
    graph, x = sketch.graph(), torch.ones(1, 1, 3, dtype=torch.float64)
    found = certify(graph, inputs=InputGrid(0, 0.0, 1.0))
    expected = reference.run(graph, x.numpy()).outputs["out"].item()
    assert expected == 1
    orders = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0]]
    spikes = set()
    for order in orders:
        total = np.float32(0)
        for index in order:
            total += np.float32(np.array([a, 1.0, -a])[index] * scale)
        spikes.add(bool(total > np.float32(scale / 2)))
    if found.certified:
        assert excess < 0
        assert spikes == {True}
    else:
        assert excess >= 0
        assert found.why[0].startswith("node 'fc'")
        assert False in spikes


@pytest.mark.parametrize("backend", ["reference", "snntorch", "norse", "spikingjelly", "sinabs", "jax", "brian2"])
def test_certified_for_float32_means_the_same_bits_on_every_backend(backend: str) -> None:
    """I-LIF at T = 1, and IF, LIF and soft reset at T = 3."""
    compared = 0
    for seed, steps in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (8, 3), (9, 3)):
        graph, x = candidate(seed, steps), frames(seed, steps)[:, :16]
        if certify(graph, inputs=GRID, time_steps=steps).certified:
            expected = reference.run(graph, x.numpy(), record="all")
            found = get_backend(backend).build(graph, dtype=torch.float32).run(x, record="all")
            require_same(expected, found)
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly", "sinabs", "jax"])
def test_certified_for_float64_at_sixteen_steps(backend: str) -> None:
    """LIF and soft reset lose a bit per step: float32 cannot hold sixteen of them, float64 can."""
    compared = 0
    for seed in range(8):
        graph, x = candidate(seed, 16), frames(seed, 16)[:, :16]
        single = certify(graph, dtype="float32", inputs=GRID, time_steps=16)
        double = certify(graph, dtype="float64", inputs=GRID, time_steps=16)
        if double.certified and not single.certified:
            expected = reference.run(graph, x.numpy(), record="all")
            found = get_backend(backend).build(graph, dtype=torch.float64).run(x, record="all")
            require_same(expected, found)
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize(
    ("backend", "seeds"),
    [("snntorch", 60), ("norse", 60), ("spikingjelly", 60), ("sinabs", 60), ("jax", 12), ("brian2", 12)],
)
def test_small_graphs_of_every_kind_give_the_same_bits_on_every_backend(backend: str, seeds: int) -> None:
    """Parameters in every form that broadcasts, feedback, delays, several inputs; certified for float32 or float64."""
    compared = 0
    for seed in range(seeds):
        case = seeded(seed)
        if case.is_ambiguous:
            continue
        proof = certify(case.graph, dtype=case.dtype, inputs=case.grids, time_steps=case.steps, dt=case.dt)
        if not proof.certified:
            continue
        x = case.inputs(np.random.default_rng(seed))
        expected = reference.run(case.graph, x, dt=case.dt, record=list(case.graph.nodes))
        built = get_backend(backend).build(case.graph, dtype=getattr(torch, case.dtype), dt=case.dt)
        found = built.run({name: torch.from_numpy(value) for name, value in x.items()}, record=list(case.graph.nodes))
        require_same(expected, found)
        compared += 1
    assert compared >= seeds / 3
