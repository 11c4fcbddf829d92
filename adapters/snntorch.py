"""snnTorch: every membrane that resets to zero, or never fires, runs on ``snntorch.Leaky``.

``Leaky`` computes ``beta * v + x``, fires at v > threshold, and resets at the start of the next step, which gives the same
potentials as resetting at the end of this one. Its decay ``beta = 1 - dt/tau`` on the input ``dt/tau * x`` is the contract's
v + (dt/tau) ((v_leak - v) + r x) on paper, but not in floating point: where inputs tie with the threshold, up to 0.14 % of the
spikes change even in float64 (tau = 5 dt, threshold 0.3, inputs in quarters). So the cell is driven with beta = 1 and the leak
comes in with the current. Then each step has the contract's very bits, in every type and for every tau, v_leak and r.

Thresholds are compared; their gradient is snnTorch's arctangent surrogate. Resets to other values than zero have no cell in
snnTorch 1.0 and run on the plain torch cell; ``own_cells`` says how many nodes do not.
"""

from __future__ import annotations

import snntorch
import torch
from snntorch import surrogate
from torch import Tensor

from zoo.adapters.executor import TorchBackend
from zoo.adapters.membranes import Cell, Framework, Membrane
from zoo.adapters.ops import tensor


class LeakyCell(Cell):
    """``snntorch.Leaky`` with the leak in its input current. The state is its membrane potential, before the reset."""

    is_own = True
    k: Tensor
    r: Tensor
    v_leak: Tensor

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__()
        self.leaks, self.fires = membrane.k is not None, membrane.threshold is not None
        self.constant("k", 0.0 if membrane.k is None else membrane.k, dtype)
        self.constant("r", membrane.r, dtype)
        self.constant("v_leak", membrane.v_leak, dtype)
        self.leaky = snntorch.Leaky(
            beta=torch.ones((), dtype=dtype),
            threshold=tensor(0.0 if membrane.threshold is None else membrane.threshold, dtype),
            reset_mechanism="zero" if self.fires else "none",
        )
        _forget(self.leaky)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Cell`."""
        current = self.r * x
        if self.leaks:
            v = (1 - self.leaky.mem_reset(state)) * state if self.fires else state
            current = self.k * ((self.v_leak - v) + current)
        spikes, after = self.leaky(current, state)
        return (spikes.to(x.dtype) if self.fires else after), after

    def potential(self, x: Tensor, before: Tensor, out: Tensor, after: Tensor) -> Tensor:
        """See :class:`Cell`."""
        del x, before, out
        return after

    def finish(self) -> None:
        """See :class:`Cell`."""
        self.leaky.mem = self.leaky.mem.new_zeros(0)
        self.leaky.reset = None


def _forget(cell: snntorch.Leaky) -> None:
    """Undo two habits of snnTorch: it keeps every neuron alive in a class list, and saves constants in the state dict."""
    snntorch.SpikingNeuron.instances[:] = [other for other in snntorch.SpikingNeuron.instances if other is not cell]
    for name, buffer in list(cell.named_buffers(recurse=False)):
        cell.register_buffer(name, buffer, persistent=False)


def cell(membrane: Membrane, dtype: torch.dtype) -> Cell | None:
    """``Leaky`` where it is exact."""
    return LeakyCell(membrane, dtype) if not membrane.reset.any() else None


FRAMEWORK = Framework("snntorch", cell, surrogate.atan())
BACKEND = TorchBackend(FRAMEWORK)
