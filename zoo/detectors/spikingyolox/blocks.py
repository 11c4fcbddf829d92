"""Fast Fourier convolution: a local and a global branch, the global one with a convolution in the frequency domain.

Chi, Jiang, Mu: "Fast Fourier Convolution", NeurIPS 2020. SpikingYOLOX has it deep in its backbone. Complex numbers are pairs of
channels (real, imaginary), one pair after the other, so that everything between two nonlinearities is a linear map of real
values, which has an exact NIR form for a given map size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.layers.conv import Activation, ConvBN, affine_of, plain_conv
from zoo.layers.fourier import IRFFT2, RFFT2

GLOBAL_SHARE = 0.75
"""Share of the channels that the global branch has."""


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


class FourierUnit(nn.Module):
    """A 1x1 convolution with norm and activation in the frequency domain: (N, C, H, W), same shape."""

    def __init__(self, channels: int, *, act: Activation) -> None:
        super().__init__()
        self.transform = RFFT2()
        self.conv: nn.Module = ConvBN(2 * channels, 2 * channels, 1, norm=_norm)
        self.act = act()
        self.inverse = IRFFT2()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), same shape."""
        return self.inverse(self.act(self.conv(self.transform(x))), x)

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norm, in place."""
        self.conv = self.conv.fuse(merge=merge)  # type: ignore[operator]


class SpectralTransform(nn.Module):
    """Fewer channels, a Fourier unit with a residual connection, and the channels again: (N, I, H, W) -> (N, O, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, act: Activation) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.reduce: nn.Module = ConvBN(in_channels, hidden, 1, norm=_norm)
        self.act = act()
        self.unit = FourierUnit(hidden, act=act)
        self.expand = nn.Conv2d(hidden, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        x = self.act(self.reduce(x))
        return self.expand(x + self.unit(x))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norm, in place."""
        self.reduce = self.reduce.fuse(merge=merge)  # type: ignore[operator]


def _scaled(conv: nn.Conv2d, norm: nn.BatchNorm2d, *, shifts: bool) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of a convolution before a batch norm that sees several; one of them takes the shift."""
    scale, shift = affine_of(norm)
    return conv.weight.detach().double() * scale.view(-1, 1, 1, 1), shift if shifts else torch.zeros_like(shift)


class FFC(nn.Module):
    """Fast Fourier convolution with norms and activations: local and global maps -> local and global maps of the same shapes.

    3x3 convolutions with reflected borders connect the branches; the global one sees itself through a spectral transform.

    Args:
        local, globally: channels of the branches.
        act: makes each activation of the branches.
        spectral_act: makes each activation of the spectral transform.
    """

    def __init__(self, local: int, globally: int, *, act: Activation, spectral_act: Activation) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.local_to_local = nn.Conv2d(local, local, 3, bias=False)
        self.local_to_global = nn.Conv2d(local, globally, 3, bias=False)
        self.global_to_local = nn.Conv2d(globally, local, 3, bias=False)
        self.global_to_global = SpectralTransform(globally, globally, act=spectral_act)
        self.norm_local: nn.Module = _norm(local)
        self.norm_global: nn.Module = _norm(globally)
        self.act_local, self.act_global = act(), act()

    def forward(self, local: Tensor, globally: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L, H, W) and (N, G, H, W), same shapes."""
        padded = self.pad(local)
        new_local = self.local_to_local(padded) + self.global_to_local(self.pad(globally))
        new_global = self.local_to_global(padded) + self.global_to_global(globally)
        return self.act_local(self.norm_local(new_local)), self.act_global(self.norm_global(new_global))

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norms into the two convolutions whose sum they see, in place; the first one takes the shift."""
        del merge
        branches: Any = (
            (self.norm_local, "local_to_local", "global_to_local"),
            (self.norm_global, "local_to_global", "global_to_global.expand"),
        )
        for norm, first, second in branches:
            for path, shifts in ((first, True), (second, False)):
                conv: Any = self.get_submodule(path)
                self.set_submodule(path, plain_conv(conv, partial(_scaled, conv, norm, shifts=shifts)))
        self.norm_local = self.norm_global = nn.Identity()


class FFCBlock(nn.Module):
    """Two fast Fourier convolutions with a residual connection: (N, C, H, W), same shape.

    Args:
        channels: C, the last three quarters of which are global.
        act, spectral_act: see :class:`FFC`.
    """

    def __init__(self, channels: int, *, act: Activation, spectral_act: Activation) -> None:
        super().__init__()
        globally = int(GLOBAL_SHARE * channels)
        self.split = [channels - globally, globally]
        self.ffc1 = FFC(*self.split, act=act, spectral_act=spectral_act)
        self.ffc2 = FFC(*self.split, act=act, spectral_act=spectral_act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), same shape."""
        parts = torch.split(x, self.split, dim=1)
        first = self.ffc1(parts[0], parts[1])
        second = self.ffc2(first[0], first[1])
        return torch.cat([second[0], second[1]], dim=1) + x
