"""Runnables and detectors as Python objects: pickled, saved, copied, moved to a device without data."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from tests.equivalence.graphs import Sketch, full, random_graph, start
from zoo.adapters.base import BACKENDS, get_backend

TORCH_BACKENDS = ("snntorch", "norse", "spikingjelly", "sinabs")


def saved(value: Any) -> Any:
    """Through ``torch.save`` and ``torch.load``."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "torch.save": saved,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_of_a_runnable_gives_the_same_bits(backend: str, how: str) -> None:
    sketch = start((6,), seed=5)
    hidden = sketch.like(sketch.neuron("LIF", (6,)), [sketch.add(nir.Linear(sketch.weights(6, 6)), ["input"], (6,))])
    levels = sketch.soft_reset([hidden, "input"], 3, 0.75)
    sketch.output([sketch.add(nir.Linear(sketch.weights(6, 6)), [*levels, hidden], (6,))], "out")
    runnable: Any = get_backend(backend).build(sketch.graph())
    x = torch.randn(12, 3, 6, generator=torch.Generator().manual_seed(0))
    expected = runnable.run(x, record="all")
    twin = COPIES[how](runnable)
    found = twin.run(x, record="all")
    for name, value in expected.potentials.items():
        np.testing.assert_array_equal(found.potentials[name], value)
    np.testing.assert_array_equal(found.outputs["out"], expected.outputs["out"])
    assert twin.own_cells == runnable.own_cells
    assert twin.notes == runnable.notes
    assert twin.graph.edges == runnable.graph.edges


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_a_copy_has_all_plans_and_gradients(backend: str, how: str) -> None:
    runnable: Any = get_backend(backend).build(random_graph(3))
    x = torch.randn(4, 2, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    runnable.run(x, record=list(runnable.graph.nodes))
    twin = COPIES[how](runnable.train())
    assert twin.training
    for one in (runnable, twin):
        sum(value.sum() for value in one(x).values()).backward()
    for (name, p), (other, q) in zip(runnable.named_parameters(), twin.named_parameters(), strict=True):
        assert name == other
        assert p is not q
        assert p.grad is q.grad is None or torch.equal(p.grad, q.grad)
    everything = list(runnable.graph.nodes)
    a, b = (one.run(x, record=everything).potentials for one in (runnable, twin))
    assert all(np.array_equal(a[name], b[name]) for name in everything)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(
    ("name", "backend"), [("ems-yolo-digits", "snntorch"), ("ems-yolo-digits", "norse"), ("spikeyolo-digits", "sinabs")]
)
def test_a_copy_of_a_detector_gives_the_same_bits(name: str, backend: str, how: str) -> None:
    detector = zoo.load(name, backend=backend)
    images = torch.rand(2, 3, *detector.image_size, generator=torch.Generator().manual_seed(0))
    twin = COPIES[how](detector)
    assert all(torch.equal(a, b) for a, b in zip(detector(images), twin(images), strict=True))
    assert twin.class_names == detector.class_names


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("arch", ["spikeyolo-n", "ems-yolo-pico", "eas-snn-pico"])
def test_a_trainable_detector_can_be_copied(arch: str, how: str) -> None:
    """The surrogates of all neurons of the zoo."""
    steps = {"spikeyolo-n": 1}.get(arch, 2)
    detector = zoo.create(arch, num_classes=2, time_steps=steps)
    twin = COPIES[how](detector)
    for (name, p), (other, q) in zip(detector.named_parameters(), twin.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(p, q)


# no data-dependent branch: torch's meta device has none to look at


def loops_and_pools() -> Sketch:
    sketch = start((4, 6, 6), seed=1)
    conv = sketch.conv(["input"], 4, padding=(1, 1))
    levels = sketch.soft_reset([conv, "input"], 4, 0.5)
    window = (np.array([3, 3]), np.array([1, 1]), np.array([1, 1]))
    pools = [sketch.like(nir.SumPool2d(*window), [level]) for level in levels]
    tops = [sketch.like(nir.Threshold(full(0.5, (4, 6, 6))), [pool]) for pool in pools]
    feedback = sketch.like(sketch.neuron("LIF", (4, 6, 6)), [sketch.conv(tops, 4, padding=(1, 1))])
    sketch.edges.append((sketch.conv([feedback], 4, padding=(1, 1)), feedback))
    sketch.output([feedback, *sketch.soft_reset([feedback], 1, 0.5, theta=0.7)], "out")
    return sketch


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_every_torch_backend_runs_without_looking_at_data(backend: str, fuse: bool) -> None:
    for graph, shape in ((random_graph(2), (2, 7, 6)), (loops_and_pools().graph(), (4, 6, 6))):
        runnable: Any = get_backend(backend).build(graph, device="meta", fuse=fuse)
        x = torch.zeros(3, 2, *shape, device="meta")
        for train in (False, True):
            runnable.train(train)
            outputs: dict[str, Tensor] = runnable(x)
            assert {value.device.type for value in outputs.values()} == {"meta"}
            torch.stack([value.sum() for value in outputs.values()]).sum().backward()
