"""Settings of torch that calls share, however they overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import nir
import numpy as np
import pytest
import torch

from tests.equivalence.graphs import start
from zoo.adapters.base import get_backend
from zoo.adapters.precision import Shared, exact_products


def test_tf32_is_off_on_a_gpu() -> None:
    before = torch.backends.cudnn.allow_tf32
    with exact_products(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.enabled
    assert torch.backends.cudnn.allow_tf32 == before
    with exact_products(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32 == before


def test_nnpack_is_off_on_a_cpu_while_a_graph_runs() -> None:
    before = torch._C._get_nnpack_enabled()
    with exact_products(torch.device("cpu")):
        assert not torch._C._get_nnpack_enabled()
    assert torch._C._get_nnpack_enabled() == before


@pytest.mark.parametrize("was_on", [True, False])
def test_overlapping_calls_leave_nnpack_as_it_was(was_on: bool) -> None:
    """First in, first out, as calls of two threads may be: the second still runs without, and nothing stays off for good."""
    with torch.backends.nnpack.flags(enabled=was_on):
        first, second = (exact_products(torch.device("cpu")) for _ in range(2))
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not torch._C._get_nnpack_enabled()
        second.__exit__(None, None, None)
        assert torch._C._get_nnpack_enabled() is was_on


def test_a_shared_context_is_left_once_also_after_errors() -> None:
    events: list[str] = []

    @contextmanager
    def context() -> Iterator[None]:
        events.append("in")
        yield
        events.append("out")

    shared = Shared(context)
    with pytest.raises(ValueError, match="inner"), shared.held(), shared.held():
        raise ValueError("inner")
    assert events == ["in", "out"]
    held: list[AbstractContextManager[None]] = [shared.held() for _ in range(3)]
    for one in held:
        one.__enter__()
    for one in held:
        assert events == ["in", "out", "in"]
        one.__exit__(None, None, None)
    assert events == ["in", "out", "in", "out"]


def lower_precision() -> AbstractContextManager[None]:
    """What Lightning advises; bfloat16 on CPUs that have it."""

    @contextmanager
    def context() -> Iterator[None]:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        yield
        assert torch.get_float32_matmul_precision() == "medium"
        torch.set_float32_matmul_precision(before)

    return context()


@pytest.mark.parametrize("setting", [lower_precision, lambda: torch.autocast("cpu", torch.bfloat16)])
@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly", "sinabs"])
def test_settings_of_the_caller_round_nothing(
    backend: str, setting: Callable[[], AbstractContextManager[None]]
) -> None:
    sketch = start((8, 6, 6), seed=2)
    flat = sketch.add(
        nir.Flatten({"input": np.array((16, 6, 6))}, 0, -1), [sketch.conv(["input"], 16, padding=(1, 1))], (576,)
    )
    dense = sketch.add(nir.Affine(sketch.weights(256, 576), sketch.weights(256, 1)[:, 0]), [flat], (256,))
    sketch.output([sketch.like(sketch.neuron("LIF", (256,)), [dense])], "spikes")
    sketch.output([dense], "current")
    x = torch.randn(4, 16, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    runnable = get_backend(backend).build(sketch.graph())
    expected = {name: value.detach() for name, value in runnable(x).items()}
    with setting():
        found = runnable(x)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(value.dtype == torch.float32 for value in found.values())


def test_the_memory_layout_of_an_input_changes_nothing() -> None:
    sketch = start((32, 12, 12), seed=2)
    conv = sketch.conv(["input"], 32, padding=(1, 1))
    sketch.output([conv], "out")
    x = torch.randn(4, 8, 32, 12, 12, generator=torch.Generator().manual_seed(0))
    channels_last = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 8))
    assert channels_last.stride() != x.stride()
    runnable = get_backend("norse").build(sketch.graph())
    assert torch.equal(runnable(x)["out"], runnable(channels_last)["out"])
