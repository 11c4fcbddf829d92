"""The detection loss of SpikeYOLO's recipe: complete IoU and distribution focal loss for boxes, cross entropy for classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.training.assigner import TaskAlignedAssigner
from zoo.training.boxes import complete_iou


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


def cell_centres(shapes: Sequence[tuple[int, int]], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) as x, y in pixels and strides (A, 1) of all cells, finest scale first, row by row."""
    centres, sizes = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        centres.append(torch.stack([columns, rows], -1).view(-1, 2) * stride)
        sizes.append(torch.full((height * width, 1), float(stride)))
    return torch.cat(centres), torch.cat(sizes)


def distribution_focal_loss(bins: Tensor, distance: Tensor) -> Tensor:
    """Cross entropy with the two bins next to each distance, weighted by nearness.

    Source: Li et al., "Generalized Focal Loss", NeurIPS 2020, eq. 6.

    Args:
        bins: logits (P, 4, reg_max).
        distance: (P, 4) in cells, within 0..reg_max - 1.

    Returns:
        (P,) mean over the four sides.
    """
    distance = distance.clamp(0, bins.shape[-1] - 1 - 0.01)
    lower = distance.long()
    share = distance - lower
    logs = F.log_softmax(bins, -1)
    near = logs.gather(-1, lower[..., None])[..., 0] * (1 - share)
    far = logs.gather(-1, lower[..., None] + 1)[..., 0] * share
    return -(near + far).mean(-1)


@dataclass
class DetectionLoss:
    """Weighted sum of the three parts, for raw head maps that are averaged over T already.

    Attributes:
        strides, reg_max, num_classes: of the head.
        box_gain, class_gain, dfl_gain: weights of the parts.
        assigner: chooses the cells that learn.
    """

    strides: Sequence[int]
    reg_max: int
    num_classes: int
    box_gain: float = 7.5
    class_gain: float = 0.5
    dfl_gain: float = 1.5
    assigner: TaskAlignedAssigner = field(default_factory=TaskAlignedAssigner)

    def __call__(self, raw: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Raw maps (B, 4 * reg_max + classes, H/s, W/s) and objects -> the parts ``box``, ``cls``, ``dfl``, each weighted."""
        centres, strides = cell_centres([(r.shape[-2], r.shape[-1]) for r in raw], self.strides)
        centres, strides = centres.to(raw[0]), strides.to(raw[0])
        flat = torch.cat([r.flatten(2) for r in raw], 2).transpose(1, 2)  # (B, A, channels)
        bins, logits = flat.split([4 * self.reg_max, self.num_classes], -1)
        bins = bins.unflatten(-1, (4, self.reg_max))
        sides = (bins.softmax(-1) @ torch.arange(self.reg_max).to(bins)) * strides
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1)
        found = self.assigner(
            logits.detach().sigmoid(), boxes.detach(), centres, targets.labels, targets.boxes, targets.valid
        )
        total = found.scores.sum().clamp_min(1)
        classes = F.binary_cross_entropy_with_logits(logits, found.scores, reduction="sum") / total
        weight = found.scores.sum(-1)[found.positive]
        wanted = found.boxes[found.positive]
        overlap = complete_iou(boxes[found.positive], wanted)
        where = centres.expand_as(boxes[..., :2])[found.positive]
        stride = strides.expand(len(boxes), -1, -1)[found.positive]
        distance = torch.cat([where - wanted[:, :2], wanted[:, 2:] - where], -1) / stride
        dfl = distribution_focal_loss(bins[found.positive], distance)
        return {
            "box": self.box_gain * ((1 - overlap) * weight).sum() / total,
            "cls": self.class_gain * classes,
            "dfl": self.dfl_gain * (dfl * weight).sum() / total,
        }
