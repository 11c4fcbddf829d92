"""Surrogate gradients in snnTorch's form: a factory returns the function that a neuron calls as ``spike_grad``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SpikeFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Applied:
    """A function of autograd with its constants: unlike a function within a function it can be pickled."""

    function: type[torch.autograd.Function]
    constants: tuple[Any, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Potential, or its excess over the threshold -> spikes."""
        spikes: Tensor = self.function.apply(x, *self.constants)
        return spikes


class _IntegerSpike(torch.autograd.Function):
    """Forward: count of the membrane potential. Backward: straight through where ``0 <= u <= levels``."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor, levels: int, half_even: bool, first: float | Tensor) -> Tensor:
        ctx.save_for_backward(potential)
        ctx.levels = levels
        if half_even:
            return potential.clamp(0, levels).round_()
        return potential.sub(first).ceil_().clamp_(0, levels)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (potential,) = ctx.saved_tensors
        # hardtanh's gradient is one fused kernel, but leaves out the borders, which belong to the rectangle
        lowest, highest = -torch.finfo(potential.dtype).tiny, ctx.levels * (1 + torch.finfo(potential.dtype).eps)
        return torch.ops.aten.hardtanh_backward(grad_outputs[0], potential, lowest, highest), None, None, None


def integer_spike(levels: int, *, half_even: bool = False, first: float | Tensor = 0.5) -> SpikeFunction:
    r"""Integer spike of the I-LIF neuron with a rectangular straight-through gradient.

    .. math::
        s = \sum_{k=1}^{D} [u > k - \tfrac12], \qquad
        \frac{\partial s}{\partial u} := [0 \le u \le D]

    Source: Luo et al., "Integer-Valued Training and Spike-Driven Inference", ECCV 2024 (SpikeYOLO), eq. 5-7.

    Args:
        levels: D, the largest count.
        half_even: round ties to the even count, as the published code does, instead of down.
        first: the first threshold, a number or one per channel; the others follow in steps of 1.

    Returns:
        A function from membrane potentials of any shape to counts 0..D of the same shape and dtype.
    """

    return _Applied(_IntegerSpike, (levels, half_even, first))


class _BinarySpike(torch.autograd.Function):
    """Forward: [x > 0]. Backward: a rectangle of area 1 around 0."""

    @staticmethod
    def forward(ctx: Any, excess: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(excess)
        ctx.width = width
        return (excess > 0).to(excess.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (excess,) = ctx.saved_tensors
        half = ctx.width / 2
        return torch.ops.aten.hardtanh_backward(grad_outputs[0], excess, -half, half) / ctx.width, None


def rectangle(width: float = 1.0) -> SpikeFunction:
    r"""Binary spike with a rectangular surrogate gradient.

    .. math::
        z = [x > 0], \qquad \frac{\partial z}{\partial x} := \frac1w \Bigl[|x| < \frac w2\Bigr]

    Source: Wu et al., "Spatio-Temporal Backpropagation", Frontiers in Neuroscience 2018, eq. 24; EMS-YOLO uses w = 1.

    Args:
        width: w.

    Returns:
        A function from potential minus threshold, of any shape, to 0 or 1 in the same dtype.
    """

    return _Applied(_BinarySpike, (width,))


class _ArctanSpike(torch.autograd.Function):
    """Forward: [x >= 0]. Backward: the derivative of a scaled arcus tangent."""

    @staticmethod
    def forward(ctx: Any, excess: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(excess)
        ctx.alpha = alpha
        return (excess >= 0).to(excess.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (excess,) = ctx.saved_tensors
        scaled = excess * (math.pi / 2 * ctx.alpha)
        return grad_outputs[0] * (ctx.alpha / 2) / (1 + scaled * scaled), None


def arctan(alpha: float = 2.0) -> SpikeFunction:
    r"""Binary spike, at the threshold too, with an arcus tangent as surrogate.

    .. math::
        z = [x \ge 0], \qquad
        \frac{\partial z}{\partial x} := \frac{\alpha}{2}\,\frac{1}{1 + (\frac{\pi}{2} \alpha x)^2}

    Source: Fang et al., "Incorporating Learnable Membrane Time Constant", ICCV 2021, section 3.4; EAS-SNN uses alpha = 2.

    Args:
        alpha: steepness.

    Returns:
        A function from potential minus threshold, of any shape, to 0 or 1 in the same dtype.
    """

    return _Applied(_ArctanSpike, (alpha,))
