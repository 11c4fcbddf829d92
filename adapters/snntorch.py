"""snnTorch: every membrane that resets to zero, or never fires, runs on ``snntorch.Leaky``.

``Leaky`` computes ``beta * v + x``, fires at v > threshold, and resets at the start of the next step, which gives the same
potentials as resetting at the end of this one. Its decay ``beta = 1 - dt/tau`` on the input ``dt/tau * x`` is the contract's
v + (dt/tau) ((v_leak - v) + r x) on paper, but not in floating point: where inputs tie with the threshold, up to 0.14 % of the
spikes change even in float64 (tau = 5 dt, threshold 0.3, inputs in quarters). So the cell is driven with beta = 1 and the leak
comes in with the current. Then each step has the contract's very bits, in every type and for every tau, v_leak and r.

``Leaky`` keeps its potential to itself, where two threads would mix theirs up, and snnTorch has no functional form. So every
run gets a ``Leaky`` of its own: an object of that class with the constants of the one that the runnable holds.

Thresholds are compared. The function that ``Leaky`` takes for that (``spike_grad``) is snnTorch's arctangent surrogate, and a
plain comparison where no gradient can flow. Resets to other values than zero have no cell in snnTorch 1.0 and run on the plain
torch cell; ``own_cells`` says how many nodes do not.
"""

from __future__ import annotations

from typing import Any

import torch
from snntorch import Leaky, SpikingNeuron
from snntorch.surrogate import ATan
from torch import Tensor

from zoo.adapters.executor import TorchBackend
from zoo.adapters.membranes import Cell, Framework, Membrane, MembraneCell
from zoo.adapters.ops import above, tensor

_ALPHA = 2.0  # steepness of the arctangent surrogate, snnTorch's default


def arctangent(excess: Tensor) -> Tensor:
    """What ``snntorch.surrogate.atan()`` returns, as a function that can be pickled."""
    out: Tensor = ATan.apply(excess, _ALPHA)
    return out


def positive(excess: Tensor) -> Tensor:
    """The same without gradient."""
    return above(excess, 0.0)


class _Run(Leaky):
    """One run of a ``Leaky``: the same code and constants, with a potential of its own."""

    __setattr__ = object.__setattr__  # a plain object: nothing is registered as a module's part

    def __init__(self, leaky: Leaky) -> None:
        self.__dict__.update(vars(leaky), **dict(leaky.named_buffers(recurse=False)))
        self.state_function = leaky.state_function.__func__.__get__(self)
        if not torch.is_grad_enabled():
            self.spike_grad = positive


class LeakyCell(MembraneCell):
    """``snntorch.Leaky`` with the leak in its input current.

    The state is (the run's ``Leaky``, v after the reset, v before the reset).
    """

    is_own = True

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__(membrane, dtype)
        self.leaky = Leaky(
            beta=torch.ones((), dtype=dtype),
            threshold=tensor(0.0 if membrane.threshold is None else membrane.threshold, dtype),
            spike_grad=arctangent,
            reset_mechanism="zero" if self.fires else "none",
        )
        _forget(self.leaky)

    def start(self, like: Tensor) -> Any:
        """See :class:`Cell`."""
        zero = torch.zeros_like(like)
        return _Run(self.leaky), zero, zero

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See :class:`Cell`."""
        run, v, _ = state
        run.mem = v
        spikes, potential = run.forward(self.current(x, v))
        if not self.fires:
            return potential, (run, potential, potential)
        # Leaky would do the same at the start of the next step; the leak needs it now
        return spikes.to(x.dtype), (run, (1 - spikes.detach()) * potential, potential)

    def potential(self, x: Tensor, before: Any, out: Tensor, after: Any) -> Tensor:
        """See :class:`Cell`."""
        del x, before, out
        potential: Tensor = after[2]
        return potential


def _forget(cell: Leaky) -> None:
    """Undo two habits of snnTorch: it keeps every neuron alive in a class list, and saves constants in the state dict."""
    SpikingNeuron.instances[:] = [other for other in SpikingNeuron.instances if other is not cell]
    for name, buffer in list(cell.named_buffers(recurse=False)):
        cell.register_buffer(name, buffer, persistent=False)


def cell(membrane: Membrane, dtype: torch.dtype) -> Cell | None:
    """``Leaky`` where it is exact."""
    return LeakyCell(membrane, dtype) if not membrane.reset.any() else None


def spike(potential: Tensor, threshold: Tensor) -> Tensor:
    """snnTorch's Heaviside function with its arctangent surrogate."""
    return arctangent(potential - threshold)


FRAMEWORK = Framework("snntorch", cell, spike)
BACKEND = TorchBackend(FRAMEWORK)
