"""Sinabs: every membrane that resets to zero, or never fires, runs on ``sinabs.layers.IAF``.

``sinabs.layers.LIF`` computes exp(-1/tau) v + x with tau kept in float32, which is not the contract's
v + (dt/tau) ((v_leak - v) + r x) in floating point. So ``IAF`` is driven step by step and the leak comes in with the current:
each step has the contract's very bits, in every type and for every tau, v_leak and r.

``IAF`` is told to emit at most one spike per step (``SingleSpike``), to reset (``MembraneReset``) instead of subtracting, and
to have no lower bound. It fires at v >= threshold and is given the next number above. Resets to other values than zero have no
cell (``MembraneReset(x)`` adds x to every neuron, whether it fired or not) and run on the plain torch cell; ``own_cells`` says
how many nodes do not. Thresholds are compared; their gradient is Sinabs's ``SingleExponential`` surrogate.
"""

from __future__ import annotations

from typing import Any

import torch
from sinabs.activation import MembraneReset, SingleExponential, SingleSpike
from sinabs.layers import IAF
from torch import Tensor

from zoo.adapters.executor import TorchBackend
from zoo.adapters.membranes import Cell, Framework, IntegratingCell, Membrane


class IafCell(IntegratingCell):
    """``sinabs.layers.IAF``, one step at a time."""

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__(membrane, dtype)
        self.layer: Any = IAF(
            spike_threshold=self.above.clone(),
            spike_fn=SingleSpike if self.fires else None,
            reset_fn=MembraneReset(),
            surrogate_grad_fn=SingleExponential(),
            min_v_mem=None,
        )
        # the threshold is a constant of the graph: neither trained nor saved, like all constants here
        del self.layer.spike_threshold
        self.layer.spike_threshold = self.above
        self.layer.register_buffer("v_mem", self.layer.v_mem, persistent=False)

    def integrate(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`IntegratingCell`."""
        self.layer.spike_threshold = self.above
        self.layer.v_mem = v
        out = self.layer(current.unsqueeze(1)).squeeze(1)
        return out, self.layer.v_mem

    def finish(self) -> None:
        """See :class:`Cell`."""
        self.layer.v_mem = self.layer.v_mem.new_zeros(0)
        self.layer.recordings = self.layer.firing_rate = None


def cell(membrane: Membrane, dtype: torch.dtype) -> Cell | None:
    """``IAF`` where it is exact."""
    return IafCell(membrane, dtype) if not membrane.reset.any() else None


def spike(x: Tensor) -> Tensor:
    """Sinabs's Heaviside function, made strict, with its exponential surrogate."""
    zero = x.new_zeros(())
    out: Tensor = SingleSpike.apply(x, torch.nextafter(zero, zero + 1), SingleExponential())
    return out


FRAMEWORK = Framework("sinabs", cell, spike)
BACKEND = TorchBackend(FRAMEWORK)
