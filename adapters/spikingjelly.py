"""SpikingJelly: every membrane runs on the steps of ``LIFNode`` or ``IFNode``, with the contract's very bits.

The nodes keep their potential to themselves, where two threads would mix theirs up; the functions that they call for each
step, ``functional.lif_step`` and ``functional.if_step``, take the potential and hand it back.

* leak to 0, reset to 0 and dt/tau a power of two: ``lif_step`` with decay_input, whose (x - v) / tau is then exact.
* any other leak: ``if_step``, and the leak comes in with the current, since SpikingJelly divides by tau where the contract
  multiplies by dt/tau rounded once, and leaks towards its reset potential only.

SpikingJelly fires at v >= threshold: it gets the next number above. The state of rest is passed in, since left alone it starts
at the reset potential. Where nothing fires the threshold is infinite. Thresholds are compared. The function that SpikingJelly
takes for that (``surrogate_function``) is its arctangent surrogate, and a plain comparison where no gradient can flow.
"""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # SpikingJelly has it told that there is no GPU
from spikingjelly.activation_based.functional import if_step, lif_step  # noqa: E402
from spikingjelly.activation_based.surrogate import atan  # noqa: E402

from zoo.adapters.executor import TorchBackend  # noqa: E402
from zoo.adapters.membranes import Cell, Framework, IntegratingCell, Membrane, next_up  # noqa: E402
from zoo.adapters.ops import reached  # noqa: E402

_ALPHA = 2.0  # steepness of the arctangent surrogate, SpikingJelly's default


def fires(excess: Tensor) -> Tensor:
    """[x >= 0] with SpikingJelly's arctangent surrogate.

    A function of ours, because SpikingJelly hands its own surrogates to kernels that take no threshold per neuron.
    """
    out: Tensor = atan.apply(excess, _ALPHA) if torch.is_grad_enabled() else reached(excess, 0.0)
    return out


class NodeCell(IntegratingCell):
    """What ``IFNode`` computes in one step."""

    def integrate(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`IntegratingCell`."""
        spikes, after = if_step(current, v, self.above, self.reset, fires)
        return (spikes if self.fires else after), after


class LeakyNodeCell(NodeCell):
    """What ``LIFNode`` computes in one step. The leak is its own."""

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__(membrane, dtype)
        self.tau = 1 / float(np.asarray(membrane.k))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Cell`."""
        spikes, after = lif_step(self.gained(x), state, self.tau, True, self.above, 0.0, fires)
        return (spikes if self.fires else after), after


def cell(membrane: Membrane, dtype: torch.dtype) -> Cell:
    """SpikingJelly's own form of a membrane."""
    return (LeakyNodeCell if _leaks_by_a_power_of_two(membrane) else NodeCell)(membrane, dtype)


def _leaks_by_a_power_of_two(membrane: Membrane) -> bool:
    if membrane.k is None or membrane.k.ndim or membrane.v_leak.any() or membrane.reset.any():
        return False
    return float(membrane.k) < 1 and math.frexp(float(membrane.k))[0] == 0.5


def spike(potential: Tensor, threshold: Tensor) -> Tensor:
    """SpikingJelly's Heaviside function, made strict, with its arctangent surrogate."""
    return fires(potential - next_up(threshold))


FRAMEWORK = Framework("spikingjelly", cell, spike)
BACKEND = TorchBackend(FRAMEWORK)
