"""A runnable holds no state: eight threads share one, and each gets the bits that it would get alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from tests.equivalence.graphs import full, start
from zoo.adapters.base import BACKENDS, get_backend

THREADS, CALLS = 8, 50
SLOW = {"brian2": 2}
"""Calls of backends that build a simulation for each."""


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def everything() -> nir.NIRGraph:
    """Every kind of neuron, with and without feedback, on membranes whose state matters for long."""
    sketch = start((6,), seed=5)
    last = "input"
    for kind in ("LIF", "IF", "CubaLIF", "CubaLI", "LI", "I"):
        dense = sketch.add(nir.Linear(sketch.weights(6, 6)), [last, "input"], (6,))
        node = sketch.neuron(kind, (6,))
        if hasattr(node, "v_reset"):
            node.v_reset = full(0, (6,))  # what every framework has a cell of its own for
        last = sketch.like(node, [dense])
    levels = sketch.soft_reset([last, "input"], 3, 0.75)
    recurrent = sketch.like(sketch.neuron("LIF", (6,)), levels)
    sketch.edges.append((sketch.add(nir.Linear(-np.abs(sketch.weights(6, 6))), [recurrent], (6,)), recurrent))
    sketch.output([recurrent], "spikes")
    sketch.output([last], "potential")
    return sketch.graph()


def require_the_bits_of_one_thread(call: Callable[[Tensor], list[Any]], inputs: list[Tensor], calls: int) -> None:
    """Each thread runs its own input again and again, all of them at the same time."""
    expected = [call(x) for x in inputs]
    together = threading.Barrier(len(inputs))

    def wrong(index: int) -> int:
        together.wait()
        count = 0
        for _ in range(calls):
            found = call(inputs[index])
            count += any(not np.array_equal(a, b) for a, b in zip(found, expected[index], strict=True))
        return count

    with ThreadPoolExecutor(len(inputs)) as pool:
        assert list(pool.map(wrong, range(len(inputs)))) == [0] * len(inputs)
    assert any(not np.array_equal(a, b) for a, b in zip(expected[0], expected[1], strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_may_share_a_runnable(backend: str) -> None:
    runnable = get_backend(backend).build(everything())
    inputs = [torch.randn(16, 2, 6, generator=torch.Generator().manual_seed(i)) for i in range(THREADS)]
    rates = [float(runnable(x)["spikes"].detach().mean()) for x in inputs]
    assert 0.05 < np.mean(rates) < 0.5

    def call(x: Tensor) -> list[Any]:
        return [value.detach().numpy() for value in runnable(x).values()]

    require_the_bits_of_one_thread(call, inputs, SLOW.get(backend, CALLS))


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly", "sinabs"])
def test_threads_may_share_a_runnable_that_records_or_trains(backend: str) -> None:
    """Plans for recording are made on demand, also by several threads at once; gradients are those of the own input."""
    runnable: Any = get_backend(backend).build(everything())
    inputs = [torch.randn(20, 2, 6, generator=torch.Generator().manual_seed(i)) for i in range(THREADS)]
    names = sorted(runnable.graph.nodes)

    def call(x: Tensor) -> list[Any]:
        record = names[: int(x.abs().sum()) % 7 + 3]  # every thread its own
        trace = runnable.run(x, record=record)
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(runnable(leaf)["potential"].sum(), leaf)
        return [*trace.potentials.values(), gradient.numpy()]

    fresh: Any = get_backend(backend).build(everything())
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda name: fresh.run(inputs[0], record=[name]), names))
    assert len(list(fresh.parameters())) == len(list(runnable.parameters()))
    require_the_bits_of_one_thread(call, inputs, 5)


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly", "sinabs", "module"])
def test_threads_may_share_a_detector(backend: str) -> None:
    detector = zoo.load("ems-yolo-digits", backend="snntorch" if backend == "module" else backend)
    if backend == "snntorch":  # the graph on snnTorch's cells; the detector itself is the module
        graph = detector.to_nir()  # type: ignore[union-attr]
        runnable: Any = get_backend(backend).build(graph)
        frames = detector.time_steps

        def call(images: Tensor) -> list[Any]:
            return [value.detach().numpy() for value in runnable(images.expand(frames, *images.shape)).values()]
    else:

        def call(images: Tensor) -> list[Any]:
            return [value.detach().numpy() for value in detector(images)]

    images = [torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(i)) for i in range(THREADS)]
    require_the_bits_of_one_thread(call, images, CALLS)
