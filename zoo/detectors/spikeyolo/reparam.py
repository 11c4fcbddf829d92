"""Re-parameterised convolutions of SpikeYOLO: several linear layers in training, plain convolutions when deployed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.layers.conv import affine_of, batch_norm, fold, plain_conv


class BNAndPad(nn.Module):
    """Batch norm, then a border one pixel wide of what the norm makes of zero: (N, C, H, W) -> (N, C, H+2, W+2).

    The border uses the running statistics, detached, in training too. It equals padding the *input* with zeros, which is
    what makes the re-parameterised convolutions foldable; zero padding after the norm is wrong at the borders.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H+2, W+2)."""
        _, border = affine_of(self.bn)
        border = border.to(x.dtype)[None, :, None, None]
        normed = self.bn(x)
        mask = F.pad(torch.ones_like(normed[:1, :1]), (1, 1, 1, 1))
        return torch.where(mask > 0, F.pad(normed, (1, 1, 1, 1)), border)


def _compose_depthwise(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """Weight (O, I, 3, 3) of a depthwise (I, 1, 3, 3) followed by a pointwise (O, I, 1, 1) convolution."""
    return pointwise * depthwise[:, 0][None]


class RepConv(nn.Module):
    """Re-parameterisable convolution: 1x1, batch norm with padding, depthwise 3x3, 1x1, batch norm; all linear.

    (N, I, H, W) -> (N, O, H, W). At inference it can be one dense 3x3 convolution. Source: SpikeYOLO, ECCV 2024, section 3.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(in_channels, in_channels, 1, bias=False)
        self.pad = BNAndPad(in_channels)
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, groups=in_channels, bias=False)
        self.project = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = batch_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        return self.bn(self.project(self.depthwise(self.pad(self.expand(x)))))

    def fuse(self, *trailing: nn.BatchNorm2d, merge: bool = False) -> nn.Module:
        """The same function as plain convolutions (float64).

        Args:
            trailing: further batch norms that follow this module, folded into it.
            merge: one dense 3x3 convolution instead of three sparse ones.
        """
        if merge:
            shape = (self.project.out_channels, self.expand.in_channels, 3, 3)
            return plain_conv(self.project, lambda: self._merged(trailing), shape=shape, padding=1)
        return nn.Sequential(
            plain_conv(self.expand, lambda: fold(self.expand, self.pad.bn), padding=1),
            plain_conv(self.depthwise, lambda: fold(self.depthwise), groups=self.depthwise.groups),
            plain_conv(self.project, lambda: fold(self.project, self.bn, *trailing)),
        )

    def _merged(self, trailing: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
        """Weight (O, I, 3, 3) and bias (O,) of all of it."""
        first, first_bias = fold(self.expand, self.pad.bn)
        last, last_bias = fold(self.project, self.bn, *trailing)
        spatial = _compose_depthwise(self.depthwise.weight.detach().double(), last)
        weight = torch.einsum("omhw,mi->oihw", spatial, first[:, :, 0, 0])
        return weight, last_bias + spatial.sum((2, 3)) @ first_bias


class SepRepConv(nn.Module):
    """The re-parameterisable projection of a separable convolution: batch norm with padding, 1x1, depthwise 3x3.

    (N, I, H, W) -> (N, O, H, W). Source: SpikeYOLO, ECCV 2024, section 3.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pad = BNAndPad(in_channels)
        self.project = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.depthwise = nn.Conv2d(out_channels, out_channels, 3, groups=out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        return self.depthwise(self.project(self.pad(x)))

    def fuse(self, *trailing: nn.BatchNorm2d, merge: bool = False) -> nn.Module:
        """The same function, with the batch norms that follow, as plain convolutions (float64)."""
        if merge:
            shape = (self.project.out_channels, self.project.in_channels, 3, 3)
            return plain_conv(self.project, lambda: self._merged(trailing), shape=shape, padding=1)
        return nn.Sequential(
            plain_conv(self.project, self._first, padding=1),
            plain_conv(self.depthwise, lambda: fold(self.depthwise, *trailing), groups=self.depthwise.groups),
        )

    def _first(self) -> tuple[Tensor, Tensor]:
        """Weight (O, I, 1, 1) and bias (O,) of the batch norm and the 1x1 convolution behind it."""
        scale, shift = affine_of(self.pad.bn)
        matrix = self.project.weight.detach().double()[:, :, 0, 0]
        return (matrix * scale)[:, :, None, None], matrix @ shift

    def _merged(self, trailing: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
        """Weight (O, I, 3, 3) and bias (O,) of all of it."""
        first, first_bias = self._first()
        depthwise, bias = fold(self.depthwise, *trailing)
        weight = torch.einsum("ohw,oi->oihw", depthwise[:, 0], first[:, :, 0, 0])
        return weight, bias + depthwise.sum((1, 2, 3)) * first_bias
