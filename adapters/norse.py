"""Norse: every membrane but a plain integrator runs on Norse's step functions, with the contract's very bits.

Norse's cells keep nothing but parameters, in tuples that do not move with a module; the step functions that they call take
these tuples and the state. So the functions are called directly:

* without leak, firing (``IAFCell``): ``iaf_feed_forward_step`` on r x.
* with a leak to 0, firing (``LIFBoxCell``): ``lif_box_feed_forward_step`` on r x, with tau_mem_inv = dt/tau and dt = 1, so that
  Norse's dt * tau_mem_inv is dt/tau, rounded once.
* with another leak, firing (``LIFCell``): ``lif_feed_forward_step``, since the box computes (x + v_leak) - v and this one
  (v_leak - v) + x, as the contract does. Its synaptic current decays within one step (tau_syn_inv = 1/dt): a box, too.
* with a leak, not firing (``LIBoxCell``): ``li_box_feed_forward_step`` likewise.

The state of rest is passed in: left alone, Norse starts at its leak or reset potential instead of 0. Resets go to v_reset.
Thresholds are compared; their gradient is Norse's SuperSpike, and where no gradient can flow Norse is told ``heaviside``. A
plain integrator (nir.I) has no function in Norse 1.1 and runs on the plain torch cell; ``own_cells`` says how many do not.
"""

from __future__ import annotations

from typing import Any

import torch
from norse.torch.functional.iaf import IAFFeedForwardState, IAFParameters, iaf_feed_forward_step
from norse.torch.functional.leaky_integrator_box import LIBoxParameters, LIBoxState, li_box_feed_forward_step
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters, lif_feed_forward_step
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters, lif_box_feed_forward_step
from norse.torch.functional.threshold import threshold
from torch import Tensor

from zoo.adapters.executor import TorchBackend
from zoo.adapters.membranes import Cell, Framework, Membrane, MembraneCell

_ALPHA = 100.0  # steepness of the SuperSpike surrogate, Norse's default


class NorseCell(MembraneCell):
    """A step function of Norse on r x, started at v = 0. The state is (Norse's parameters, Norse's state)."""

    is_own = True

    def parameters_of_run(self, method: str) -> Any:
        """Norse's parameters; ``method`` names the surrogate gradient."""
        raise NotImplementedError

    def rest(self, zero: Tensor) -> Any:
        """Norse's state with everything 0."""
        raise NotImplementedError

    def advance(self, x: Tensor, state: Any, parameters: Any) -> tuple[Tensor, Any]:
        """Norse's step function."""
        raise NotImplementedError

    def start(self, like: Tensor) -> Any:
        """See :class:`Cell`."""
        parameters = self.parameters_of_run("super" if torch.is_grad_enabled() else "heaviside")
        return parameters, self.rest(torch.zeros_like(like))

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See :class:`Cell`."""
        parameters, before = state
        out, after = self.advance(self.gained(x), before, parameters)
        return out, (parameters, after)

    def potential(self, x: Tensor, before: Any, out: Tensor, after: Any) -> Tensor:
        """See :class:`Cell`. Norse hands out v after the reset, so that its integration is repeated here."""
        del out, after
        v: Tensor = before[1].v
        return v + self.current(x, v)


class IntegrateAndFire(NorseCell):
    """What ``norse.torch.IAFCell`` computes."""

    def parameters_of_run(self, method: str) -> IAFParameters:
        """See :class:`NorseCell`."""
        return IAFParameters(v_th=self.threshold, v_reset=self.reset, method=method)

    def rest(self, zero: Tensor) -> IAFFeedForwardState:
        """See :class:`NorseCell`."""
        return IAFFeedForwardState(zero)

    def advance(self, x: Tensor, state: Any, parameters: Any) -> tuple[Tensor, Any]:
        """See :class:`NorseCell`."""
        return iaf_feed_forward_step(x, state, parameters)


class LeakyBox(NorseCell):
    """What ``norse.torch.LIFBoxCell`` computes, for a leak to 0."""

    def parameters_of_run(self, method: str) -> LIFBoxParameters:
        """See :class:`NorseCell`."""
        return LIFBoxParameters(
            tau_mem_inv=self.k, v_leak=self.v_leak, v_th=self.threshold, v_reset=self.reset, method=method
        )

    def rest(self, zero: Tensor) -> LIFBoxFeedForwardState:
        """See :class:`NorseCell`."""
        return LIFBoxFeedForwardState(zero)

    def advance(self, x: Tensor, state: Any, parameters: Any) -> tuple[Tensor, Any]:
        """See :class:`NorseCell`."""
        return lif_box_feed_forward_step(x, state, parameters, 1.0)


class LeakyToPotential(NorseCell):
    """What ``norse.torch.LIFCell`` computes, its current decaying within the step, for a leak to anywhere."""

    def parameters_of_run(self, method: str) -> LIFParameters:
        """See :class:`NorseCell`."""
        return LIFParameters(
            tau_syn_inv=torch.ones_like(self.k),
            tau_mem_inv=self.k,
            v_leak=self.v_leak,
            v_th=self.threshold,
            v_reset=self.reset,
            method=method,
        )

    def rest(self, zero: Tensor) -> LIFFeedForwardState:
        """See :class:`NorseCell`."""
        return LIFFeedForwardState(v=zero, i=zero)

    def advance(self, x: Tensor, state: Any, parameters: Any) -> tuple[Tensor, Any]:
        """See :class:`NorseCell`."""
        return lif_feed_forward_step(x, state, parameters, 1.0)


class LeakyIntegrator(NorseCell):
    """What ``norse.torch.LIBoxCell`` computes."""

    def parameters_of_run(self, method: str) -> LIBoxParameters:
        """See :class:`NorseCell`. Nothing fires, so that there is no surrogate."""
        del method
        return LIBoxParameters(tau_mem_inv=self.k, v_leak=self.v_leak)

    def rest(self, zero: Tensor) -> LIBoxState:
        """See :class:`NorseCell`."""
        return LIBoxState(zero)

    def advance(self, x: Tensor, state: Any, parameters: Any) -> tuple[Tensor, Any]:
        """See :class:`NorseCell`."""
        return li_box_feed_forward_step(x, state, parameters, 1.0)


def cell(membrane: Membrane, dtype: torch.dtype) -> Cell | None:
    """Norse's own form of a membrane, or None."""
    if membrane.threshold is None:
        return None if membrane.k is None else LeakyIntegrator(membrane, dtype)
    if membrane.k is None:
        return IntegrateAndFire(membrane, dtype)
    return LeakyToPotential(membrane, dtype) if membrane.v_leak.any() else LeakyBox(membrane, dtype)


def spike(potential: Tensor, at: Tensor) -> Tensor:
    """Norse's Heaviside function with its SuperSpike surrogate."""
    return threshold(potential - at, "super", _ALPHA)


FRAMEWORK = Framework("norse", cell, spike)
BACKEND = TorchBackend(FRAMEWORK)
