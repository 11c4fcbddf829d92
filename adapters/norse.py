"""Norse: every membrane but a plain integrator runs on a Norse cell, with the contract's very bits.

* without leak, firing: ``IAFCell`` on r x.
* with a leak to 0, firing: ``LIFBoxCell`` on r x, with tau_mem_inv = dt/tau and dt = 1, so that Norse's dt * tau_mem_inv is
  dt/tau, rounded once.
* with another leak, firing: ``LIFCell``, since ``LIFBoxCell`` computes (x + v_leak) - v and this one (v_leak - v) + x, as the
  contract does. Its synaptic current decays within one step (tau_syn_inv = 1/dt), which makes it a box.
* with a leak, not firing: ``LIBoxCell`` likewise.

The state of rest is passed in: left alone, Norse starts at its leak or reset potential instead of 0. Resets go to v_reset.
Thresholds are compared; their gradient is Norse's SuperSpike. A plain integrator (nir.I) has no cell in Norse 1.1 and runs on
the plain torch cell; ``own_cells`` says how many nodes do not.
"""

from __future__ import annotations

from typing import Any

import torch
from norse.torch.functional.iaf import IAFFeedForwardState, IAFParameters
from norse.torch.functional.leaky_integrator_box import LIBoxParameters, LIBoxState
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
from norse.torch.functional.threshold import threshold
from norse.torch.module.iaf import IAFCell
from norse.torch.module.leaky_integrator_box import LIBoxCell
from norse.torch.module.lif import LIFCell
from norse.torch.module.lif_box import LIFBoxCell
from torch import Tensor, nn

from zoo.adapters.executor import TorchBackend
from zoo.adapters.membranes import Cell, Framework, Membrane

_ALPHA = 100.0  # steepness of the SuperSpike surrogate, Norse's default


class NorseCell(Cell):
    """A Norse cell on r x, started at v = 0. The state is Norse's own.

    Subclasses say how to make the cell and its state.
    """

    is_own = True
    r: Tensor
    k: Tensor
    v_leak: Tensor
    v_th: Tensor
    v_reset: Tensor

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__()
        self.constant("r", membrane.r, dtype)
        self.constant("k", 0.0 if membrane.k is None else membrane.k, dtype)
        self.constant("v_leak", membrane.v_leak, dtype)
        self.constant("v_th", 0.0 if membrane.threshold is None else membrane.threshold, dtype)
        self.constant("v_reset", membrane.reset, dtype)
        self.cell = self.make()

    def make(self) -> nn.Module:
        """The cell. Norse keeps parameters in tuples, which do not move with a module: it is made again for each run."""
        raise NotImplementedError

    def rest(self, like: Tensor) -> Any:
        """Norse's state with everything 0."""
        raise NotImplementedError

    def start(self, like: Tensor) -> Any:
        """See :class:`Cell`."""
        self.cell = self.make()
        return self.rest(like)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See :class:`Cell`."""
        out, after = self.cell(self.r * x, state)
        return out, after

    def potential(self, x: Tensor, before: Any, out: Tensor, after: Any) -> Tensor:
        """See :class:`Cell`. Norse hands out v after the reset, so that its integration is repeated here."""
        del out, after
        return before.v + self.k * ((self.v_leak - before.v) + self.r * x)


class IntegrateAndFire(NorseCell):
    """``norse.torch.IAFCell``."""

    def make(self) -> nn.Module:
        """See :class:`NorseCell`."""
        return IAFCell(IAFParameters(v_th=self.v_th, v_reset=self.v_reset))

    def rest(self, like: Tensor) -> IAFFeedForwardState:
        """See :class:`NorseCell`."""
        return IAFFeedForwardState(torch.zeros_like(like))

    def potential(self, x: Tensor, before: Any, out: Tensor, after: Any) -> Tensor:
        """See :class:`Cell`."""
        del out, after
        return before.v + self.r * x


class LeakyBox(NorseCell):
    """``norse.torch.LIFBoxCell``, for a leak to 0."""

    def make(self) -> nn.Module:
        """See :class:`NorseCell`."""
        parameters = LIFBoxParameters(tau_mem_inv=self.k, v_leak=self.v_leak, v_th=self.v_th, v_reset=self.v_reset)
        return LIFBoxCell(parameters, dt=1.0)

    def rest(self, like: Tensor) -> LIFBoxFeedForwardState:
        """See :class:`NorseCell`."""
        return LIFBoxFeedForwardState(torch.zeros_like(like))


class LeakyToPotential(NorseCell):
    """``norse.torch.LIFCell`` whose current decays within the step, for a leak to anywhere."""

    def make(self) -> nn.Module:
        """See :class:`NorseCell`."""
        parameters = LIFParameters(
            tau_syn_inv=torch.ones_like(self.k),
            tau_mem_inv=self.k,
            v_leak=self.v_leak,
            v_th=self.v_th,
            v_reset=self.v_reset,
        )
        return LIFCell(parameters, dt=1.0)

    def rest(self, like: Tensor) -> LIFFeedForwardState:
        """See :class:`NorseCell`."""
        return LIFFeedForwardState(v=torch.zeros_like(like), i=torch.zeros_like(like))


class LeakyIntegrator(NorseCell):
    """``norse.torch.LIBoxCell``."""

    def make(self) -> nn.Module:
        """See :class:`NorseCell`."""
        return LIBoxCell(LIBoxParameters(tau_mem_inv=self.k, v_leak=self.v_leak), dt=1.0)

    def rest(self, like: Tensor) -> LIBoxState:
        """See :class:`NorseCell`."""
        return LIBoxState(torch.zeros_like(like))


def cell(membrane: Membrane, dtype: torch.dtype) -> Cell | None:
    """Norse's own cell for a membrane, or None."""
    if membrane.threshold is None:
        return None if membrane.k is None else LeakyIntegrator(membrane, dtype)
    if membrane.k is None:
        return IntegrateAndFire(membrane, dtype)
    return LeakyToPotential(membrane, dtype) if membrane.v_leak.any() else LeakyBox(membrane, dtype)


def spike(x: Tensor) -> Tensor:
    """Norse's Heaviside function with its SuperSpike surrogate."""
    return threshold(x, "super", _ALPHA)


FRAMEWORK = Framework("norse", cell, spike)
BACKEND = TorchBackend(FRAMEWORK)
