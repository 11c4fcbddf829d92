"""Fused kernels for the groups that ``zoo.adapters.fusion`` finds. Each gives the same bits as its nodes one by one."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.adapters.fusion import SoftReset
from zoo.adapters.ops import Constants, Convolution, Spike, fire
from zoo.layers.counting import count_exceeded, evenly_spaced
from zoo.layers.surrogates import integer_spike
from zoo.nir_graphs.fields import Array


class Count(Constants):
    """How many thresholds a potential exceeds: the sum of a bank's nodes.

    Args:
        thresholds: ascending or not, compact.
        dtype: of the computation.
        spike: Heaviside function with a surrogate gradient.
    """

    def __init__(self, thresholds: Sequence[Array], dtype: torch.dtype, spike: Spike | None) -> None:
        super().__init__()
        for index, threshold in enumerate(thresholds):
            # rounded to the working type first, exactly as the single nodes are
            self.constant(f"threshold{index}", threshold, dtype)
        self.levels = len(thresholds)
        self.spike = spike
        first = evenly_spaced(self.thresholds, dtype)
        self.is_even = first is not None
        if first is not None:
            self.register_buffer("first", first, persistent=False)
        # an integer neuron trains with the gradient that the zoo's own have; quantised ones have shifted thresholds
        self.is_integer = first is not None and self.levels > 1 and bool((first == 0.5).all())
        self.surrogate = integer_spike(self.levels) if self.is_integer else None

    @property
    def thresholds(self) -> list[Tensor]:
        """Rounded to the working type."""
        return [self.get_buffer(f"threshold{index}") for index in range(self.levels)]

    def level(self, x: Tensor, index: int) -> Tensor:
        """[x > threshold of that index], in the type of x."""
        return fire(x, self.thresholds[index], self.spike)

    def forward(self, x: Tensor) -> Tensor:
        """Number of thresholds below x, in the type of x."""
        if torch.is_grad_enabled() and x.requires_grad:
            return self.surrogate(x) if self.surrogate else self._summed(x)
        return count_exceeded(x, self.thresholds, self.get_buffer("first") if self.is_even else None)

    def _summed(self, x: Tensor) -> Tensor:
        return torch.stack([self.level(x, index) for index in range(self.levels)]).sum(0)


class SoftResetCell(Constants):
    """Runs a canonical soft-reset loop on a whole sequence."""

    decay: Tensor

    def __init__(self, loop: SoftReset, dtype: torch.dtype, spike: Spike | None) -> None:
        super().__init__()
        self.count = Count(loop.thresholds, dtype, spike)
        self.constant("decay", loop.decay, dtype)
        self.order = [level for level, _ in loop.resets]
        for index, (_, amount) in enumerate(loop.resets):
            self.constant(f"reset{index}", amount, dtype)
        # u - 1 - 1 = u - 2 exactly for every u above thresholds from 0.5, 1.5, ... on in which ones still count: the
        # differences are multiples of the unit in the last place of u, and smaller than u
        is_unit = all(amount.ndim == 0 and amount == -1 for _, amount in loop.resets)
        once_each = sorted(self.order) == list(range(self.count.levels))
        is_high = self.count.is_even and bool((self.count.get_buffer("first") >= 0.5).all())
        self.subtracts_count = is_high and is_unit and once_each

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Currents (T, B, ...) -> counts, potentials U (T, B, ...)."""
        u = x[0]
        counts, potentials = [self.count(u)], [u]
        for current in x[1:]:
            u = current + self.decay * self._reset(u, counts[-1])
            counts.append(self.count(u))
            potentials.append(u)
        return torch.stack(counts), torch.stack(potentials)

    def _reset(self, u: Tensor, count: Tensor) -> Tensor:
        """The potential less its resets, which carry no gradient."""
        if self.subtracts_count and u.max() < 1 / torch.finfo(u.dtype).eps:
            return u - count.detach()
        rest = u
        for index, level in enumerate(self.order):
            z = (u.detach() > self.count.thresholds[level]).to(u.dtype)
            rest = rest + self.get_buffer(f"reset{index}") * z
        return rest


class Rearrangement(nn.Module):
    """A chain of convolutions of zeros and ones, run as what it does: nearest upsampling, or picking values.

    What it does to an input of some shape is found once, by sending probes through it in float64, where they are exact. Ones
    tell how many inputs each output sums; the numbers 1, 2, 3, ... then tell which one it is.
    """

    def __init__(self, layers: Sequence[Convolution]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.known: dict[tuple[int, ...], tuple[tuple[int, ...], Tensor | None] | None] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        shape = tuple(x.shape[1:])
        if shape not in self.known:
            self.known[shape] = self._probe(shape)
        known = self.known[shape]
        if known is None:
            for layer in self.layers:
                x = layer(x)
            return x
        out, index = known
        if index is None:
            return F.interpolate(x, size=out[1:], mode="nearest")
        picked = F.pad(x.flatten(1), (1, 0))[:, index.to(x.device)]  # place 0 is an added zero
        return picked.view(len(x), *out)

    @torch.no_grad()
    def _probe(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Tensor | None] | None:
        """Shape of the output, and for each of its values which input it is (1, 2, ..., 0 for none; None: upsampling).

        None altogether where an output is a sum of several inputs.
        """
        numbers = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).view(1, *shape)
        if self._through(torch.ones_like(numbers)).max() > 1:
            return None
        result = self._through(numbers)
        out = tuple(result.shape[1:])
        # for other factors, interpolate's own arithmetic on coordinates may be off by one in another type
        may_enlarge = out[0] == shape[0] and all(_is_power_of_two(out[axis] / shape[axis]) for axis in (1, 2))
        if may_enlarge and torch.equal(result, F.interpolate(numbers, size=out[1:], mode="nearest")):
            return out, None
        return out, result.flatten().long()

    def _through(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = copy.deepcopy(layer).to("cpu", torch.float64)(x)
        return x


def _is_power_of_two(factor: float) -> bool:
    return factor >= 1 and math.frexp(factor)[0] == 0.5


class Placement(nn.Module):
    """A one-hot 1x1 convolution that puts its channels among zeros: a part of a concatenation."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.margins = (0, 0, 0, 0, before, after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, before + I + after, H, W)."""
        return F.pad(x, self.margins)
