"""Two-dimensional Fourier transforms of real maps, as modules.

Complex numbers are pairs of channels (real, imaginary), one pair after the other, so that everything between two nonlinearities
is a linear map of real values, which has an exact NIR form for a given map size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RFFT2(nn.Module):
    """Two-dimensional real Fourier transform, orthonormal: (N, C, H, W) -> (N, 2 C, H, W // 2 + 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2 C, H, W // 2 + 1)."""
        spectrum = torch.fft.rfft2(x.contiguous(), norm="ortho")
        return torch.view_as_real(spectrum).permute(0, 1, 4, 2, 3).flatten(1, 2)


class IRFFT2(nn.Module):
    """The inverse of :class:`RFFT2`; a second argument tells the size: (N, 2 C, H, W // 2 + 1), (N, ?, H, W) -> (N, C, H, W).

    Imaginary parts that no real map has (of the first and, for even W, the last frequency) are ignored, as torch.fft does.
    """

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """(N, 2 C, H, W // 2 + 1) and a map of the wanted size -> (N, C, H, W)."""
        pairs = x.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous()
        return torch.fft.irfft2(torch.view_as_complex(pairs), s=(like.shape[-2], like.shape[-1]), norm="ortho")
