"""Blocks of EMS-YOLO in their NIR-native form. All are pre-activation with membrane shortcuts.

EMS-YOLO keeps real currents on its shortcuts and pools *them*; a max-pool of real values in front of a neuron with memory
has no NIR form. Natively every shortcut that changes its shape starts from the block's own spikes instead: neuron, pool,
1x1 convolution. That also leaves no multiplication by real values anywhere behind the stem. Names follow the paper (Su et
al., "Deep Directly-Trained Spiking Neural Networks for Object Detection", ICCV 2023, section 4.2).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from zoo.layers.conv import ConvBN, NeuronFactory, NormFactory, threshold_norm
from zoo.layers.pooling import SpikeMaxPool2d

LAST_GAIN = 0.2
"""Initial scale of the norm that ends a residual branch, as a share of the usual one; keeps the sums of deep nets small."""
last_norm: NormFactory = partial(threshold_norm, gain=LAST_GAIN)


class SpikeConv(nn.Module):
    """Neuron, convolution, norm: (N, I, H, W) -> (N, O, H/stride, W/stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, neuron: NeuronFactory
    ) -> None:
        super().__init__()
        self.neuron = neuron()
        self.conv: nn.Module = ConvBN(in_channels, out_channels, kernel_size, stride, norm=threshold_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.conv(self.neuron(x))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norm, in place."""
        self.conv = self.conv.fuse(merge=merge)  # type: ignore[operator]


class EMSBlock1(nn.Module):
    """EMS-Block1: two convolutions, a neuron before each, plus a shortcut. (N, I, H, W) -> (N, O, H/stride, W/stride).

    The shortcut is the input itself where shapes agree; else spikes of the first neuron, pooled, through a 1x1 convolution.

    Args:
        in_channels, out_channels: I and O.
        kernel_size: of both convolutions.
        stride: of the first convolution, and of the pool.
        hidden: channels in between; by default O.
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
        super().__init__()
        hidden = out_channels if hidden is None else hidden
        self.neuron1 = neuron()
        self.conv1: nn.Module = ConvBN(in_channels, hidden, kernel_size, stride, norm=threshold_norm)
        self.neuron2 = neuron()
        self.conv2: nn.Module = ConvBN(hidden, out_channels, kernel_size, norm=last_norm)
        self.pool = SpikeMaxPool2d(stride, stride, 0) if stride > 1 else nn.Identity()
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvBN(in_channels, out_channels, 1, norm=threshold_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        spikes = self.neuron1(x)
        out = self.conv2(self.neuron2(self.conv1(spikes)))
        return out + (x if self.shortcut is None else self.shortcut(self.pool(spikes)))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norms, in place."""
        self.conv1 = self.conv1.fuse(merge=merge)  # type: ignore[operator]
        self.conv2 = self.conv2.fuse(merge=merge)  # type: ignore[operator]
        if self.shortcut is not None:
            self.shortcut = self.shortcut.fuse(merge=merge)  # type: ignore[operator]


class EMSBlock2(nn.Module):
    """EMS-Block2: as EMS-Block1, but the shortcut only computes the new channels and keeps the old ones.

    (N, I, H, W) -> (N, O, H/stride, W/stride), O > I. The old channels are averaged over the pool's window, which is linear
    and so has an exact NIR form; the published code takes their maximum.

    Arguments as in :class:`EMSBlock1`.
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
        super().__init__()
        hidden = out_channels if hidden is None else hidden
        self.neuron1 = neuron()
        self.conv1: nn.Module = ConvBN(in_channels, hidden, kernel_size, stride, norm=threshold_norm)
        self.neuron2 = neuron()
        self.conv2: nn.Module = ConvBN(hidden, out_channels, kernel_size, norm=last_norm)
        self.pool = SpikeMaxPool2d(stride, stride, 0) if stride > 1 else nn.Identity()
        self.average = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.shortcut: nn.Module = ConvBN(in_channels, out_channels - in_channels, 1, norm=threshold_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        spikes = self.neuron1(x)
        out = self.conv2(self.neuron2(self.conv1(spikes)))
        return out + torch.cat([self.shortcut(self.pool(spikes)), self.average(x)], dim=1)

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norms, in place."""
        self.conv1 = self.conv1.fuse(merge=merge)  # type: ignore[operator]
        self.conv2 = self.conv2.fuse(merge=merge)  # type: ignore[operator]
        self.shortcut = self.shortcut.fuse(merge=merge)  # type: ignore[operator]
