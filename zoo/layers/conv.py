"""Convolutions with batch norm, and how they fold into plain convolutions.

Folding is done in float64 and rounded once by the caller. ``fuse`` returns plain ``nn.Conv2d`` modules only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

NormFactory = Callable[[int], nn.BatchNorm2d]
NeuronFactory = Callable[[], nn.Module]
Activation = Callable[[], nn.Module]
ConvFactory = Callable[..., nn.Module]

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
    mean, var = _statistics(bn)
    scale = bn.weight.detach().double() / torch.sqrt(var + bn.eps)
    return scale, bn.bias.detach().double() - mean * scale


def plain_conv(
    old: nn.Conv2d,
    fold: Callable[[], tuple[Tensor, Tensor]],
    *,
    shape: Sequence[int] | None = None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> nn.Conv2d:
    """The ``nn.Conv2d``, with bias, that takes the place of a convolution and what follows it.

    Args:
        old: the convolution. Where it has no numbers (its weight is on the device ``meta``), neither has the new one, and
            nothing is computed.
        fold: weight (O, I/groups, k, k) and bias (O,) of the new one; their type is kept.
        shape: of the new weight; by default that of the old one.
        stride, padding, groups: of the new one.
    """
    out_channels, in_channels, *kernel = old.weight.shape if shape is None else shape
    conv = nn.Conv2d(
        in_channels * groups, out_channels, (kernel[0], kernel[1]), stride, padding, groups=groups, device="meta"
    )
    if not old.weight.is_meta:
        weight, bias = fold()
        conv.weight, conv.bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias.contiguous())
    return conv


def fold(conv: nn.Conv2d | nn.ConvTranspose2d, *norms: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias in float64 of a convolution followed by batch norms, first to last.

    This is torch's own formula, in float64. Stock ``torch.fx`` folding computes in the type of the weights, and then 43 % of
    the bundled models' float32 constants are not the exact ones, rounded.
    """
    weight = conv.weight.detach().double()
    bias = None if conv.bias is None else conv.bias.detach().double()
    for norm in norms:
        mean, var = _statistics(norm)
        weight, bias = fuse_conv_bn_weights(
            weight, bias, mean, var, norm.eps, norm.weight.detach().double(), norm.bias.detach().double(),
            transpose=isinstance(conv, nn.ConvTranspose2d),
        )  # fmt: skip
    return weight.detach(), weight.new_zeros(conv.out_channels) if bias is None else bias.detach()


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    return norm.running_mean.double(), norm.running_var.double()


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
        stride, padding = _single(conv.stride), _single(conv.padding)
        return plain_conv(conv, lambda: fold(conv, self.bn), stride=stride, padding=padding, groups=conv.groups)


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
        fused = nn.ConvTranspose2d(
            self.conv.in_channels, self.conv.out_channels, 3, 2, 1, output_padding=1, device="meta"
        )
        if not self.conv.weight.is_meta:
            weight, bias = fold(self.conv, self.bn)
            fused.weight, fused.bias = nn.Parameter(weight), nn.Parameter(bias)
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


class ConvAct(Layer):
    """Convolution, batch norm, activation: (N, I, H, W) -> (N, O, H', W')."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        padding: int | None = None,
        groups: int = 1,
        act: Activation,
    ) -> None:
        conv = ConvBN(in_channels, out_channels, kernel_size, stride, padding=padding, groups=groups)
        super().__init__(conv, act())


class SpikeConv(nn.Module):
    """Neuron, convolution, batch norm: (N, I, H, W) -> (N, O, H/stride, W/stride).

    Args:
        in_channels, out_channels, kernel_size, stride: of the convolution.
        neuron: makes the neuron.
        conv_bias: the convolution has a bias of its own besides the norm's, as SpikeYOLO's down-sampling layers have.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.neuron = neuron()
        self.conv: nn.Module = ConvBN(in_channels, out_channels, kernel_size, stride, bias=conv_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H', W')."""
        return self.conv(self.neuron(x))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the batch norm, in place."""
        self.conv = self.conv.fuse(merge=merge)  # type: ignore[operator]


class SpikeConvNoBN(nn.Module):
    """Neuron, then a 1x1 convolution with bias: the last layer of a head branch. (N, I, H, W) -> (N, O, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, neuron: NeuronFactory) -> None:
        super().__init__()
        self.neuron = neuron()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        return self.conv(self.neuron(x))
