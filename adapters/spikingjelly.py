"""SpikingJelly: every membrane runs on ``LIFNode``, ``IFNode`` or ``SimpleIFNode``, with the contract's very bits.

* leak to 0, reset to 0 and dt/tau a power of two: ``LIFNode(tau/dt, decay_input=True)``, whose (x - v) / tau is then exact.
* any other leak: ``IFNode``, and the leak comes in with the current, since SpikingJelly divides by tau where the contract
  multiplies by dt/tau rounded once, and leaks towards its reset potential only.
* a threshold or reset that is not the same for all neurons: ``SimpleIFNode``, whose equations take tensors.

SpikingJelly fires at v >= threshold: its cells get the next number above. The state of rest is passed in, since left alone
they start at their reset potential. Where nothing fires the threshold is infinite. Thresholds are compared; their gradient is
SpikingJelly's arctangent surrogate.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # SpikingJelly has it told that there is no GPU
from spikingjelly.activation_based import neuron, surrogate  # noqa: E402

from zoo.adapters.executor import TorchBackend  # noqa: E402
from zoo.adapters.membranes import Cell, Framework, IntegratingCell, Membrane  # noqa: E402


class NodeCell(IntegratingCell):
    """``IFNode``; ``SimpleIFNode`` where threshold or reset differ between neurons."""

    reset: Tensor

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__(membrane, dtype)
        self.constant("reset", membrane.reset, dtype)
        self.is_uniform = self.above.dim() == 0 and self.reset.dim() == 0
        self.node: Any = self.make()

    def make(self) -> Any:
        """The cell. Numbers become Python floats, which hold them exactly."""
        if not self.is_uniform:
            return neuron.SimpleIFNode(v_threshold=1.0, v_reset=0.0, surrogate_function=surrogate.ATan())
        return neuron.IFNode(self.above.item(), self.reset.item(), surrogate.ATan())

    def integrate(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`IntegratingCell`."""
        if self.is_uniform:
            (spikes,), (after,) = self.node.single_step_functional_forward((current,), (v,))
        else:
            self.node.v_threshold, self.node.v_reset = self.above, self.reset
            self.node.v = v
            spikes, after = self.node(current), self.node.v
        return (spikes if self.fires else after), after

    def finish(self) -> None:
        """See :class:`Cell`."""
        self.node.reset()


class LeakyNodeCell(NodeCell):
    """``LIFNode``. The leak is its own."""

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        self.tau = 1 / float(np.asarray(membrane.k))
        super().__init__(membrane, dtype)

    def make(self) -> Any:
        """See :class:`NodeCell`."""
        return neuron.LIFNode(self.tau, True, self.above.item(), 0.0, surrogate.ATan())

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Cell`."""
        return self.integrate(self.r * x, state)


def cell(membrane: Membrane, dtype: torch.dtype) -> Cell:
    """SpikingJelly's own cell for a membrane."""
    return (LeakyNodeCell if _leaks_by_a_power_of_two(membrane) else NodeCell)(membrane, dtype)


def _leaks_by_a_power_of_two(membrane: Membrane) -> bool:
    if membrane.k is None or membrane.v_leak.any() or membrane.reset.any():
        return False
    uniform = membrane.k.ndim == 0 and (membrane.threshold is None or membrane.threshold.ndim == 0)
    return uniform and float(membrane.k) < 1 and math.frexp(float(membrane.k))[0] == 0.5


def spike(x: Tensor) -> Tensor:
    """SpikingJelly's Heaviside function, made strict, with its arctangent surrogate."""
    zero = x.new_zeros(())
    out: Tensor = surrogate.ATan()(x - torch.nextafter(zero, zero + 1))
    return out


FRAMEWORK = Framework("spikingjelly", cell, spike)
BACKEND = TorchBackend(FRAMEWORK)
