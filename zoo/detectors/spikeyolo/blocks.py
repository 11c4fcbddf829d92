"""Blocks of SpikeYOLO. All are pre-activation with membrane shortcuts.

Residual streams carry real membrane currents, and a neuron stands in front of each convolution, so that every convolution
but the stem sees spikes only. Names follow the paper (Luo et al., ECCV 2024, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.detectors.spikeyolo.reparam import RepConv, SepRepConv
from zoo.layers.conv import ConvBN, NeuronFactory, SpikeConv, batch_norm
from zoo.layers.pooling import SpikeMaxPool2d


class SepConv(nn.Module):
    """Spiking inverted separable convolution: 1x1 to 2C, depthwise k x k, re-parameterised projection back to C.

    (N, C, H, W) -> (N, C, H, W), a neuron before each.
    """

    def __init__(self, channels: int, kernel_size: int, *, neuron: NeuronFactory) -> None:
        super().__init__()
        wide = 2 * channels
        self.neuron1 = neuron()
        self.expand: nn.Module = ConvBN(channels, wide, 1)
        self.neuron2 = neuron()
        self.depthwise: nn.Module = ConvBN(wide, wide, kernel_size, groups=wide)
        self.neuron3 = neuron()
        self.project: nn.Module = SepRepConv(wide, channels)
        self.bn: nn.Module | None = batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x = self.depthwise(self.neuron2(self.expand(self.neuron1(x))))
        x = self.project(self.neuron3(x))
        return x if self.bn is None else self.bn(x)

    def fuse_(self, *, merge: bool) -> None:
        """Fold the batch norms, in place."""
        self.expand = self.expand.fuse(merge=merge)  # type: ignore[operator]
        self.depthwise = self.depthwise.fuse(merge=merge)  # type: ignore[operator]
        self.project = self.project.fuse(self.bn, merge=merge)  # type: ignore[operator]
        self.bn = None


class _ResidualBlock(nn.Module):
    """y = x + SepConv(x); out = y + two convolutions over ratio * C hidden channels, a neuron before each."""

    def __init__(self, channels: int, kernel_size: int, *, neuron: NeuronFactory) -> None:
        super().__init__()
        self.separable = SepConv(channels, kernel_size, neuron=neuron)
        self.neuron1 = neuron()
        self.neuron2 = neuron()
        self.conv1: nn.Module
        self.conv2: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x = x + self.separable(x)
        return x + self.conv2(self.neuron2(self.conv1(self.neuron1(x))))


class MSAllConvBlock(_ResidualBlock):
    """SNN-block-1 of SpikeYOLO (high resolution): two dense 3x3 convolutions. (N, C, H, W) -> (N, C, H, W).

    Args:
        channels: C.
        ratio: hidden channels per channel.
        kernel_size: of the depthwise convolution in the separable half.
        neuron: makes each neuron.
    """

    def __init__(self, channels: int, ratio: int, kernel_size: int = 7, *, neuron: NeuronFactory) -> None:
        super().__init__(channels, kernel_size, neuron=neuron)
        self.conv1 = ConvBN(channels, ratio * channels, 3)
        self.conv2 = ConvBN(ratio * channels, channels, 3)

    def fuse_(self, *, merge: bool) -> None:
        """Fold the batch norms, in place."""
        self.conv1 = self.conv1.fuse(merge=merge)  # type: ignore[operator]
        self.conv2 = self.conv2.fuse(merge=merge)  # type: ignore[operator]


class MSConvBlock(_ResidualBlock):
    """SNN-block-2 of SpikeYOLO (low resolution): two re-parameterised convolutions. (N, C, H, W) -> (N, C, H, W).

    Arguments as in :class:`MSAllConvBlock`. Each re-parameterised convolution is followed by a second batch norm.
    """

    def __init__(self, channels: int, ratio: int, kernel_size: int = 7, *, neuron: NeuronFactory) -> None:
        super().__init__(channels, kernel_size, neuron=neuron)
        self.conv1 = nn.Sequential(RepConv(channels, ratio * channels), batch_norm(ratio * channels))
        self.conv2 = nn.Sequential(RepConv(ratio * channels, channels), batch_norm(channels))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the batch norms, in place."""
        for name in ("conv1", "conv2"):
            rep, norm = getattr(self, name)
            setattr(self, name, rep.fuse(norm, merge=merge))


class SpikeSPPF(nn.Module):
    """Spatial pyramid pooling, fast: windows of 1, 5, 9 and 13 side by side. (N, C, H, W) -> (N, C, H, W).

    Args:
        channels: C; the hidden width is C/2.
        kernel_size: window of each of the three chained max-pools.
        form: ``native`` pools the spikes, which NIR can express for every T. ``official`` pools real values and fires
            afterwards. At T = 1 both compute the same, since firing is monotone; at T = 2, 6.9 % of the entries differ.
        neuron: makes each neuron.
    """

    def __init__(self, channels: int, kernel_size: int = 5, *, form: str = "native", neuron: NeuronFactory) -> None:
        super().__init__()
        hidden = channels // 2
        self.form = form
        self.reduce = SpikeConv(channels, hidden, 1, neuron=neuron)
        self.neuron = neuron()
        self.pool: nn.Module
        if form == "native":
            self.pool = SpikeMaxPool2d(kernel_size)
        else:
            self.pool = nn.MaxPool2d(kernel_size, stride=1, padding=kernel_size // 2)
        self.expand: nn.Module = ConvBN(4 * hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x = self.reduce(x)
        if self.form == "native":
            x = self.neuron(x)
        once = self.pool(x)
        twice = self.pool(once)
        pyramid = torch.cat([x, once, twice, self.pool(twice)], dim=1)
        return self.expand(pyramid if self.form == "native" else self.neuron(pyramid))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the batch norm, in place; at T = 1 also go over to the native form, which is then the same function."""
        self.expand = self.expand.fuse(merge=merge)  # type: ignore[operator]
        if self.form == "official" and self.neuron.time_steps == 1:
            self.form = "native"
            self.pool = SpikeMaxPool2d(self.pool.kernel_size)  # type: ignore[arg-type]
