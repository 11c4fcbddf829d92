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
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.nir_graphs.fields import compact
from zoo.nir_graphs.graph import FlatNode

Spike = Callable[[Tensor, Tensor], Tensor]
"""A framework's Heaviside function with its surrogate gradient: (potential, threshold) -> 1 where above it, else 0."""


def tensor(value: Any, dtype: torch.dtype) -> Tensor:
    """An array as a compact tensor, rounded once to ``dtype``."""
    return torch.from_numpy(np.array(compact(value))).to(dtype)


class Constants(nn.Module):
    """A module that holds constants of a graph: they move with the module, but are neither trained nor saved."""

    def constant(self, name: str, value: Any, dtype: torch.dtype) -> None:
        """Register an array under ``name``, compact and rounded once."""
        self.register_buffer(name, tensor(value, dtype), persistent=False)


class Convolution(nn.Module):
    """``nir.Conv1d`` and ``nir.Conv2d``. Convolutions that only move values about hold constants: they are not trained."""

    weight: Tensor
    bias: Tensor

    def __init__(self, node: FlatNode, dtype: torch.dtype) -> None:
        super().__init__()
        for name in ("weight", "bias"):
            value = torch.tensor(node[name], dtype=dtype)
            if is_selection(node):
                self.register_buffer(name, value, persistent=False)
            else:
                self.register_parameter(name, nn.Parameter(value))
        sides = node["padding"]
        self.function: Callable[..., Tensor] = F.conv1d if len(sides) == 1 else F.conv2d
        self.stride, self.dilation, self.groups = node["stride"], node["dilation"], node["groups"]
        self.pads_alike = all(before == after for before, after in sides)
        self.padding = tuple(before if self.pads_alike else 0 for before, _ in sides)
        self.margins = tuple(side for pair in reversed(sides) for side in pair)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, ...) -> (N, O, ...)."""
        if not self.pads_alike:
            x = F.pad(x, self.margins)
        return self.function(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def is_selection(node: FlatNode) -> bool:
    """Whether a node is a convolution of zeros and ones without bias, such as rearrangements are made of."""
    if node.type not in {nir.Conv1d, nir.Conv2d} or np.any(node["bias"]):
        return False
    weight = node["weight"]
    return bool(((weight == 0) | (weight == 1)).all())


class Dense(nn.Module):
    """``nir.Affine`` and ``nir.Linear``: over the last axis."""

    def __init__(self, node: FlatNode, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(node["weight"], dtype=dtype))
        self.bias: nn.Parameter | None
        bias = nn.Parameter(torch.tensor(node["bias"], dtype=dtype)) if node.type is nir.Affine else None
        self.register_parameter("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ..., I) -> (N, ..., O)."""
        return F.linear(x, self.weight, self.bias)


class Scale(Constants):
    """``nir.Scale``."""

    scale: Tensor

    def __init__(self, node: FlatNode, dtype: torch.dtype) -> None:
        super().__init__()
        self.constant("scale", node["scale"], dtype)
        self.is_identity = self.scale.dim() == 0 and self.scale.item() == 1.0

    def forward(self, x: Tensor) -> Tensor:
        """scale * x."""
        return x if self.is_identity else self.scale * x


class SumPool(nn.Module):
    """``nir.SumPool2d``, and ``nir.AvgPool2d``, whose padding counts."""

    def __init__(self, node: FlatNode, _dtype: torch.dtype) -> None:
        super().__init__()
        self.kernel, self.stride = node["kernel_size"], node["stride"]
        self.padding = tuple(before for before, _ in node["padding"])
        self.divisor = self.kernel[0] * self.kernel[1] if node.type is nir.AvgPool2d else 1

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

    def __init__(self, node: FlatNode, _dtype: torch.dtype) -> None:
        super().__init__()
        self.start, self.end = node["start_dim"] + 1, node["end_dim"] + 1

    def forward(self, x: Tensor) -> Tensor:
        """Axes start..end become one."""
        return x.flatten(self.start, self.end)


class Identity(nn.Module):
    """``nir.Output``."""

    def __init__(self, _node: FlatNode, _dtype: torch.dtype) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x


def fire(x: Tensor, threshold: Tensor, spike: Spike | None) -> Tensor:
    """[x > threshold] in the type of x, whose shape the threshold broadcasts to.

    Where a gradient can flow, the framework's own function gives the very same bits, and its surrogate gradient.
    """
    if spike is not None and torch.is_grad_enabled() and x.requires_grad:
        return spike(x, threshold).to(x.dtype)
    return above(x.detach(), threshold)


def above(x: Tensor, threshold: Tensor | float) -> Tensor:
    """[x > threshold] in the type of x, whose shape the threshold broadcasts to; without gradient.

    Written as numbers at once: to convert truth values takes torch several times as long as to compare.
    """
    return torch.gt(x, threshold, out=torch.empty_like(x))


def reached(x: Tensor, threshold: Tensor | float) -> Tensor:
    """[x >= threshold], likewise."""
    return torch.ge(x, threshold, out=torch.empty_like(x))


class Threshold(Constants):
    """``nir.Threshold``."""

    threshold: Tensor

    def __init__(self, node: FlatNode, dtype: torch.dtype, spike: Spike | None = None) -> None:
        super().__init__()
        self.constant("threshold", node["threshold"], dtype)
        self.spike = spike

    def forward(self, x: Tensor) -> Tensor:
        """0 or 1, in the type of x."""
        return fire(x, self.threshold, self.spike)


class Delay(Constants):
    """``nir.Delay``: whole steps, possibly different ones per element; zero before the first input."""

    steps: Tensor
    zero: Tensor

    def __init__(self, node: FlatNode, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape = node.shape
        self.counts = [int(count) for count in np.unique(node["steps"])]
        self.constant("steps", node["steps"], torch.int64)
        self.constant("zero", 0.0, dtype)

    def read(self, past: list[Tensor], batch: int) -> Tensor:
        """Value of this step (B, ...), given the inputs of the last steps, oldest first."""
        if len(self.counts) == 1 and len(past) >= self.counts[0]:
            return past[-self.counts[0]]
        out = self.zero.new_zeros(batch, *self.shape)
        for count in self.counts:
            if len(past) >= count:
                out = torch.where(self.steps == count, past[-count], out)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """A whole sequence (T, B, ...), delayed."""
        out = torch.zeros_like(x)
        for count in self.counts:
            if count < len(x):
                shifted = torch.cat([torch.zeros_like(x[:count]), x[:-count]])
                out = shifted if len(self.counts) == 1 else torch.where(self.steps == count, shifted, out)
        return out


LAYERS: dict[type, Callable[[FlatNode, torch.dtype], nn.Module]] = {
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
