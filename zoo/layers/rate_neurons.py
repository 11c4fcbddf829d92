"""Integrate-and-fire neurons, binary or signed: of converted networks, whose rates they carry, and of SpikingYOLOX."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from zoo.errors import InvalidInputError
from zoo.layers.neurons import CONSTANTS, FoldedNeuron
from zoo.layers.surrogates import arctan


class SignedIF(FoldedNeuron):
    r"""Integrate-and-fire with soft reset; with a slope, signed with an imbalanced threshold (IBT), for LeakyReLU.

    .. math::
        v_t &= v'_{t-1} + x_t, \qquad v'_0 = 0 \\
        s_t &= [v_t \ge \theta] - [v_t \le -\theta / \alpha], \qquad
        v'_t = v_t - \theta\,[v_t \ge \theta] + (\theta / \alpha)\,[v_t \le -\theta / \alpha]

    With theta = 1 and slope alpha the rate of s approaches LeakyReLU(mean of x); with slope 0 it never fires negatively and
    approaches ReLU. Source: Kim et al., AAAI 2020, section "Signed neuron featuring imbalanced threshold". Its ``>=`` is
    stored as a strict comparison with the next lower number, as NIR compares.

    With a slope of 1 it is the ternary neuron of SpikingYOLOX (AAAI 2025): spikes of -1, 0 and 1 at thresholds of -1 and 1.
    With ``reset="zero"`` it is the neuron of that paper's published code: never negative, and set to 0 by a spike.

    Args:
        time_steps: T.
        slope: alpha of the LeakyReLU; 0 for ReLU.
        reset: ``subtract``, or ``zero`` (binary spikes only).
    """

    levels = 1

    def __init__(self, *, time_steps: int, slope: float = 0.0, reset: Literal["subtract", "zero"] = "subtract") -> None:
        if not 0 <= slope <= 1:
            raise InvalidInputError(f"slope must lie in 0..1, got {slope}")
        if reset not in {"subtract", "zero"} or (reset == "zero" and slope):
            raise InvalidInputError(f"reset must be 'subtract', or 'zero' with a slope of 0, got {reset!r} and {slope}")
        super().__init__(time_steps=time_steps, threshold=1.0, spike_grad=arctan(), reset_mechanism=reset)
        self.slope = slope
        self.carry: Tensor | None = None
        self.carries = False
        self.register_buffer("thresholds", self._below(torch.get_default_dtype()), persistent=False)

    def _below(self, dtype: torch.dtype) -> Tensor:
        """The numbers next below 1 and 1 / slope: (1,), or (2,) with a slope."""
        numbers = [1.0, *([1 / self.slope] if self.slope else [])]
        at = torch.tensor(numbers, dtype=torch.float64, device=CONSTANTS).to(dtype)
        return torch.nextafter(at, torch.zeros_like(at))

    @property
    def resets(self) -> tuple[float, float]:
        """What a positive spike takes from the potential, and what a negative one gives back."""
        return 1.0, 1 / self.slope if self.slope else 0.0

    def freeze(self, dtype: torch.dtype) -> None:
        """See :class:`FoldedNeuron`."""
        self.register_buffer("thresholds", self._below(dtype), persistent=True)

    def _exceeds(self, potential: Tensor, index: int, at: float) -> Tensor:
        """Whether potentials reach ``at``; with a surrogate gradient where one is asked for."""
        thresholds, _ = self.levels_of(potential)
        fired = (potential > thresholds[index]).to(potential.dtype)
        if not (torch.is_grad_enabled() and potential.requires_grad):
            return fired
        smooth: Tensor = self.spike_grad(potential - at)
        return smooth + (fired - smooth).detach()

    def forward(self, current: Tensor) -> Tensor:
        """Input (T*B, C, H, W) -> spikes -1, 0 or 1 (T*B, C, H, W)."""
        down, up = self.resets
        mem = self.carry if self.carries else None
        spikes = []
        for step in self.unfold(current):
            mem = step if mem is None else mem + step
            fired = self._exceeds(mem, 0, 1.0)
            after = mem * (1 - fired) if self.reset_mechanism == "zero" else mem - down * fired
            if self.slope:
                below = self._exceeds(-mem, 1, up)
                after = after + up * below
                fired = fired - below
            spikes.append(fired)
            mem = after
        self.carry = mem if self.carries else None
        return torch.cat(spikes)

    def extra_repr(self) -> str:
        """Shown by ``print(detector)``."""
        return f"time_steps={self.time_steps}, slope={self.slope}, reset={self.reset_mechanism!r}"
