"""Spiking neurons: ``snntorch.SpikingNeuron`` subclasses that unfold time themselves.

Every neuron takes and returns folded tensors (T*B, C, H, W), T first, and starts from rest at each call: no state outlives
a forward pass. This is what lets convolutions run once on all time steps.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.errors import InvalidInputError, MissingFrameworkError
from zoo.layers.counting import count_exceeded, evenly_spaced
from zoo.layers.surrogates import SpikeFunction, arctan, integer_spike, rectangle

try:
    from snntorch import SpikingNeuron
except ImportError as error:
    raise MissingFrameworkError(
        "the snnTorch form of a detector needs snnTorch: pip install 'nir-zoo[snntorch]'. Other backends run a model without "
        "it: zoo.load(name, backend=...)"
    ) from error

Rounding = Literal["strict", "half_even"]
CONSTANTS = "cpu"
"""Device on which a neuron makes its constants, which are real also in a detector that is built on the device ``meta``."""


class FoldedNeuron(SpikingNeuron):
    """Base of the zoo's neurons: 0..``levels`` spikes per step, one per exceeded number of ``thresholds``.

    Thresholds are (levels,) for all channels or, once quantised, (levels, C).

    snnTorch keeps every neuron alive in ``SpikingNeuron.instances`` and adds bookkeeping buffers to the state dict. Models
    that are created, fused and thrown away would leak, and checkpoints would carry constants, so both are undone here.

    Args:
        time_steps: T, by which the folded first dimension is unfolded.
        **kwargs: passed to :class:`snntorch.SpikingNeuron`.
    """

    thresholds: Tensor
    levels: int

    def __init__(self, *, time_steps: int, **kwargs: Any) -> None:
        if time_steps < 1:
            raise InvalidInputError(f"time_steps must be at least 1, got {time_steps}")
        with torch.device(CONSTANTS):
            super().__init__(**kwargs)
        SpikingNeuron.instances[:] = [other for other in SpikingNeuron.instances if other is not self]
        for name, buffer in list(self.named_buffers(recurse=False)):
            self.register_buffer(name, buffer, persistent=False)
        self.time_steps = time_steps
        self._compared: tuple[tuple[object, ...], list[Tensor], Tensor | None] | None = None

    def freeze(self, dtype: torch.dtype) -> None:
        """Compare with stored thresholds from now on, the very numbers of ``dtype`` that an exported graph holds.

        They become part of the state dict, so that quantisation can shift them per layer.
        """
        raise NotImplementedError

    def levels_of(self, mem: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Thresholds of each level that broadcast to (N, C, ...), and the first where they are evenly spaced."""
        now = self.thresholds
        key = (id(now), -1 if now.is_inference() else now._version, mem.dtype, mem.dim())
        if self._compared is None or self._compared[0] != key:
            rows = now.detach().to(mem.dtype)
            if rows.dim() == 2:
                is_one = bool((rows == rows[:, :1]).all())
                rows = rows[:, 0] if is_one else rows.view(*rows.shape, *[1] * (mem.dim() - 2))
            self._compared = (key, list(rows), evenly_spaced(list(rows), mem.dtype))
        return self._compared[1], self._compared[2]

    def unfold(self, folded: Tensor) -> tuple[Tensor, ...]:
        """(T*B, ...) -> T times (B, ...). Gradients keep the memory layout, which those of ``unflatten`` would not."""
        if folded.shape[0] % self.time_steps:
            raise InvalidInputError(
                f"a batch of {folded.shape[0]} folded steps is not a multiple of time_steps = {self.time_steps}"
            )
        return folded.split(folded.shape[0] // self.time_steps)


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
        levels = torch.arange(1, self.levels + 1, dtype=torch.float64, device=CONSTANTS)
        return levels.sub_(0.5).to(dtype)

    def freeze(self, dtype: torch.dtype) -> None:
        """See :class:`FoldedNeuron`.

        Half-even ties that round up become the next lower number of ``dtype`` with a strict comparison.
        """
        thresholds = self._midpoints(dtype)
        if self.rounding == "half_even":
            below = torch.nextafter(thresholds, torch.full_like(thresholds, -torch.inf))
            thresholds = torch.where(torch.arange(1, self.levels + 1, device=CONSTANTS) % 2 == 0, below, thresholds)
        self.register_buffer("thresholds", thresholds, persistent=True)
        self.is_frozen = True

    def fire(self, mem: Tensor) -> Tensor:
        """Membrane potential of any shape -> count 0..D, same shape and dtype."""
        if not self.is_frozen:
            return self.spike_grad(mem)
        thresholds, first = self.levels_of(mem)
        if first is not None and torch.is_grad_enabled() and mem.requires_grad:
            return integer_spike(self.levels, first=first)(mem)
        return count_exceeded(mem, thresholds, first)

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


class LIF(FoldedNeuron):
    r"""Leaky integrate-and-fire neuron with a hard reset: ``nir.LIF`` with r = 1, v_leak = v_reset = 0, step by step.

    .. math::
        v_t &= v'_{t-1} + k\,\bigl((0 - v'_{t-1}) + x_t\bigr), \qquad k = 1 - \beta, \quad v'_0 = 0 \\
        z_t &= [v_t > \theta], \qquad v'_t = v_t\,(1 - z_t)

    The input is scaled by k, as NIR defines it; EMS-YOLO's published neuron computes :math:`\beta v' + x`, which is the same up
    to a factor in the weights before. The reset is detached from the gradient. Source: Su et al., ICCV 2023, eq. 1-3.

    Args:
        time_steps: T.
        decay: beta, in 0..1 without 1.
        threshold: theta.
        scales_input: False for the published form.
    """

    levels = 1

    def __init__(
        self, *, time_steps: int, decay: float = 0.5, threshold: float = 0.5, scales_input: bool = True
    ) -> None:
        if not 0 <= decay < 1:
            raise InvalidInputError(f"decay must lie in 0..1 and be less than 1, got {decay}")
        super().__init__(time_steps=time_steps, threshold=threshold, spike_grad=rectangle(), reset_mechanism="zero")
        self.decay = decay
        self.scales_input = scales_input
        thresholds = torch.tensor([threshold], dtype=torch.get_default_dtype(), device=CONSTANTS)
        self.register_buffer("thresholds", thresholds, persistent=False)

    def freeze(self, dtype: torch.dtype) -> None:
        """See :class:`FoldedNeuron`."""
        self.register_buffer("thresholds", self.thresholds.to(dtype), persistent=True)

    def forward(self, current: Tensor) -> Tensor:
        """Input current (T*B, C, H, W) -> spikes 0 or 1 (T*B, C, H, W)."""
        gain = 1 - self.decay
        (threshold,), _ = self.levels_of(current)
        mem: Tensor | None = None
        spikes = []
        for step in self.unfold(current):
            if self.scales_input:
                mem = gain * step if mem is None else mem + gain * (step - mem)
            else:
                mem = step if mem is None else self.decay * mem + step
            spikes.append(self.spike_grad(mem - threshold))
            mem = mem * (1 - spikes[-1].detach())
        return torch.cat(spikes)

    def extra_repr(self) -> str:
        """Shown by ``print(detector)``."""
        return f"time_steps={self.time_steps}, decay={self.decay}, threshold={self.thresholds.flatten()[0]:.8g}"


class PLIF(FoldedNeuron):
    r"""Parametric leaky integrate-and-fire neuron with soft reset, as EAS-SNN uses it; its decay is learned.

    .. math::
        u_t &= \bigl(1 - \sigma(w)\bigr)\,(u_{t-1} - s_{t-1}) + x_t, \qquad u_0 = x_0 \\
        s_t &= [u_t \ge \theta], \qquad \theta = 1

    One w per layer. The gradient flows through the reset, too. Source: Fang et al., "Incorporating Learnable Membrane Time
    Constant", ICCV 2021, eq. 6, with the input not decayed; Wang et al., EAS-SNN, ECCV 2024. ``>=`` is stored as a strict
    comparison with the next lower number, as NIR compares.

    Args:
        time_steps: T.
        decay: initial :math:`1 - \sigma(w)`, between 0 and 1.
        alpha: of the arcus tangent surrogate.
    """

    levels = 1
    reset_amount = 1.0
    rounding: Rounding = "strict"

    def __init__(self, *, time_steps: int, decay: float = 0.5, alpha: float = 2.0) -> None:
        if not 0 < decay < 1:
            raise InvalidInputError(f"decay must lie between 0 and 1, got {decay}")
        super().__init__(time_steps=time_steps, threshold=1.0, spike_grad=arctan(alpha), reset_mechanism="subtract")
        self.w = nn.Parameter(torch.tensor(math.log((1 - decay) / decay), device=CONSTANTS))
        self.is_frozen = False
        self.register_buffer("thresholds", torch.ones(1, device=CONSTANTS), persistent=False)

    @property
    def decay(self) -> float:
        """What remains of the potential after a step."""
        return float(self._decay().detach())

    def _decay(self) -> Tensor:
        return self.kept if self.is_frozen else 1 - self.w.sigmoid()

    def freeze(self, dtype: torch.dtype) -> None:
        """See :class:`FoldedNeuron`. The decay becomes a constant of that type, too."""
        kept = (1 - self.w.detach().double().sigmoid()).to(dtype)
        del self.w
        self.register_buffer("kept", kept)
        one = torch.ones(1, dtype=dtype, device=CONSTANTS)
        self.register_buffer("thresholds", torch.nextafter(one, torch.zeros_like(one)), persistent=True)
        self.is_frozen = True

    def forward(self, current: Tensor) -> Tensor:
        """Input current (T*B, C, H, W) -> spikes 0 or 1 (T*B, C, H, W)."""
        decay = self._decay().to(current.dtype)
        (threshold,), _ = self.levels_of(current)
        fire = (lambda mem: (mem > threshold).to(mem.dtype)) if self.is_frozen else lambda mem: self.spike_grad(mem - 1)
        mem: Tensor | None = None
        spikes: list[Tensor] = []
        for step in self.unfold(current):
            mem = step if mem is None else decay * (mem - spikes[-1]) + step
            spikes.append(fire(mem))
        return torch.cat(spikes)

    def extra_repr(self) -> str:
        """Shown by ``print(detector)``."""
        return f"time_steps={self.time_steps}, decay={self.decay:.6g}"
