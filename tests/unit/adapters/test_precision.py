"""Settings of torch that calls share, however they overlap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from zoo.adapters.precision import Shared, exact_convolutions


def test_tf32_is_off_on_a_gpu() -> None:
    before = torch.backends.cudnn.allow_tf32
    with exact_convolutions(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.enabled
    assert torch.backends.cudnn.allow_tf32 == before
    with exact_convolutions(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32 == before


def test_nnpack_is_off_on_a_cpu_while_a_graph_runs() -> None:
    before = torch._C._get_nnpack_enabled()
    with exact_convolutions(torch.device("cpu")):
        assert not torch._C._get_nnpack_enabled()
    assert torch._C._get_nnpack_enabled() == before


@pytest.mark.parametrize("was_on", [True, False])
def test_overlapping_calls_leave_nnpack_as_it_was(was_on: bool) -> None:
    """First in, first out, as calls of two threads may be: the second still runs without, and nothing stays off for good."""
    with torch.backends.nnpack.flags(enabled=was_on):
        first, second = (exact_convolutions(torch.device("cpu")) for _ in range(2))
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
