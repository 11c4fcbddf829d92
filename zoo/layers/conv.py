"""Convolutions with batch norm, and how they fold into plain convolutions.

Folding is done in float64 and rounded once by the caller. ``fuse`` returns plain ``nn.Conv2d`` modules only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NormFactory = Callable[[int], nn.BatchNorm2d]

BN_EPS = 1e-3  # every batch norm of SpikeYOLO; not stored in checkpoints
BN_MOMENTUM = 0.03


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with SpikeYOLO's constants."""
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


def threshold_norm(channels: int, *, gain: float = 1.0) -> nn.BatchNorm2d:
    """Threshold-dependent batch norm (tdBN): batch norm over time steps, batch and space whose scale starts at ``gain``.

    The folded layout (T*B, C, H, W) makes the ordinary batch norm take its statistics over all time steps at once. Source:
    Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks", AAAI 2021, eq. 7-9.
    """
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, gain)
    return norm


def affine_of(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift, each (C,) float64, that a batch norm applies in eval mode."""
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = bn.weight.detach().double() / torch.sqrt(bn.running_var.double() + bn.eps)
    return scale, bn.bias.detach().double() - bn.running_mean.double() * scale


def plain_conv(weight: Tensor, bias: Tensor, *, stride: int = 1, padding: int = 0, groups: int = 1) -> nn.Conv2d:
    """A ``nn.Conv2d`` with the given weight (O, I/groups, k, k) and bias (O,), keeping their dtype."""
    out_channels, in_channels, *kernel = weight.shape
    conv = nn.Conv2d(
        in_channels * groups, out_channels, (kernel[0], kernel[1]), stride, padding, groups=groups, dtype=weight.dtype,
        device="meta",
    )  # fmt: skip
    conv.weight = nn.Parameter(weight.contiguous())
    conv.bias = nn.Parameter(bias.contiguous())
    return conv


def fold(conv: nn.Conv2d, *norms: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias in float64 of a convolution followed by batch norms, first to last."""
    weight = conv.weight.detach().double()
    bias = torch.zeros(weight.shape[0], dtype=torch.float64) if conv.bias is None else conv.bias.detach().double()
    for norm in norms:
        scale, shift = affine_of(norm)
        weight = weight * scale[:, None, None, None]
        bias = bias * scale + shift
    return weight, bias


def _single(value: int | tuple[int, ...] | str) -> int:
    if isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    if isinstance(value, int):
        return value
    raise TypeError(f"expected one size for both axes, got {value}")


class ConvBN(nn.Module):
    """Convolution and batch norm: (N, I, H, W) -> (N, O, H', W').

    Args:
        in_channels, out_channels, kernel_size, stride, groups: of the convolution.
        padding: zero padding; by default half the kernel, which keeps the size at stride 1.
        bias: whether the convolution has a bias of its own, as SpikeYOLO's down-sampling has.
        norm: makes the batch norm for so many channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        norm: NormFactory = batch_norm,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        self.bn = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.bn(self.conv(x))

    def fuse(self, *, merge: bool = False) -> nn.Conv2d:
        """The same function as one ``nn.Conv2d`` (float64)."""
        del merge
        conv = self.conv
        weight, bias = fold(conv, self.bn)
        return plain_conv(weight, bias, stride=_single(conv.stride), padding=_single(conv.padding), groups=conv.groups)


class TransposedConvBN(nn.Module):
    """Transposed convolution that doubles the resolution, and batch norm: (N, I, H, W) -> (N, O, 2H, 2W).

    Args:
        in_channels, out_channels: of the convolution, which has a 3x3 kernel, stride 2, and no bias.
        norm: makes the batch norm for so many channels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: NormFactory = batch_norm) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 3, 2, 1, output_padding=1, bias=False)
        self.bn = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, 2H, 2W)."""
        return self.bn(self.conv(x))

    def fuse(self, *, merge: bool = False) -> nn.ConvTranspose2d:
        """The same function as one ``nn.ConvTranspose2d`` (float64); its outputs are the second axis of the weight."""
        del merge
        scale, shift = affine_of(self.bn)
        fused = nn.ConvTranspose2d(
            self.conv.in_channels, self.conv.out_channels, 3, 2, 1, output_padding=1, dtype=torch.float64
        )
        with torch.no_grad():
            fused.weight.copy_(self.conv.weight.double() * scale.view(1, -1, 1, 1))
            assert fused.bias is not None  # noqa: S101 - made with one
            fused.bias.copy_(shift)
        return fused


class Layer(nn.Module):
    """Convolution, norm, activation: (N, I, H, W) -> (N, O, H', W'). The activation is a neuron in the converted form."""

    def __init__(self, conv: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.act = conv, act

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.act(self.conv(x))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norm, in place."""
        self.conv = self.conv.fuse(merge=merge)  # type: ignore[operator]


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
        first, first_bias = fold(self.expand, self.pad.bn)
        depthwise = self.depthwise.weight.detach().double()
        last, last_bias = fold(self.project, self.bn, *trailing)
        if not merge:
            zeros = torch.zeros(depthwise.shape[0], dtype=torch.float64)
            return nn.Sequential(
                plain_conv(first, first_bias, padding=1),
                plain_conv(depthwise, zeros, groups=depthwise.shape[0]),
                plain_conv(last, last_bias),
            )
        spatial = _compose_depthwise(depthwise, last)
        weight = torch.einsum("omhw,mi->oihw", spatial, first[:, :, 0, 0])
        return plain_conv(weight, last_bias + spatial.sum((2, 3)) @ first_bias, padding=1)


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
        scale, shift = affine_of(self.pad.bn)
        matrix = self.project.weight.detach().double()[:, :, 0, 0]
        first, first_bias = matrix * scale, matrix @ shift
        depthwise, bias = fold(self.depthwise, *trailing)
        if not merge:
            return nn.Sequential(
                plain_conv(first[:, :, None, None], first_bias, padding=1),
                plain_conv(depthwise, bias, groups=depthwise.shape[0]),
            )
        weight = torch.einsum("ohw,oi->oihw", depthwise[:, 0], first)
        return plain_conv(weight, bias + depthwise.sum((1, 2, 3)) * first_bias, padding=1)
