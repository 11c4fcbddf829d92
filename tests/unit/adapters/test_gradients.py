"""Gradients: finite, those of the nodes whether kernels are fused or not, the frameworks' own, and there in eval mode too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import sinabs.activation
import sinabs.layers
import snntorch
import torch
from norse.torch.functional.threshold import threshold as norse_threshold
from spikingjelly.activation_based import neuron as spikingjelly
from spikingjelly.activation_based import surrogate as spikingjelly_surrogate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.equivalence.graphs import Sketch, full, random_graph, start
from zoo.adapters.base import get_backend
from zoo.adapters.executor import TorchRunnable
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.nodes import NEURONS
from zoo.nir_graphs.normalise import normalise

TORCH_BACKENDS = ("snntorch", "norse", "spikingjelly", "sinabs")
NARROW = {"snntorch", "sinabs"}
"""Their spikes are float32 whatever the type of the potential, and so are the gradients that pass them."""
Gradients = dict[str, Tensor]


def with_an_output_of_every_neuron(graph: nir.NIRGraph) -> FlatGraph:
    """Without, most of a random graph leads nowhere."""
    flat = normalise(graph)
    for name in flat.names(*NEURONS):
        graph.nodes[f"out {name}"] = nir.Output({"output": np.array(flat.nodes[name].shape)})
        graph.edges.append((name, f"out {name}"))
    return normalise(graph)


def build(graph: nir.NIRGraph | FlatGraph, backend: str, *, fuse: bool = True, train: bool = True) -> TorchRunnable:
    runnable = get_backend(backend).build(graph, dtype=torch.float64, fuse=fuse)
    assert isinstance(runnable, TorchRunnable)
    return runnable.train(train)


def gradients(runnable: TorchRunnable, x: Tensor) -> Gradients:
    """Of the weighted sum of all outputs: for every weight, and for the input."""
    x = x.clone().requires_grad_()
    generator = torch.Generator().manual_seed(9)
    loss = torch.zeros((), dtype=torch.float64)
    for value in runnable(x).values():
        loss = loss + (value * torch.randn(value.shape, generator=generator, dtype=torch.float64)).sum()
    loss.backward()
    leaves = {**dict(runnable.named_parameters()), "x": x}
    return {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def require_equal(a: Gradients, b: Gradients, backend: str) -> None:
    """Up to the order in which autograd adds."""
    assert a.keys() == b.keys()
    rtol = 1e-4 if backend in NARROW else 1e-9
    for name, value in a.items():
        assert value.isfinite().all(), name
        torch.testing.assert_close(b[name], value, rtol=rtol, atol=rtol * float(value.abs().max()), msg=name)


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
@pytest.mark.parametrize("seed", range(2))
def test_gradients_of_random_graphs_do_not_depend_on_fusing(seed: int, backend: str) -> None:
    graph, x = with_an_output_of_every_neuron(random_graph(seed)), noise(4, 2, 2, 7, 6, seed=seed)
    kinds = {node.kind for node in graph.nodes.values()}
    assert kinds >= {"LIF", "IF", "LI", "I", "CubaLIF", "CubaLI", "Threshold"}
    fused, single = (gradients(build(graph, backend, fuse=fuse), x) for fuse in (True, False))
    require_equal(single, fused, backend)
    assert sum(bool(value.abs().sum() > 0) for value in fused.values()) > 0.8 * len(fused)


def soft_resets(sketch: Sketch) -> None:
    first = sketch.soft_reset([sketch.conv(["input"], 4, padding=(1, 1))], 4, 0.25)
    second = sketch.soft_reset([sketch.conv(first, 4, padding=(1, 1))], 1, 0.9, theta=0.7)
    sketch.output([sketch.conv([*first, *second], 2)], "both")
    sketch.output([first[2]], "alone")


def banks(sketch: Sketch) -> None:
    current = sketch.conv(["input"], 4, padding=(1, 1))
    levels = sketch.bank([current])
    sketch.output([sketch.conv(levels, 3)], "integer neuron")
    other = sketch.bank(["input", current], first=0.25)
    sketch.output([sketch.like(nir.Scale(full(0.3, (4, 5, 5))), [current, *other])], "sum behind")
    sketch.output([other[1]], "alone")


def pools(sketch: Sketch) -> None:
    levels = sketch.bank([sketch.conv(["input"], 4, padding=(1, 1))])
    for _ in range(2):
        window = (np.array([3, 3]), np.array([1, 1]), np.array([1, 1]))
        summed = [sketch.like(nir.SumPool2d(*window), [level]) for level in levels]
        levels = [sketch.like(nir.Threshold(full(0.5, (4, 5, 5))), [pool]) for pool in summed]
    sketch.output([sketch.conv(levels, 2)], "pooled")


def placements(sketch: Sketch) -> None:
    current = sketch.conv(["input"], 4, padding=(1, 1))
    parts = []
    for offset in (0, 4):
        weight = np.zeros((8, 4, 1, 1))
        weight[offset + np.arange(4), np.arange(4)] = 1
        parts.append(sketch.add(nir.Conv2d(None, weight, 1, 0, 1, 1, np.zeros(8)), [current], (8, 5, 5)))
    sketch.output([sketch.conv(parts, 3)], "concatenated")


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
@pytest.mark.parametrize("make", [soft_resets, banks, pools, placements])
def test_gradients_of_each_fusion_are_those_of_its_nodes(make: Callable[[Sketch], None], backend: str) -> None:
    sketch = start((4, 5, 5), seed=6)
    make(sketch)
    x = noise(5, 3, 4, 5, 5, seed=1) * 2
    fused, single = (gradients(build(sketch.graph(), backend, fuse=fuse), x) for fuse in (True, False))
    require_equal(single, fused, backend)
    assert all(value.abs().sum() > 0 for value in fused.values())


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
@pytest.mark.parametrize("threshold", [-1.0, -1e-30, 0.0, 1e-45, 1e-30, 1e-3, 1.0, 1e6])
def test_gradients_are_finite_at_every_threshold(threshold: float, backend: str) -> None:
    """Sinabs's surrogate is as wide as the threshold is high: 0 / 0 where that is 0, and it grows without bound below."""
    sketch = start((2, 4, 4), seed=2)
    shape, at = (2, 4, 4), full(threshold, (2, 4, 4))
    spikes = sketch.like(nir.Threshold(at), [sketch.conv(["input"], 2, padding=(1, 1))])
    one, zero = full(1, shape), full(0, shape)
    for node in (nir.IF(one, at, zero), nir.LIF(2 * one, one, zero, at, zero)):
        spikes = sketch.like(node, [sketch.conv([spikes], 2, padding=(1, 1))])
    sketch.output([sketch.conv([spikes], 2)], "out")
    for dtype in (torch.float32, torch.float64):
        runnable: Any = get_backend(backend).build(sketch.graph(), dtype=dtype)
        for x in (noise(6, 2, *shape), torch.zeros(6, 2, *shape)):  # zero ties with a threshold of zero
            runnable.zero_grad()
            sum(value.sum() for value in runnable(x).values()).backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in runnable.parameters())


# the frameworks' own definitions


def stepped(cell: Any, x: Tensor) -> Tensor:
    """A cell of snnTorch or Norse from v = 0."""
    state, out = None, []
    for current in x:
        spikes, state = cell(
            current, torch.zeros_like(current) if state is None and cell.__module__[0] == "s" else state
        )
        out.append(spikes)
    return torch.stack(out)


def own_neuron(backend: str, x: Tensor) -> Tensor:
    """An integrate-and-fire neuron with the threshold 0.75, as the framework's own documentation writes it."""
    one = torch.ones((), dtype=torch.float64)
    if backend == "snntorch":
        cell = snntorch.Leaky(beta=one, threshold=0.75 * one, reset_mechanism="zero")
        return stepped(cell, x)
    if backend == "norse":
        return stepped(norse.IAFCell(norse.IAFParameters(v_th=0.75 * one, v_reset=0 * one)), x)
    if backend == "spikingjelly":
        return spikingjelly.IFNode(0.75, 0.0, spikingjelly_surrogate.ATan(), step_mode="m")(x)
    layer = sinabs.layers.IAF(
        spike_threshold=0.75 * one,
        spike_fn=sinabs.activation.SingleSpike,
        reset_fn=sinabs.activation.MembraneReset(),
    )
    return layer(x.transpose(0, 1)).transpose(0, 1)


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_the_gradient_of_a_neuron_is_the_frameworks_own(backend: str) -> None:
    shape = (3,)
    sketch = start(shape)
    sketch.output([sketch.like(nir.IF(full(1, shape), full(0.75, shape), full(0, shape)), ["input"])], "out")
    x = noise(12, 5, 3, seed=3) * 0.5
    weights = noise(12, 5, 3, seed=4)
    mine, own = x.clone().requires_grad_(), x.clone().requires_grad_()
    (build(sketch.graph(), backend)(mine)["out"] * weights).sum().backward()
    (own_neuron(backend, own) * weights).sum().backward()
    assert mine.grad is not None
    assert own.grad is not None
    assert own.grad.abs().sum() > 0
    torch.testing.assert_close(mine.grad, own.grad, rtol=1e-9, atol=1e-12)  # >= the next number above 0.75 is > 0.75


OWN_THRESHOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "snntorch": lambda x: snntorch.surrogate.atan()(x - 0.75),
    "norse": lambda x: norse_threshold(x - 0.75, "super", 100.0),
    "spikingjelly": lambda x: spikingjelly_surrogate.ATan()(x - 0.75),
    "sinabs": lambda x: sinabs.activation.SingleSpike.apply(x, 0.75, sinabs.activation.SingleExponential()),
}


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_the_gradient_of_a_threshold_is_the_frameworks_own(backend: str) -> None:
    sketch = start((3,))
    sketch.output([sketch.like(nir.Threshold(full(0.75, (3,))), ["input"])], "out")
    x = noise(12, 5, 3, seed=3)
    mine, own = x.clone().requires_grad_(), x.clone().requires_grad_()
    build(sketch.graph(), backend)(mine)["out"].sum().backward()
    OWN_THRESHOLDS[backend](own).sum().backward()
    assert mine.grad is not None
    assert own.grad is not None
    torch.testing.assert_close(mine.grad, own.grad, rtol=1e-9, atol=1e-12)


# eval mode


class Operations(TorchDispatchMode):
    """Counts what torch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operations(call: Callable[[], object]) -> Counter[str]:
    with Operations() as mode:
        call()
    return mode.counts


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_a_call_in_eval_mode_computes_what_inference_mode_does(backend: str) -> None:
    """The very same operations, although weights require gradients. In train mode it computes more."""
    runnable, x = build(random_graph(0), backend, train=False), noise(4, 2, 2, 7, 6)
    assert any(p.requires_grad for p in runnable.parameters())
    runnable(x)
    with torch.no_grad():
        expected = operations(lambda: runnable(x))
    views = {"aten.view.default", "aten.detach.default", "aten.alias.default"}  # cost nothing
    found = operations(lambda: runnable(x))
    assert {k: n for k, n in found.items() if k not in views} == {k: n for k, n in expected.items() if k not in views}
    trained = operations(lambda: runnable.train()(x))
    assert trained.total() > expected.total()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_a_recorded_call_gives_the_very_bits_of_a_fast_one(backend: str, dtype: torch.dtype) -> None:
    x = noise(6, 3, 2, 7, 6)
    for dyadic, given in ((False, x), (True, (4 * x).round() / 4)):
        graph = with_an_output_of_every_neuron(random_graph(2, dyadic=dyadic))
        for fuse in (True, False):
            runnable: Any = get_backend(backend).build(graph, dtype=dtype, fuse=fuse)
            fast, recorded = runnable(given), runnable.train()(given.clone().requires_grad_())
            assert all(value.requires_grad for value in recorded.values())
            assert all(torch.equal(value, fast[name]) for name, value in recorded.items())


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_gradients_in_eval_mode_are_those_of_train_mode(backend: str) -> None:
    graph, x = random_graph(1), noise(4, 2, 2, 7, 6)
    trained, evaluated = (gradients(build(graph, backend, train=train), x) for train in (True, False))
    for name, value in trained.items():
        assert torch.equal(value, evaluated[name]), name


def test_only_what_requires_gradients_gets_them() -> None:
    sketch = start((2, 5, 5))
    conv = sketch.conv(["input"], 3)
    sketch.output([conv], "out")
    sketch.output(["input"], "copy")
    runnable, x = build(sketch.graph(), "norse", train=False), noise(3, 2, 2, 5, 5)
    runnable.requires_grad_(False)
    assert not runnable(x)["out"].requires_grad
    weight = runnable.parameters_of(conv)["weight"].requires_grad_()
    outputs = runnable(x)
    outputs["copy"].add_(1)  # not the input itself
    assert torch.equal(x, noise(3, 2, 2, 5, 5))
    outputs["out"].sum().backward()
    assert weight.grad is not None
    assert runnable.parameters_of(conv)["bias"].grad is None
    runnable.requires_grad_(False)
    y = x.clone().requires_grad_()
    (2 * runnable(y)["copy"].sum()).backward()
    assert y.grad is not None
    assert torch.equal(y.grad, torch.full_like(y, 2.0))


def test_weights_that_change_before_backward_are_noticed() -> None:
    sketch = start((2, 5, 5))
    conv = sketch.conv(["input"], 3)
    sketch.output([conv], "out")
    runnable, x = build(sketch.graph(), "norse", train=False), noise(3, 2, 2, 5, 5)
    loss = runnable(x)["out"].sum()
    with torch.no_grad():
        runnable.parameters_of(conv)["weight"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_functional_calls_have_gradients_in_both_modes() -> None:
    sketch = start((2, 5, 5))
    sketch.output([sketch.like(nir.Threshold(full(0.5, (3, 3, 3))), [sketch.conv(["input"], 3)])], "out")
    x = noise(3, 2, 2, 5, 5)
    for train in (True, False):
        runnable = build(sketch.graph(), "norse", train=train)
        weights = {name: p.detach().clone().requires_grad_() for name, p in runnable.named_parameters()}
        loss = torch.func.functional_call(runnable, weights, (x,))["out"].sum()
        found = torch.autograd.grad(loss, list(weights.values()))
        assert all(value.abs().sum() > 0 for value in found)
