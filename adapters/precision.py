"""Settings of torch under which convolutions and matrix products only add products, held while anybody runs a graph.

* On a GPU without TF32, cuDNN's default for float32, which keeps ten bits of each weight.
* On a CPU without NNPACK, torch's default where oneDNN does not take a convolution: its Winograd kernels round what is exact
  in any order of summation.
* On both without what ``torch.set_float32_matmul_precision`` allows, which is bfloat16 on many a CPU, and without autocast.

The settings belong to the whole process. So the first who needs one makes it, and the last who needed it takes it back:
calls of several threads may overlap in any way.
"""

from __future__ import annotations

import operator
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


@contextmanager
def _full_precision(*names: str) -> Iterator[None]:
    """Products in the type of the operands, for settings of ``torch.backends``; torch before 2.9 has one for all."""
    try:
        settings = [operator.attrgetter(name)(torch.backends) for name in names]
        before = [setting.fp32_precision for setting in settings]
    except AttributeError:
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        yield
        torch.set_float32_matmul_precision(precision)
        return
    for setting in settings:
        setting.fp32_precision = "ieee"
    yield
    for setting, value in zip(settings, before, strict=True):
        setting.fp32_precision = value


@contextmanager
def _cpu() -> Iterator[None]:
    with torch.backends.nnpack.flags(enabled=False), _full_precision("mkldnn.conv", "mkldnn.matmul"):
        yield


@contextmanager
def _cuda() -> Iterator[None]:
    flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with flags, _full_precision("cuda.matmul"):
        yield


_CPU, _CUDA = Shared(_cpu), Shared(_cuda)


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """The context for convolutions and matrix products on a device."""
    shared = _CUDA if device.type == "cuda" else _CPU
    with shared.held(), torch.autocast(device.type if device.type == "cuda" else "cpu", enabled=False):
        yield
