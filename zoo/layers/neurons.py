"""Spiking neurons: ``snntorch.SpikingNeuron`` subclasses that unfold time themselves.

Every neuron takes and returns folded tensors (T*B, C, H, W), T first, and starts from rest at each call: no state outlives
a forward pass. This is what lets convolutions run once on all time steps.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from snntorch import SpikingNeuron
from torch import Tensor

from zoo.errors import InvalidInputError
from zoo.layers.surrogates import SpikeFunction, integer_spike

Rounding = Literal["strict", "half_even"]


class FoldedNeuron(SpikingNeuron):
    """Base of the zoo's neurons.

    snnTorch keeps every neuron alive in ``SpikingNeuron.instances`` and adds bookkeeping buffers to the state dict. Models
    that are created, fused and thrown away would leak, and checkpoints would carry constants, so both are undone here.

    Args:
        time_steps: T, by which the folded first dimension is unfolded.
        **kwargs: passed to :class:`snntorch.SpikingNeuron`.
    """

    def __init__(self, *, time_steps: int, **kwargs: Any) -> None:
        if time_steps < 1:
            raise InvalidInputError(f"time_steps must be at least 1, got {time_steps}")
        super().__init__(**kwargs)
        SpikingNeuron.instances[:] = [other for other in SpikingNeuron.instances if other is not self]
        for name, buffer in list(self.named_buffers(recurse=False)):
            self.register_buffer(name, buffer, persistent=False)
        self.time_steps = time_steps

    def unfold(self, folded: Tensor) -> Tensor:
        """(T*B, ...) -> (T, B, ...)."""
        if folded.shape[0] % self.time_steps:
            raise InvalidInputError(
                f"a batch of {folded.shape[0]} folded steps is not a multiple of time_steps = {self.time_steps}"
            )
        return folded.unflatten(0, (self.time_steps, -1))


class ILIF(FoldedNeuron):
    r"""Integer leaky integrate-and-fire neuron (I-LIF) of SpikeYOLO.

    .. math::
        u_t &= \beta\,(u_{t-1} - s_{t-1}) + x_t, \qquad u_0 = x_0 \\
        s_t &= \sum_{k=1}^{D} [u_t > \theta_k], \qquad \theta_k = k - \tfrac12

    The count s is D binary spikes at once: at inference each level k is a binary neuron (thermometer code). The reset is
    soft and detached from the gradient. Source: Luo et al., ECCV 2024, eq. 4-7.

    Args:
        levels: D, the largest integer per step.
        time_steps: T.
        decay: beta.
        rounding: ``strict`` counts strictly exceeded thresholds (ties go down), exactly as ``nir.Threshold`` does.
            ``half_even`` is the published code (ties to 0, 2, 2, 4). :meth:`freeze` turns either into stored thresholds.
    """

    thresholds: Tensor

    def __init__(
        self, levels: int = 4, *, time_steps: int = 1, decay: float = 0.25, rounding: Rounding = "strict"
    ) -> None:
        if levels < 1:
            raise InvalidInputError(f"levels must be at least 1, got {levels}")
        spike_grad: SpikeFunction = integer_spike(levels, half_even=rounding == "half_even")
        super().__init__(time_steps=time_steps, threshold=1.0, spike_grad=spike_grad, reset_mechanism="subtract")
        self.levels = levels
        self.decay = decay
        self.rounding = rounding
        self.reset_amount = 1.0
        self.is_frozen = False
        self.register_buffer("thresholds", self._midpoints(torch.get_default_dtype()), persistent=False)

    def _midpoints(self, dtype: torch.dtype) -> Tensor:
        return torch.arange(1, self.levels + 1, dtype=torch.float64).sub_(0.5).to(dtype)

    def freeze(self, dtype: torch.dtype) -> None:
        """Compare with stored thresholds from now on: the very numbers that an exported graph holds.

        Half-even ties that round up become the next lower number of ``dtype`` with a strict comparison. The thresholds
        become part of the state dict, so that quantisation can shift them per layer.
        """
        thresholds = self._midpoints(dtype)
        if self.rounding == "half_even":
            below = torch.nextafter(thresholds, torch.full_like(thresholds, -torch.inf))
            thresholds = torch.where(torch.arange(1, self.levels + 1) % 2 == 0, below, thresholds)
        self.register_buffer("thresholds", thresholds, persistent=True)
        self.is_frozen = True

    def fire(self, mem: Tensor) -> Tensor:
        """Membrane potential of any shape -> count 0..D, same shape and dtype."""
        if not self.is_frozen:
            return self.spike_grad(mem)
        if torch.equal(self.thresholds, self._midpoints(self.thresholds.dtype).to(self.thresholds.device)):
            return integer_spike(self.levels)(mem)
        count = torch.zeros_like(mem)
        for threshold in self.thresholds.to(mem.dtype):
            count += mem > threshold
        return count

    def forward(self, current: Tensor) -> Tensor:
        """Input current (T*B, C, H, W) -> integer spikes (T*B, C, H, W)."""
        if self.time_steps == 1:
            return self.fire(current)
        steps = self.unfold(current)
        mem = steps[0]
        spikes = [self.fire(mem)]
        for step in steps[1:]:
            mem = self.decay * (mem - self.reset_amount * spikes[-1].detach()) + step
            spikes.append(self.fire(mem))
        return torch.cat(spikes)

    def extra_repr(self) -> str:
        """Shown by ``print(detector)``."""
        return f"levels={self.levels}, time_steps={self.time_steps}, decay={self.decay}, rounding={self.rounding!r}"
