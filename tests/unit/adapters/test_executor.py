"""The executor as a torch module: memory, recording, training, copies, devices and types."""

from __future__ import annotations

import copy
import gc
import sys
import weakref

import nir
import numpy as np
import pytest
import snntorch
import torch
from torch import Tensor

from tests.equivalence.graphs import Sketch, full, start
from zoo.adapters.base import BACKENDS, get_backend
from zoo.adapters.executor import TorchRunnable
from zoo.adapters.ops import tensor
from zoo.adapters.units import Context, Key
from zoo.errors import InvalidInputError, MissingFrameworkError


def classifier(*, fields: dict[str, float] | None = None) -> Sketch:
    """Conv2d, LIF, SumPool2d, Flatten, Affine, LI: small, but trainable."""
    sketch = start((2, 6, 6), seed=1)
    conv = sketch.conv(["input"], 4, padding=(1, 1))
    values = {"tau": 2.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 0.5, "v_reset": 0.0, **(fields or {})}
    neuron = sketch.like(nir.LIF(**{name: full(v, (4, 6, 6)) for name, v in values.items()}), [conv], "neuron")
    pool = sketch.add(nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), [neuron], (4, 3, 3))
    flat = sketch.add(nir.Flatten({"input": np.array((4, 3, 3))}, 0, -1), [pool], (36,))
    affine = sketch.add(nir.Affine(sketch.weights(3, 36), np.zeros(3)), [flat], (3,), "head.affine")
    sketch.output([sketch.like(nir.LI(full(2, (3,)), full(1, (3,)), full(0, (3,))), [affine], "decision")], "out")
    return sketch


def build(sketch: Sketch, backend: str = "snntorch", **options: object) -> TorchRunnable:
    runnable = get_backend(backend).build(sketch.graph(), **options)  # type: ignore[arg-type]
    assert isinstance(runnable, TorchRunnable)
    return runnable


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 8, 2, 6, 6, generator=generator), torch.arange(8) % 3


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("backend", ["snntorch", "norse"])
def test_a_runnable_trains(backend: str, fuse: bool) -> None:
    runnable, (x, labels) = build(classifier(), backend, fuse=fuse), batch()
    before = {name: value.detach().clone() for name, value in runnable.named_parameters()}
    assert len(before) == 4
    optimiser = torch.optim.SGD(runnable.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(runnable(x)["out"].mean(0), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(not torch.equal(before[name], value) for name, value in runnable.named_parameters())
    conv = runnable.parameters_of("Conv2d.1")
    assert set(conv) == {"weight", "bias"}
    assert conv["weight"].grad is not None
    assert conv["weight"].grad.abs().sum() > 0
    assert runnable.parameters_of("neuron") == {}


@pytest.mark.parametrize("levels", [["Threshold.2"], ["Threshold.2", "Threshold.3"], ["Threshold.3"]])
def test_gradients_pass_banks_and_loops_however_they_are_read(levels: list[str]) -> None:
    for loop in (False, True):
        sketch = start((2, 4, 4), seed=2)
        conv = sketch.conv(["input"], 2, padding=(1, 1))
        names = sketch.soft_reset([conv], 2, 0.5) if loop else sketch.bank([conv], 2)
        chosen = [name for name in names if int(name.split(".")[1]) - int(names[0].split(".")[1]) + 2 in
                  {int(level.split(".")[1]) for level in levels}]  # fmt: skip
        sketch.output(chosen, "out")
        runnable = build(sketch)
        runnable(torch.randn(3, 2, 2, 4, 4))["out"].sum().backward()
        grad = runnable.parameters_of("Conv2d.1")["weight"].grad
        assert grad is not None
        assert grad.abs().sum() > 0


def test_training_leaves_rearrangements_alone() -> None:
    sketch = start((2, 4, 4))
    weight = np.zeros((4, 2, 1, 1))
    weight[[1, 2], [0, 1]] = 1
    sketch.output([sketch.add(nir.Conv2d(None, weight, 1, 0, 1, 1, np.zeros(4)), ["input"], (4, 4, 4))], "out")
    for fuse in (True, False):
        assert not [p for p in build(sketch, fuse=fuse).parameters() if p.requires_grad]


def test_a_copy_is_independent() -> None:
    runnable, (x, _) = build(classifier()), batch()
    runnable(x)["out"].sum().backward()  # leaves nothing behind that cannot be copied
    twin = copy.deepcopy(runnable)
    with torch.no_grad():
        twin.parameters_of("head.affine")["bias"].add_(1)
    out, changed = runnable(x)["out"], twin(x)["out"]
    assert not torch.equal(out, changed)
    assert torch.equal(out, build(classifier())(x)["out"])
    twin.load_state_dict(runnable.state_dict())
    assert torch.equal(out, twin(x)["out"])


def test_state_dict_holds_weights_only() -> None:
    keys = set(build(classifier()).state_dict())
    assert keys == {f"ops.{node}.{part}" for node in ("/Conv2d/1", "/head/affine") for part in ("weight", "bias")}


def test_snntorch_does_not_keep_cells_alive() -> None:
    before = len(snntorch.SpikingNeuron.instances)
    runnable = build(classifier())
    assert any(isinstance(module, snntorch.Leaky) for module in runnable.modules())
    assert len(snntorch.SpikingNeuron.instances) == before
    reference = weakref.ref(runnable)
    del runnable
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("fields", [{}, {"v_leak": 0.25}, {"v_reset": 0.1}])
@pytest.mark.parametrize("backend", ["snntorch", "norse"])
def test_everything_moves_to_the_device(backend: str, fields: dict[str, float]) -> None:
    """On torch's meta device an operation that mixes devices fails."""
    sketch = classifier(fields=fields)
    sketch.nodes["neuron"].tau = np.random.default_rng(0).uniform(2, 3, (4, 6, 6))  # no 0-d tensor, which may mix
    levels = sketch.bank(["neuron"], 2)
    sketch.nodes[levels[0]].threshold = np.random.default_rng(0).uniform(0, 0.5, (4, 6, 6))
    sketch.output(sketch.soft_reset(levels, 2, 0.5, theta=0.7), "more")
    sketch.output([sketch.like(nir.Delay(1.0 + np.arange(144.0).reshape(4, 6, 6) % 2), levels)], "delayed")
    for runnable in (build(sketch, backend, device="meta"), build(sketch, backend).to("meta")):
        assert {tensor.device.type for tensor in runnable.state_dict(keep_vars=True).values()} == {"meta"}
        outputs = runnable(torch.zeros(3, 2, 2, 6, 6))
        assert {value.device.type for value in outputs.values()} == {"meta"}


def test_the_type_is_fixed_when_a_runnable_is_built() -> None:
    runnable = build(classifier())
    assert runnable(batch()[0].double())["out"].dtype == torch.float32
    with pytest.raises(InvalidInputError, match="build it again with dtype"):
        runnable.double()
    with pytest.raises(InvalidInputError, match="float16"):
        build(classifier(), dtype=torch.float16)
    with pytest.raises(InvalidInputError, match="dt must be a positive number"):
        build(classifier(), dt=-1.0)


def test_names_of_submodules_are_unambiguous() -> None:
    sketch = start((2, 4, 4), seed=3)
    names = ["a.b", "a/b", "a%2Fb", "a%b", "type", "0", "keys"]
    for name in names:
        node = nir.Conv2d(None, sketch.weights(2, 2, 1, 1), 1, 0, 1, 1, sketch.weights(2))
        sketch.output([sketch.add(node, ["input"], (2, 4, 4), name)], f"out {name}")
    runnable = build(sketch)
    for name in names:
        weight = runnable.parameters_of(name)["weight"].detach().numpy()
        np.testing.assert_array_equal(weight, sketch.nodes[name].weight.astype(np.float32))


def test_values_are_dropped_after_their_last_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    sketch = start((1,))
    previous = "input"
    for _ in range(50):
        previous = sketch.like(nir.Scale(full(1.5, (1,))), [previous])
    sketch.output([previous], "out")
    runnable, most = build(sketch), 0
    put = Context.put

    def counted(context: Context, key: Key, value: Tensor) -> None:
        nonlocal most
        put(context, key, value)
        most = max(most, len(context.values))

    monkeypatch.setattr(Context, "put", counted)
    runnable(torch.ones(1, 1, 1))
    assert 1 <= most <= 2


def test_what_nobody_needs_is_not_computed_but_can_be_recorded() -> None:
    sketch = start((3,))
    sketch.like(nir.Threshold(full(0.5, (3,))), ["input"], "dead")
    sketch.output(["input"], "out")
    runnable, x = build(sketch), torch.rand(2, 2, 3)
    units, _ = runnable._schedule(frozenset(), False)
    assert [list(unit.makes) for unit in units] == [["out"]]
    np.testing.assert_array_equal(runnable.run(x, record=["dead"]).spikes["dead"], (x > 0.5).float().numpy())
    trace = runnable.run(x, record=["input", "out"])
    assert trace.spikes == {}
    np.testing.assert_array_equal(trace.potentials["input"], x.numpy())
    np.testing.assert_array_equal(trace.potentials["out"], x.numpy())


def test_several_inputs() -> None:
    sketch = start((3,))
    sketch.add(nir.Input({"input": np.array([3])}), [], (3,), "second")
    sketch.output(["second", "input"], "out")
    x = {"input": torch.rand(2, 4, 3), "second": torch.rand(2, 4, 3)}
    for backend in BACKENDS:
        runnable = get_backend(backend).build(sketch.graph())
        assert torch.equal(runnable(x)["out"].float(), x["input"] + x["second"])
        with pytest.raises(InvalidInputError, match="second"):
            runnable(x["input"])
    with pytest.raises(InvalidInputError, match="same number of time steps"):
        build(sketch)({"input": x["input"], "second": x["second"][:1]})


def test_numbers_that_are_not_finite_are_refused() -> None:
    x = batch()[0]
    x[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(InvalidInputError, match="NaN"):
        build(classifier())(x)


def test_constants_are_rounded_once() -> None:
    assert tensor(np.float64(0.1), torch.float32).item() == np.float32(0.1)
    assert tensor(np.broadcast_to(np.float32(0.5), (64, 640, 640)), torch.float32).shape == ()


def test_unknown_and_missing_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'norse'"):
        get_backend("norze")
    with pytest.raises(InvalidInputError, match="reference, snntorch, norse"):
        get_backend("tensorflow")
    monkeypatch.setitem(BACKENDS, "norse", "a_module_that_is_not_there")
    with pytest.raises(MissingFrameworkError, match=r"nir-zoo\[norse\]"):
        get_backend("norse")


@pytest.mark.parametrize(
    ("backend", "module", "name"),
    [
        ("snntorch", "snntorch.surrogate", "ATan"),
        ("norse", "norse.torch.functional.lif_box", "lif_box_feed_forward_step"),
        ("spikingjelly", "spikingjelly.activation_based.functional", "lif_step"),
        ("sinabs", "sinabs.layers.functional.lif", "lif_forward_single"),
        ("jax", "spyx", "axn"),
    ],
)
def test_a_framework_of_another_version_is_a_missing_framework(
    backend: str, module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that lacks a name that the adapter uses, as an older or a newer one may."""
    get_backend(backend)
    for loaded in [m for m in sys.modules if m.startswith(f"zoo.adapters.{backend}")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.delattr(sys.modules[module], name)
    with pytest.raises(MissingFrameworkError, match=name):
        get_backend(backend)


def test_a_fault_of_an_adapter_is_no_missing_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "zoo.adapters.norse", raising=False)
    monkeypatch.delattr("zoo.adapters.membranes.MembraneCell")
    with pytest.raises(ImportError, match="MembraneCell"):
        get_backend("norse")


@pytest.mark.parametrize(
    ("backend", "package", "advice"),
    [
        ("spikingjelly", "spikingjelly", r"nir-zoo\[spikingjelly\]"),
        ("sinabs", "sinabs", "--no-deps sinabs"),
        ("jax", "spyx", r"nir-zoo\[jax\]"),
        ("brian2", "brian2", r"nir-zoo\[brian2\]"),
    ],
)
def test_every_missing_framework_says_how_to_get_it(
    backend: str, package: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingFrameworkError, match=advice):
        get_backend(backend)
