"""Boxes, cells and objects: what every head, its decoding and its loss work with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = 1e-9


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]).clamp_min(0) * (boxes[..., 3] - boxes[..., 1]).clamp_min(0)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap (...,) in 0..1 of boxes (..., 4) with boxes (..., 4), both x1, y1, x2, y2."""
    corner = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    shared = corner.clamp_min(0).prod(-1)
    return shared / (_area(first) + _area(second) - shared + _EPS)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap (B, N, M) in 0..1 of boxes (B, N, 4) with boxes (B, M, 4), both x1, y1, x2, y2."""
    return iou(first[:, :, None], second[:, None])


def complete_iou(predicted: Tensor, target: Tensor) -> Tensor:
    r"""Complete IoU (...,) of boxes (..., 4) with boxes (..., 4), x1, y1, x2, y2.

    .. math::
        \text{CIoU} = \text{IoU} - \frac{\rho^2}{c^2} - \alpha v, \quad
        v = \frac{4}{\pi^2}\Bigl(\arctan\frac{w'}{h'} - \arctan\frac{w}{h}\Bigr)^2, \quad
        \alpha = \frac{v}{1 - \text{IoU} + v}

    Source: Zheng et al., "Distance-IoU Loss", AAAI 2020, eq. 8-11; alpha carries no gradient.
    """
    overlap = iou(predicted, target)
    hull = torch.maximum(predicted[..., 2:], target[..., 2:]) - torch.minimum(predicted[..., :2], target[..., :2])
    diagonal = hull.square().sum(-1) + _EPS
    distance = (predicted[..., :2] + predicted[..., 2:] - target[..., :2] - target[..., 2:]).square().sum(-1) / 4
    width, height = (predicted[..., 2:] - predicted[..., :2]).clamp_min(_EPS).unbind(-1)
    target_width, target_height = (target[..., 2:] - target[..., :2]).clamp_min(_EPS).unbind(-1)
    aspect = 4 / math.pi**2 * (torch.atan(target_width / target_height) - torch.atan(width / height)).square()
    with torch.no_grad():
        alpha = aspect / (1 - overlap + aspect + _EPS)
    return overlap - distance / diagonal - alpha * aspect


def cell_centres(shapes: Sequence[tuple[int, int]], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) as x, y in pixels and strides (A, 1) of all cells, float64, finest scale first, row by row."""
    centres, sizes = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        rows, columns = torch.meshgrid(
            torch.arange(height, dtype=torch.float64) + 0.5,
            torch.arange(width, dtype=torch.float64) + 0.5,
            indexing="ij",
        )
        centres.append(torch.stack([columns, rows], -1).view(-1, 2) * stride)
        sizes.append(torch.full((height * width, 1), float(stride), dtype=torch.float64))
    return torch.cat(centres), torch.cat(sizes)


@dataclass(frozen=True)
class Targets:
    """Objects of a batch, padded to the same number N per image.

    Attributes:
        labels: (B, N) int64.
        boxes: (B, N, 4) x1, y1, x2, y2 in pixels.
        valid: (B, N) False for padding.
    """

    labels: Tensor
    boxes: Tensor
    valid: Tensor

    def to(self, device: torch.device | str) -> Targets:
        """The same on a device."""
        return Targets(self.labels.to(device), self.boxes.to(device), self.valid.to(device))
