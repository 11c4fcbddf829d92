"""NIR nodes as torch operations: stateless layers, delays and membranes.

Everything here follows the discrete-time contract of ``zoo.nir_graphs.reference``, equation by equation. Frameworks replace
the plain membrane by their own cells. Arrays are kept as small as they are: one number as a 0-d tensor, one number per
channel as (C, 1, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.reference import conv_padding, delay_steps

Array = npt.NDArray[Any]
Spike = Callable[[Tensor], Tensor]
"""A framework's Heaviside function with its surrogate gradient: potential minus threshold -> 0 or 1."""


def compact(value: Any) -> Array:
    """The smallest array that broadcasts to ``value``: axes along which nothing changes get length 1, one number is 0-d."""
    array = np.asarray(value)
    array = array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array.reshape(()) if array.size == 1 else array


def tensor(value: Any, dtype: torch.dtype) -> Tensor:
    """An array as a compact tensor, rounded once to ``dtype``."""
    return torch.from_numpy(np.array(compact(value))).to(dtype)


class Constants(nn.Module):
    """A module that holds constants of a graph: they move with the module, but are neither trained nor saved."""

    def constant(self, name: str, value: Any, dtype: torch.dtype) -> None:
        """Register an array under ``name``, compact and rounded once."""
        self.register_buffer(name, tensor(value, dtype), persistent=False)


class Convolution(nn.Module):
    """``nir.Conv1d`` and ``nir.Conv2d``. Convolutions that only move values about are not trained."""

    def __init__(self, node: Any, dtype: torch.dtype) -> None:
        super().__init__()
        array = np.asarray(node.weight)
        moves_only = is_selection(node)
        self.weight = nn.Parameter(torch.tensor(array, dtype=dtype), requires_grad=not moves_only)
        self.bias = nn.Parameter(torch.tensor(np.asarray(node.bias), dtype=dtype).reshape(-1), not moves_only)
        axes = array.ndim - 2
        self.function: Callable[..., Tensor] = F.conv1d if axes == 1 else F.conv2d
        self.stride, self.dilation = _sizes(node.stride, axes), _sizes(node.dilation, axes)
        self.groups = int(node.groups)
        reach = [d * (k - 1) for d, k in zip(self.dilation, array.shape[2:], strict=True)]
        sides = conv_padding(node.padding, reach)
        if isinstance(node.padding, str | bytes) and any(map(any, sides)) and max(self.stride) > 1:
            raise InvalidGraphError("padding 'same' goes with stride 1 only")
        self.is_even = all(before == after for before, after in sides)
        self.padding = tuple(before for before, _ in sides) if self.is_even else (0,) * axes
        self.margins = tuple(side for pair in reversed(sides) for side in pair)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, ...) -> (N, O, ...)."""
        if not self.is_even:
            x = F.pad(x, self.margins)
        return self.function(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def is_selection(node: Any) -> bool:
    """Whether a node is a convolution of zeros and ones without bias, such as rearrangements are made of."""
    if not isinstance(node, nir.Conv1d | nir.Conv2d) or np.any(node.bias):
        return False
    weight = np.asarray(node.weight)
    return bool(((weight == 0) | (weight == 1)).all())


class Dense(nn.Module):
    """``nir.Affine`` and ``nir.Linear``: over the last axis."""

    def __init__(self, node: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(np.asarray(node.weight), dtype=dtype))
        self.bias: nn.Parameter | None = None
        if isinstance(node, nir.Affine):
            bias = np.array(np.broadcast_to(node.bias, self.weight.shape[:1]))
            self.bias = nn.Parameter(torch.tensor(bias, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(N, ..., I) -> (N, ..., O)."""
        return F.linear(x, self.weight, self.bias)


class Scale(Constants):
    """``nir.Scale``."""

    scale: Tensor

    def __init__(self, node: nir.Scale, dtype: torch.dtype) -> None:
        super().__init__()
        self.constant("scale", node.scale, dtype)
        self.is_identity = self.scale.dim() == 0 and self.scale.item() == 1.0

    def forward(self, x: Tensor) -> Tensor:
        """scale * x."""
        return x if self.is_identity else self.scale * x


class SumPool(nn.Module):
    """``nir.SumPool2d``, and ``nir.AvgPool2d``, whose padding counts."""

    def __init__(self, node: Any, _dtype: torch.dtype) -> None:
        super().__init__()
        self.kernel, self.stride = _sizes(node.kernel_size, 2), _sizes(node.stride, 2)
        self.padding = _sizes(node.padding, 2)
        self.divisor = self.kernel[0] * self.kernel[1] if isinstance(node, nir.AvgPool2d) else 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        vertical, horizontal = self.padding
        if vertical or horizontal:  # torch's own padding is limited to half the window
            x = F.pad(x, (horizontal, horizontal, vertical, vertical))
        # divisor 1 sums without dividing, so that spike counts stay whole numbers
        summed = F.avg_pool2d(x, self.kernel, self.stride, divisor_override=1)
        return summed / self.divisor if self.divisor > 1 else summed


class Flatten(nn.Module):
    """``nir.Flatten``; its axes do not count the batch."""

    def __init__(self, node: nir.Flatten, _dtype: torch.dtype) -> None:
        super().__init__()
        self.start, self.end = int(node.start_dim), int(node.end_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Axes start..end become one."""
        rank = x.dim() - 1
        return x.flatten(self.start % rank + 1, self.end % rank + 1)


class Identity(nn.Module):
    """``nir.Output``."""

    def __init__(self, _node: Any, _dtype: torch.dtype) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x


def fire(x: Tensor, threshold: Tensor, spike: Spike | None) -> Tensor:
    """[x > threshold] in the type of x; where a gradient is asked for, through the framework's surrogate.

    The difference of two floats is zero only where they are equal, so that both ways give the same bits.
    """
    if spike is None or not (torch.is_grad_enabled() and x.requires_grad):
        return (x > threshold).to(x.dtype)
    return spike(x - threshold).to(x.dtype)


class Threshold(Constants):
    """``nir.Threshold``."""

    threshold: Tensor

    def __init__(self, node: nir.Threshold, dtype: torch.dtype, spike: Spike | None = None) -> None:
        super().__init__()
        self.constant("threshold", node.threshold, dtype)
        self.spike = spike

    def forward(self, x: Tensor) -> Tensor:
        """0 or 1, in the type of x."""
        return fire(x, self.threshold, self.spike)


class Delay(nn.Module):
    """``nir.Delay``: whole steps, possibly different ones per element; zero before the first input."""

    steps: Tensor

    def __init__(self, node: nir.Delay, dt: float) -> None:
        super().__init__()
        steps = compact(delay_steps(node, dt))
        self.shape = tuple(np.shape(node.delay))
        self.counts = [int(count) for count in np.unique(steps)]
        self.register_buffer("steps", torch.from_numpy(np.array(steps)), persistent=False)

    def read(self, past: list[Tensor], like: Tensor) -> Tensor:
        """Value of this step (B, ...), given the inputs of the last steps, oldest first."""
        out = torch.zeros(like.shape[0], *self.shape, dtype=like.dtype, device=like.device)
        for count in self.counts:
            if len(past) >= count:
                chosen = past[-count]
                out = chosen if len(self.counts) == 1 else torch.where(self.steps == count, chosen, out)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """A whole sequence (T, B, ...), delayed."""
        out = torch.zeros_like(x)
        for count in self.counts:
            if count < len(x):
                shifted = torch.cat([torch.zeros_like(x[:count]), x[:-count]])
                out = shifted if len(self.counts) == 1 else torch.where(self.steps == count, shifted, out)
        return out


LAYERS: dict[type, Callable[[Any, torch.dtype], nn.Module]] = {
    nir.Output: Identity,
    nir.Conv1d: Convolution,
    nir.Conv2d: Convolution,
    nir.Affine: Dense,
    nir.Linear: Dense,
    nir.Scale: Scale,
    nir.SumPool2d: SumPool,
    nir.AvgPool2d: SumPool,
    nir.Flatten: Flatten,
}
"""Node types without memory; each is run once on all time steps folded into the batch."""


def _sizes(value: Any, axes: int) -> tuple[int, ...]:
    values = [int(one) for one in np.atleast_1d(value)]
    return tuple(values * axes if len(values) == 1 else values)
