"""Blocks of EMS-YOLO as its released models compute them: real values on shortcuts, pooled as they are.

A max-pool of real values in front of a neuron with memory, or added to a residual, has no NIR form, and neither has a SiLU:
these blocks import the authors' checkpoints, and refuse export. :mod:`zoo.detectors.ems_yolo.blocks` holds the NIR-native ones.
Written from measurements of the released behaviour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.detectors.ems_yolo.blocks import last_norm
from zoo.layers.conv import ConvBN, NeuronFactory, threshold_norm


class LeakySiLU(nn.Module):
    """The analog unit in the heads of EMS-ResNet18 and EMS-ResNet34 (COCO): not a spiking neuron.

    .. math::
        u_t = \\beta\\, a_{t-1} (1 - a_{t-1}) + x_t, \\qquad a_t = \\mathrm{SiLU}(u_t), \\quad a_0 = 0

    In the released networks the SiLU is switched to work in place, so that it overwrites the potential with the output, and the
    output is what decays. Alone, the released unit lets :math:`u_{t-1}` decay: ``overwrites=False``.

    Args:
        time_steps: T.
        decay: beta.
        overwrites: whether the output decays instead of the potential.
    """

    def __init__(self, *, time_steps: int, decay: float = 0.25, overwrites: bool = True) -> None:
        super().__init__()
        self.time_steps, self.decay, self.overwrites = time_steps, decay, overwrites

    def forward(self, current: Tensor) -> Tensor:
        """(T*B, C, H, W) -> (T*B, C, H, W)."""
        outputs: list[Tensor] = []
        mem: Tensor | None = None
        for step in current.unflatten(0, (self.time_steps, -1)):
            if mem is not None:
                kept = outputs[-1] if self.overwrites else mem
                step = self.decay * kept * (1 - outputs[-1].detach()) + step  # noqa: PLW2901 - the potential of this step
            mem = step
            outputs.append(F.silu(mem))
        return torch.cat(outputs)


class OfficialConv(nn.Module):
    """Convolution, norm, SiLU unit: (N, I, H, W) -> (N, O, H/stride, W/stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, neuron: NeuronFactory
    ) -> None:
        super().__init__()
        made: Any = neuron()
        self.conv: nn.Module = ConvBN(in_channels, out_channels, kernel_size, stride, norm=threshold_norm)
        self.act = LeakySiLU(time_steps=made.time_steps, decay=made.decay)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.act(self.conv(x))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norm, in place."""
        self.conv = self.conv.fuse(merge=merge)  # type: ignore[operator]


class _OfficialBlock(nn.Module):
    """The residual branch that both blocks share: neuron, convolution, norm, twice."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        hidden: int | None,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        hidden = out_channels if hidden is None else hidden
        self.neuron1 = neuron()
        self.conv1: nn.Module = ConvBN(in_channels, hidden, kernel_size, stride, norm=threshold_norm)
        self.neuron2 = neuron()
        self.conv2: nn.Module = ConvBN(hidden, out_channels, kernel_size, norm=last_norm)
        self.pool: nn.Module = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        self.shortcut: nn.Module | None = None

    def residual(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.conv2(self.neuron2(self.conv1(self.neuron1(x))))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norms, in place."""
        self.conv1 = self.conv1.fuse(merge=merge)  # type: ignore[operator]
        self.conv2 = self.conv2.fuse(merge=merge)  # type: ignore[operator]
        if self.shortcut is not None:
            self.shortcut = self.shortcut.fuse(merge=merge)  # type: ignore[operator]


class OfficialBlock1(_OfficialBlock):
    """EMS-Block1 as released: the shortcut pools the input itself, then neuron and 1x1 convolution.

    Args:
        in_channels, out_channels: I and O.
        kernel_size: of both convolutions.
        stride: of the first convolution, and of the pool.
        hidden: channels in between; by default O. The bottleneck blocks (fewer than O) have no neuron on their shortcut.
        neuron: makes each neuron.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        hidden: int | None = None,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, hidden, neuron)
        self.neuron_shortcut: Callable[[Tensor], Tensor] = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            if hidden is None or hidden >= out_channels:
                self.neuron_shortcut = neuron()
            self.shortcut = ConvBN(in_channels, out_channels, 1, norm=threshold_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.residual(x) + (x if self.shortcut is None else self.shortcut(self.neuron_shortcut(self.pool(x))))


class OfficialBlock2(_OfficialBlock):
    """EMS-Block2 as released: new channels by neuron and 1x1 convolution in front, then both kinds are pooled.

    Arguments as in :class:`OfficialBlock1`.
    """

    shortcut: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        hidden: int | None = None,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, hidden, neuron)
        self.neuron_shortcut = neuron()
        self.shortcut = ConvBN(in_channels, out_channels - in_channels, 1, norm=threshold_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.residual(x) + self.pool(torch.cat([self.shortcut(self.neuron_shortcut(x)), x], dim=1))
