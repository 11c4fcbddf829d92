"""Sinabs: every membrane that resets to zero, or never fires, runs on the step of ``sinabs.layers.IAF``.

``sinabs.layers.LIF`` computes exp(-1/tau) v + x with tau kept in float32, which is not the contract's
v + (dt/tau) ((v_leak - v) + r x) in floating point. So the step of ``IAF`` is used and the leak comes in with the current:
each step has the contract's very bits, in every type and for every tau, v_leak and r. The layer keeps its potential to itself,
where two threads would mix theirs up; ``lif_forward_single``, the function that it calls for each step, takes the potential
and hands it back.

It is told to emit at most one spike per step (``SingleSpike``), to reset (``MembraneReset``) instead of subtracting, and to
have no lower bound. It fires at v >= threshold and is given the next number above. Resets to other values than zero have no
form (``MembraneReset(x)`` adds x to every neuron, whether it fired or not) and run on the plain torch cell; ``own_cells`` says
how many nodes do not.

Thresholds are compared. The function that Sinabs takes for that (``spike_fn``) is its ``SingleSpike``, and a plain comparison
where no gradient can flow. The gradient is Sinabs's ``SingleExponential`` surrogate, exp(-|v - theta| / w) / w with w of
half the threshold. That has no value at thresholds of 0 and below: there w is that of a threshold of 1, which is
Sinabs's default.
"""

from __future__ import annotations

from typing import Any

import torch
from sinabs.activation import MembraneReset, SingleExponential, SingleSpike
from sinabs.layers.functional.lif import lif_forward_single
from torch import Tensor

from zoo.adapters.executor import TorchBackend
from zoo.adapters.membranes import Cell, Framework, IntegratingCell, Membrane, next_up
from zoo.adapters.ops import reached

_LEAST = 2.0**-20
"""The lowest threshold whose own surrogate is used: the lower ones are so steep that they overflow within a few layers."""


class Surrogate:
    """Sinabs's ``SingleExponential``, where the threshold allows one, and else that of a threshold of 1."""

    own = SingleExponential()

    def __call__(self, v_mem: Tensor, spike_threshold: Tensor) -> Tensor:
        """Potential, threshold -> derivative of the spike."""
        width = torch.where(spike_threshold >= _LEAST, spike_threshold, 1.0)
        gradient: Tensor = self.own(v_mem + (width - spike_threshold), width)
        return gradient


class Comparison:
    """``SingleSpike`` without gradient."""

    required_states = SingleSpike.required_states

    @staticmethod
    def apply(v_mem: Tensor, spike_threshold: Tensor, surrogate_grad_fn: Any) -> Tensor:
        """[potential >= threshold]."""
        del surrogate_grad_fn
        return reached(v_mem, spike_threshold)


class IafCell(IntegratingCell):
    """What ``sinabs.layers.IAF`` computes in one step."""

    def integrate(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`IntegratingCell`."""
        spike_fn: Any = SingleSpike if torch.is_grad_enabled() else Comparison
        out, state = lif_forward_single(
            input_data=current,
            alpha_mem=1.0,
            alpha_syn=None,
            state={"v_mem": v},
            spike_threshold=self.above,
            spike_fn=spike_fn if self.fires else None,
            reset_fn=MembraneReset(),
            surrogate_grad_fn=Surrogate(),
            min_v_mem=None,
            norm_input=False,
        )
        return out, state["v_mem"]


def cell(membrane: Membrane, dtype: torch.dtype) -> Cell | None:
    """The step of ``IAF`` where it is exact."""
    return IafCell(membrane, dtype) if not membrane.reset.any() else None


def spike(potential: Tensor, threshold: Tensor) -> Tensor:
    """Sinabs's Heaviside function, made strict, with its exponential surrogate."""
    out: Tensor = SingleSpike.apply(potential, next_up(threshold), Surrogate())
    return out


FRAMEWORK = Framework("sinabs", cell, spike)
BACKEND = TorchBackend(FRAMEWORK)
