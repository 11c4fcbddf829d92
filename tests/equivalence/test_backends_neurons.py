"""Each neuron on each backend, on inputs that tie with the threshold, and proof that the naive mappings fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import nir
import numpy as np
import numpy.typing as npt
import pytest
import snntorch
import torch
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
from norse.torch.module.lif_box import LIFBoxCell
from torch import Tensor

from tests.equivalence.graphs import SPIKING_KINDS, full, start
from zoo.adapters.base import get_backend
from zoo.nir_graphs import reference

STEPS, BATCH, WIDTH = 24, 32, 8
FRAMEWORKS = ("snntorch", "norse", "spikingjelly", "sinabs", "jax", "brian2")
Array = npt.NDArray[np.float64]


def grid(seed: int = 0, steps: int = STEPS) -> Tensor:
    """Inputs in quarters: ties with thresholds are common."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(-6, 15, (steps, BATCH, WIDTH)) / 4)


def single(node: nir.NIRNode) -> nir.NIRGraph:
    """Input -> ``neuron`` -> Output."""
    sketch = start((WIDTH,))
    sketch.like(node, ["input"], "neuron")
    sketch.output(["neuron"], "out")
    return sketch.graph()


def lif(tau: float = 5.0, threshold: float = 0.3, **fields: float) -> nir.LIF:
    values = {"tau": tau, "r": 1.0, "v_leak": 0.0, "v_threshold": threshold, "v_reset": 0.0, **fields}
    return nir.LIF(**{name: full(value, (WIDTH,)) for name, value in values.items()})


ROWS = [
    ({"tau": tau, "threshold": threshold, **extra}, own)
    for tau, threshold in ((2.0, 1.0), (5.0, 0.3), (1.25, 1.0), (0.8, 0.5), (7.0, 1.5))
    for extra, own in (
        ({}, ("snntorch", "norse", "spikingjelly", "sinabs")),
        ({"v_leak": 0.25}, ("snntorch", "norse", "spikingjelly", "sinabs")),
        ({"r": 1.7}, ("snntorch", "norse", "spikingjelly", "sinabs")),
        ({"v_reset": -0.25}, ("norse", "spikingjelly")),
        ({"v_leak": -0.125, "v_reset": 0.125, "r": 3.0}, ("norse", "spikingjelly")),
    )
]


@pytest.mark.parametrize(("fields", "own"), ROWS)
def test_lif_has_the_bits_of_the_reference_where_inputs_tie(fields: dict[str, float], own: tuple[str, ...]) -> None:
    graph, x = single(lif(**fields)), grid()
    expected = reference.run(graph, x.numpy(), record="all")
    assert 0.01 < expected.spikes["neuron"].mean() < 0.9
    for name in FRAMEWORKS:
        runnable = get_backend(name).build(graph, dtype=torch.float64)
        trace = runnable.run(x, record="all")
        np.testing.assert_array_equal(trace.spikes["neuron"], expected.spikes["neuron"])
        np.testing.assert_array_equal(trace.potentials["neuron"], expected.potentials["neuron"])
        assert runnable.own_cells == (int(name in (*own, "brian2")), 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"tau": 2.0, "threshold": -0.5},
        {"tau": 5.0, "threshold": 0.0},
        {"tau": 3.0, "threshold": -0.5, "v_leak": -0.5},
        {"tau": 5.0, "threshold": -0.25, "v_reset": -1.0},
    ],
)
def test_thresholds_of_zero_and_below(fields: dict[str, float]) -> None:
    """There a neuron at rest is at its threshold, or above it."""
    graph, x = single(lif(**fields)), grid() - 1.5
    expected = reference.run(graph, x.numpy(), record="all")
    assert 0.1 < expected.spikes["neuron"].mean() < 0.5
    for name in FRAMEWORKS:
        trace = get_backend(name).build(graph, dtype=torch.float64).run(x, record="all")
        np.testing.assert_array_equal(trace.spikes["neuron"], expected.spikes["neuron"], err_msg=name)
        np.testing.assert_array_equal(trace.potentials["neuron"], expected.potentials["neuron"], err_msg=name)


@pytest.mark.parametrize("dt", [1.0, 0.5, 1e-4])
@pytest.mark.parametrize("kind", ["IF", "LI", "I", "CubaLIF", "CubaLI", "LIF", "Threshold"])
def test_every_neuron_has_the_bits_of_the_reference(kind: str, dt: float) -> None:
    sketch = start((WIDTH,), seed=3)
    node = sketch.neuron(kind, (WIDTH,))
    for field in ("tau", "tau_syn", "tau_mem"):
        if hasattr(node, field):
            setattr(node, field, (getattr(node, field) * dt).astype(np.float32))
    if kind in {"IF", "I"}:
        node.r = (node.r / dt).astype(np.float32)
    graph, x = single(node), grid(1)
    expected = reference.run(graph, x.numpy(), dt=dt, record="all")
    if kind in SPIKING_KINDS:
        assert 0.05 < expected.spikes["neuron"].mean() < 0.7
    for name in FRAMEWORKS:
        trace = get_backend(name).build(graph, dtype=torch.float64, dt=dt).run(x, record="all")
        np.testing.assert_array_equal(trace.potentials["neuron"], expected.potentials["neuron"])
        np.testing.assert_array_equal(trace.outputs["out"], expected.outputs["out"])
        assert trace.spikes.keys() == expected.spikes.keys()


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("LIF", (1, 1, 1, 1, 0, 1)),
        ("IF", (1, 1, 1, 1, 0, 1)),
        ("LI", (1, 1, 1, 1, 1, 1)),
        ("I", (1, 0, 1, 1, 1, 1)),
        ("CubaLIF", (1, 1, 1, 1, 0, 1)),
        ("CubaLI", (1, 1, 1, 1, 1, 1)),
    ],
)
def test_own_cells_are_counted_honestly(kind: str, own: tuple[int, ...]) -> None:
    sketch = start((WIDTH,), seed=3)
    node = sketch.neuron(kind, (WIDTH,))
    if hasattr(node, "v_reset"):
        node.v_reset = full(0, (WIDTH,))
    for name, count in zip(FRAMEWORKS, own, strict=True):
        runnable = get_backend(name).build(single(node))
        assert runnable.own_cells == (count, 1)
        if name in {"jax", "brian2"}:
            continue
        assert (name in packages_called(partial(runnable, torch.zeros(2, 1, WIDTH)))) is bool(count)


def packages_called(call: Callable[[], object]) -> set[str]:
    """Top-level packages whose Python code runs in a call."""
    packages: set[str] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            packages.add(str(frame.f_globals.get("__name__")).split(".")[0])

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return packages


def test_ties_do_occur_and_strictness_decides_them() -> None:
    graph, x = single(lif(tau=2.0, threshold=1.0)), grid()
    expected = reference.run(graph, x.numpy(), record="all")
    ties = expected.potentials["neuron"] == 1.0
    assert ties.sum() > 20
    assert not expected.spikes["neuron"][ties].any()


# What backends must not do. Each naive mapping gives other spikes on the very inputs that the tests above use.


def leaky(x: Array, k: float, threshold: float, *, reset: str = "zero") -> Array:
    """snntorch.Leaky as in its own tutorials."""
    beta, at = (torch.tensor(value, dtype=torch.float64) for value in (1 - k, threshold))
    cell = snntorch.Leaky(beta=beta, threshold=at, reset_mechanism=reset)
    snntorch.SpikingNeuron.instances.remove(cell)
    v, spikes = torch.zeros(x.shape[1:], dtype=torch.float64), []
    for current in torch.from_numpy(x):
        z, v = cell(current * k, v)
        spikes.append(z)
    return torch.stack(spikes).numpy()


def test_leaky_with_its_own_decay_differs_where_inputs_tie() -> None:
    differing = 0
    for tau, threshold in ((5.0, 0.3), (10.0, 0.3), (2.5, 1.5), (5.0, 1.5)):
        x = grid(steps=64)
        expected = reference.run(single(lif(tau=tau, threshold=threshold)), x.numpy(), record="all").spikes["neuron"]
        differing += int((leaky(x.numpy(), 1 / tau, threshold) != expected).sum())
    assert differing > 0


def test_subtractive_reset_differs() -> None:
    x = grid()
    expected = reference.run(single(lif(tau=2.0, threshold=1.0)), x.numpy(), record="all").spikes["neuron"]
    assert np.array_equal(leaky(x.numpy(), 0.5, 1.0), expected)  # dyadic: even its own decay is exact
    assert (leaky(x.numpy(), 0.5, 1.0, reset="subtract") != expected).mean() > 0.01


def test_inclusive_threshold_differs() -> None:
    x = grid()
    expected = reference.run(single(lif(tau=2.0, threshold=1.0)), x.numpy(), record="all").spikes["neuron"]
    below = float(np.nextafter(1.0, -np.inf))  # > below is >= 1
    assert (leaky(x.numpy(), 0.5, below) != expected).any()


def test_another_dt_differs() -> None:
    x, graph = grid(), single(lif(tau=2.0, threshold=1.0))
    expected = reference.run(graph, x.numpy(), record="all").spikes["neuron"]
    for name in FRAMEWORKS:
        for dt in (1e-3, 0.5):
            trace = get_backend(name).build(graph, dtype=torch.float64, dt=dt).run(x, record="all")
            assert (trace.spikes["neuron"] != expected).any()


def test_norse_left_alone_starts_at_its_leak() -> None:
    x = grid()
    fields = {"tau": 5.0, "threshold": 1.0, "v_leak": 0.75}
    expected = reference.run(single(lif(**fields)), x.numpy(), record="all").spikes["neuron"]
    k, leak, th, zero = (torch.tensor(v, dtype=torch.float64) for v in (0.2, 0.75, 1.0, 0.0))
    cell = LIFBoxCell(LIFBoxParameters(tau_mem_inv=k, v_leak=leak, v_th=th, v_reset=zero), dt=1.0)

    def spikes(state: LIFBoxFeedForwardState | None) -> Array:
        out = []
        for current in x:
            z, state = cell(current, state)
            out.append(z.detach())
        return torch.stack(out).numpy()

    assert (spikes(None) != expected).any()
    assert np.array_equal(spikes(LIFBoxFeedForwardState(torch.zeros_like(x[0]))), expected)


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")
def test_stock_norse_ignores_r() -> None:
    """norse.torch.from_nir takes a file with an input gain and runs it without."""
    import norse.torch

    sketch = start((WIDTH,), seed=5)
    sketch.add(nir.Affine(np.eye(WIDTH), np.zeros(WIDTH)), ["input"], (WIDTH,), "fc")
    sketch.like(lif(tau=5.0, threshold=1.0, r=3.0), ["fc"], "neuron")
    sketch.output(["neuron"], "out")
    graph, x = sketch.graph(), grid()
    expected = reference.run(graph, x.numpy(), record="all").spikes["neuron"]
    mine = get_backend("norse").build(graph, dtype=torch.float64).run(x, record="all").spikes["neuron"]
    assert np.array_equal(mine, expected)
    network, state, stock = norse.torch.from_nir(graph, dt=1.0), None, []
    for current in x.float():
        out, state = network(current, state)
        stock.append(out.detach())
    assert (torch.stack(stock).numpy() != expected).mean() > 0.01
