"""The parts of YOLOX that EAS-SNN and SpikingYOLOX are made of: convolution, norm, activation; CSP layers; the decoupled head.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430. Every activation is made by a factory, so that a part is
spiking where the factory makes neurons, and analog where it makes SiLUs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from zoo.layers.conv import Activation, ConvAct, ConvFactory


class SeparableConvAct(nn.Module):
    """Depthwise convolution, then a pointwise one, each with norm and activation: (N, I, H, W) -> (N, O, H', W')."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, act: Activation
    ) -> None:
        super().__init__()
        self.depthwise = ConvAct(in_channels, in_channels, kernel_size, stride, groups=in_channels, act=act)
        self.pointwise = ConvAct(in_channels, out_channels, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.pointwise(self.depthwise(x))


class Focus(nn.Module):
    """Four neighbouring pixels as channels (top left, bottom left, top right, bottom right), then a 3x3 convolution.

    (N, I, H, W) -> (N, O, H/2, W/2). A 6x6 convolution of stride 2 computes the same.
    """

    def __init__(self, in_channels: int, out_channels: int, *, act: Activation) -> None:
        super().__init__()
        self.conv = ConvAct(4 * in_channels, out_channels, 3, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H/2, W/2)."""
        parts = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(parts, dim=1))


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution, and the input added behind the last activation: (N, C, H, W), same shape.

    With neurons the sum is an integer, up to one more than that of the block before.
    """

    def __init__(self, channels: int, *, shortcut: bool, act: Activation, conv: ConvFactory = ConvAct) -> None:
        super().__init__()
        self.conv1 = ConvAct(channels, channels, 1, act=act)
        self.conv2 = conv(channels, channels, 3, act=act)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), same shape."""
        out = self.conv2(self.conv1(x))
        return out + x if self.shortcut else out


class CSPLayer(nn.Module):
    """Cross-stage partial layer: one half of the channels goes through ``blocks``: (N, I, H, W) -> (N, O, H, W).

    Args:
        in_channels, out_channels: I and O.
        depth: blocks in sequence.
        shortcut: whether the blocks have residual connections.
        act: makes each activation.
        conv: makes the 3x3 convolutions.
        block: makes a block for so many channels; by default :class:`Bottleneck`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        *,
        shortcut: bool = True,
        act: Activation,
        conv: ConvFactory = ConvAct,
        block: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = ConvAct(in_channels, hidden, 1, act=act)
        self.conv2 = ConvAct(in_channels, hidden, 1, act=act)
        make = block or (lambda channels: Bottleneck(channels, shortcut=shortcut, act=act, conv=conv))
        self.blocks = nn.Sequential(*(make(hidden) for _ in range(depth)))
        self.conv3 = ConvAct(2 * hidden, out_channels, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        return self.conv3(torch.cat([self.blocks(self.conv1(x)), self.conv2(x)], dim=1))


class SPPBottleneck(nn.Module):
    """Spatial pyramid pooling with windows of 5, 9 and 13 pixels: (N, I, H, W) -> (N, O, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, act: Activation) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.conv1 = ConvAct(in_channels, hidden, 1, act=act)
        self.pools = nn.ModuleList(nn.MaxPool2d(side, 1, side // 2) for side in (5, 9, 13))
        self.conv2 = ConvAct(4 * hidden, out_channels, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pool(x) for pool in self.pools)], dim=1))


def stem(in_channels: int, out_channels: int, *, analog: bool, act: Activation) -> nn.Module:
    """Halves the resolution: a 6x6 convolution, or, as released, Focus with a SiLU, which spans the same pixels."""
    if analog:
        return Focus(in_channels, out_channels, act=nn.SiLU)
    return ConvAct(in_channels, out_channels, 6, 2, padding=2, act=act)


class CSPDarknet(nn.Module):
    """The backbone of YOLOX: (N, C, H, W) -> features at strides 8, 16 and 32.

    Args:
        stem: maps (N, C, H, W) to (N, width, H/2, W/2).
        width: channels of the stem; the stages have 2, 4, 8 and 16 times as many.
        depth: blocks of the CSP layers, three times as many at strides 8 and 16.
        act: makes each activation.
        pyramid_act: likewise, of the spatial pyramid and the convolution before it; by default ``act``.
        deep_act: likewise, of the last stage; by default ``act``.
        block: makes each block of the last stage for so many channels; by default bottlenecks.
        conv: makes the 3x3 convolutions.
    """

    def __init__(
        self,
        stem: nn.Module,
        width: int,
        depth: int,
        *,
        act: Activation,
        pyramid_act: Activation | None = None,
        deep_act: Activation | None = None,
        block: Callable[[int], nn.Module] | None = None,
        conv: ConvFactory = ConvAct,
    ) -> None:
        super().__init__()
        pyramid_act, deep_act = pyramid_act or act, deep_act or act
        layer = partial(CSPLayer, act=act, conv=conv)
        self.stem = stem
        self.down2 = conv(width, 2 * width, 3, 2, act=act)
        self.stage2 = layer(2 * width, 2 * width, depth)
        self.down3 = conv(2 * width, 4 * width, 3, 2, act=act)
        self.stage3 = layer(4 * width, 4 * width, 3 * depth)
        self.down4 = conv(4 * width, 8 * width, 3, 2, act=act)
        self.stage4 = layer(8 * width, 8 * width, 3 * depth)
        self.down5 = conv(8 * width, 16 * width, 3, 2, act=pyramid_act)
        self.pyramid = SPPBottleneck(16 * width, 16 * width, act=pyramid_act)
        self.stage5 = CSPLayer(16 * width, 16 * width, depth, shortcut=False, act=deep_act, conv=conv, block=block)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> strides 8, 16, 32."""
        p2 = self.stage2(self.down2(self.stem(x)))
        p3 = self.stage3(self.down3(p2))
        p4 = self.stage4(self.down4(p3))
        p5 = self.stage5(self.pyramid(self.down5(p4)))
        return [p3, p4, p5]


class PAFPN(nn.Module):
    """Path aggregation: features at strides 8, 16, 32 -> features at strides 8, 16, 32, with the same channels.

    Args:
        channels: of the features, finest first.
        depth: blocks of each CSP layer.
        act: makes each activation.
        conv: makes the 3x3 convolutions.
    """

    def __init__(self, channels: Sequence[int], depth: int, *, act: Activation, conv: ConvFactory = ConvAct) -> None:
        super().__init__()
        c3, c4, c5 = channels
        layer = partial(CSPLayer, depth=depth, shortcut=False, act=act, conv=conv)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.lateral5 = ConvAct(c5, c4, 1, act=act)
        self.top_down4 = layer(2 * c4, c4)
        self.lateral4 = ConvAct(c4, c3, 1, act=act)
        self.top_down3 = layer(2 * c3, c3)
        self.down3 = conv(c3, c3, 3, 2, act=act)
        self.bottom_up4 = layer(2 * c3, c4)
        self.down4 = conv(c4, c4, 3, 2, act=act)
        self.bottom_up5 = layer(2 * c4, c5)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features at strides 8, 16, 32 -> the same, aggregated."""
        p3, p4, p5 = features
        lateral5 = self.lateral5(p5)
        top4 = self.top_down4(torch.cat([self.upsample(lateral5), p4], dim=1))
        lateral4 = self.lateral4(top4)
        n3 = self.top_down3(torch.cat([self.upsample(lateral4), p3], dim=1))
        n4 = self.bottom_up4(torch.cat([self.down3(n3), lateral4], dim=1))
        n5 = self.bottom_up5(torch.cat([self.down4(n4), lateral5], dim=1))
        return [n3, n4, n5]


ANALOG: dict[type[nn.Module], str] = {
    nn.SiLU: "is analog (SiLU)",
    nn.ELU: "is analog (ELU)",
    nn.ReLU: "is analog (ReLU)",
}


def analog_modules(network: nn.Module) -> dict[str, str]:
    """Activations of real values, which have no exact NIR form, by name."""
    return {name: ANALOG[type(module)] for name, module in network.named_modules() if type(module) in ANALOG}
