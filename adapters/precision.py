"""Settings of torch under which convolutions only add products, held while anybody runs a graph.

On a GPU without TF32, cuDNN's default for float32, which keeps ten bits of each weight. On a CPU without NNPACK, torch's
default where oneDNN does not take a convolution: its Winograd kernels round what is exact in any order of summation.

The settings belong to the whole process. So the first who needs one makes it, and the last who needed it takes it back:
calls of several threads may overlap in any way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch


class Shared:
    """A context that many can hold at the same time: entered with the first, left with the last.

    Args:
        make: the context.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._holders = 0
        self._entered = ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it."""
        with self._lock:
            if not self._holders:
                self._entered.enter_context(self._make())
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._entered.close()


_CPU = Shared(lambda: torch.backends.nnpack.flags(enabled=False))
_CUDA = Shared(lambda: torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))


def exact_convolutions(device: torch.device) -> AbstractContextManager[None]:
    """The context for convolutions on a device."""
    return (_CUDA if device.type == "cuda" else _CPU).held()
