"""NIR nodes as torch operations: stateless layers and plain neuron steps.

Frameworks replace the neuron steps by their own cells; everything here follows the discrete-time contract of
``zoo.nir_graphs.reference``, equation by equation. Arrays that hold one number only are kept as 0-d tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.reference import delay_steps

State = Any


def tensor(value: Any, dtype: torch.dtype) -> Tensor:
    """An array as a tensor, rounded once to ``dtype``; one that holds one number only as a 0-d tensor."""
    array = np.asarray(value)
    distinct = array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
    if distinct.size and (distinct.size == 1 or (distinct == distinct.flat[0]).all()):
        array = distinct.reshape(-1)[0]
    return torch.from_numpy(np.array(array)).to(dtype)


def rate(tau: Any, dt: float, dtype: torch.dtype) -> Tensor:
    """dt / tau, computed in float64 and rounded once."""
    return tensor(dt / np.asarray(tau, np.float64), dtype)


class Stateless(nn.Module):
    """A node without memory: (N, ...) -> (N, ...), any leading N."""


class Stateful(nn.Module):
    """A node with memory. Subclasses step through time."""

    own_cell = False

    def start(self, like: Tensor) -> State:
        """State of rest for inputs (B, ...)."""
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Input (B, ...) -> output, potential before the reset, new state."""
        raise NotImplementedError


class Convolution(Stateless):
    """``nir.Conv1d`` and ``nir.Conv2d``."""

    def __init__(self, node: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(np.asarray(node.weight), dtype=dtype))
        self.bias = nn.Parameter(torch.tensor(np.asarray(node.bias), dtype=dtype).reshape(-1))
        axes = self.weight.dim() - 2
        self.function: Callable[..., Tensor] = F.conv1d if axes == 1 else F.conv2d
        self.stride, self.dilation = _sizes(node.stride, axes), _sizes(node.dilation, axes)
        self.groups = int(node.groups)
        padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
        self.padding = padding if isinstance(padding, str) else _sizes(padding, axes)
        if isinstance(padding, str) and padding == "same" and max(self.stride) > 1:
            raise InvalidGraphError("a convolution with padding 'same' must have stride 1")

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, ...) -> (N, O, ...)."""
        return self.function(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Dense(Stateless):
    """``nir.Affine`` and ``nir.Linear``: over the last axis."""

    def __init__(self, node: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(np.asarray(node.weight), dtype=dtype))
        bias = getattr(node, "bias", None)
        self.bias = None if bias is None else nn.Parameter(torch.tensor(np.asarray(bias), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        return F.linear(x, self.weight, self.bias)


class Scale(Stateless):
    """``nir.Scale``."""

    def __init__(self, node: nir.Scale, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("scale", tensor(node.scale, dtype), persistent=False)
        self.is_identity = self.scale.dim() == 0 and self.scale.item() == 1.0

    scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """scale * x."""
        return x if self.is_identity else self.scale * x


class SumPool(Stateless):
    """``nir.SumPool2d``, and ``nir.AvgPool2d``, whose padding counts."""

    def __init__(self, node: Any, _dtype: torch.dtype) -> None:
        super().__init__()
        self.kernel, self.stride = _sizes(node.kernel_size, 2), _sizes(node.stride, 2)
        self.padding = _sizes(node.padding, 2)
        self.divisor = self.kernel[0] * self.kernel[1] if isinstance(node, nir.AvgPool2d) else 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        vertical, horizontal = self.padding
        x = F.pad(x, (horizontal, horizontal, vertical, vertical))
        # divisor 1 sums without dividing, so that spike counts stay whole numbers
        summed = F.avg_pool2d(x, self.kernel, self.stride, divisor_override=1)
        return summed / self.divisor if self.divisor > 1 else summed


class Flatten(Stateless):
    """``nir.Flatten``; its axes do not count the batch."""

    def __init__(self, node: nir.Flatten, _dtype: torch.dtype) -> None:
        super().__init__()
        self.start, self.end = int(node.start_dim), int(node.end_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Axes start..end become one."""
        rank = x.dim() - 1
        return x.flatten(self.start % rank + 1, self.end % rank + 1)


class Identity(Stateless):
    """``nir.Input`` and ``nir.Output``."""

    def __init__(self, _node: Any, _dtype: torch.dtype) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x


class Threshold(Stateless):
    """``nir.Threshold``: [x > threshold], with the framework's surrogate gradient where there is one."""

    threshold: Tensor

    def __init__(self, node: nir.Threshold, dtype: torch.dtype, spike: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.register_buffer("threshold", tensor(node.threshold, dtype), persistent=False)
        self.spike = spike
        self.own_cell = spike is not None

    def forward(self, x: Tensor) -> Tensor:
        """0 or 1, in the type of x."""
        if self.spike is None:
            return (x > self.threshold).to(x.dtype)
        # the difference of two floats is zero only where they are equal, so its sign decides exactly
        return self.spike(x - self.threshold).to(x.dtype)


class Neuron(Stateful):
    """Plain torch steps of LIF, IF, LI, I, CubaLIF and CubaLI, for what a framework has no cell of its own for."""

    def __init__(self, node: Any, dtype: torch.dtype, dt: float, spike: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.kind = type(node)
        self.spike = spike
        names = ("r", "v_leak", "v_threshold", "v_reset", "w_in")
        self.p = {name: tensor(getattr(node, name), dtype) for name in names if getattr(node, name, None) is not None}
        self.fires = "v_threshold" in self.p
        if self.fires:
            self.p.setdefault("v_reset", torch.zeros((), dtype=dtype))
        tau = getattr(node, "tau", getattr(node, "tau_mem", None))
        self.k = torch.tensor(dt, dtype=dtype) if tau is None else rate(tau, dt, dtype)
        self.leaks = tau is not None
        self.k_syn = rate(node.tau_syn, dt, dtype) if hasattr(node, "tau_syn") else None

    def start(self, like: Tensor) -> State:
        """(v, i) = 0."""
        return torch.zeros_like(like), torch.zeros_like(like)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One step of the contract's equation."""
        v, i = state
        if self.k_syn is not None:
            x = i = i + self.k_syn * (self.p["w_in"] * x - i)
        v = v + self.k * ((self.p["v_leak"] - v) + self.p["r"] * x) if self.leaks else v + self.k * self.p["r"] * x
        if not self.fires:
            return v, v, (v, i)
        over = v - self.p["v_threshold"]
        z = self.spike(over).to(v.dtype) if self.spike is not None else (over > 0).to(v.dtype)
        return z, v, (torch.where(z > 0, self.p["v_reset"], v), i)


class Delay(nn.Module):
    """``nir.Delay``: whole steps, possibly different ones per element."""

    def __init__(self, node: nir.Delay, dt: float) -> None:
        super().__init__()
        steps = torch.from_numpy(np.array(delay_steps(node, dt)))
        self.shape = tuple(steps.shape)
        self.counts = [int(count) for count in steps.unique()]
        self.steps = steps if len(self.counts) > 1 else None

    def read(self, past: list[Tensor], like: Tensor) -> Tensor:
        """Value of this step (B, ...) from the inputs of the steps before."""
        out = torch.zeros(like.shape[0], *self.shape, dtype=like.dtype, device=like.device)
        for count in self.counts:
            if len(past) >= count:
                chosen = past[-count]
                out = chosen if self.steps is None else torch.where(self.steps == count, chosen, out)
        return out

    def unrolled(self, x: Tensor) -> Tensor:
        """Whole sequence (T, B, ...) at once, for a Delay outside any cycle."""
        return torch.stack([self.read(list(x[:t]), x[0]) for t in range(len(x))])


LAYERS: dict[type, type] = {
    nir.Input: Identity,
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
NEURON_NODES = (nir.LIF, nir.IF, nir.LI, nir.I, nir.CubaLIF, nir.CubaLI)
KNOWN = {*LAYERS, *NEURON_NODES, nir.Threshold, nir.Delay}


def _sizes(value: Any, axes: int) -> tuple[int, ...]:
    values = [int(one) for one in np.atleast_1d(value)]
    return tuple(values * axes if len(values) == 1 else values)
