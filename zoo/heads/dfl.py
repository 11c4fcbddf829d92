"""The head of SpikeYOLO: anchor-free, each side of a box as a distribution over bins (distribution focal loss).

The loss is complete IoU and distribution focal loss for boxes, and cross entropy for classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.config import DecodeSpec
from zoo.heads.assigner import TaskAlignedAssigner
from zoo.heads.boxes import Targets, cell_centres, complete_iou
from zoo.heads.table import Head, register
from zoo.layers.conv import NeuronFactory, SpikeConv, SpikeConvNoBN


class SpikeDetect(nn.Module):
    """Decoupled, anchor-free head of SpikeYOLO (the head of YOLOv8, with a neuron in front of each convolution).

    Per scale: (N, C_i, H_i, W_i) -> (N, 4 * reg_max + num_classes, H_i, W_i); box bins side-major (left, top, right,
    bottom), then class logits.

    Args:
        num_classes: number of classes.
        channels: C_i of each scale, finest first.
        strides: input pixels per cell of each scale; only used for the initial biases.
        reg_max: bins per box side.
        neuron: makes each neuron.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        reg_max: int = 16,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        box_width = max(16, channels[0] // 4, 4 * reg_max)
        class_width = max(channels[0], min(num_classes, 100))

        def branch(in_channels: int, width: int, out_channels: int) -> nn.Sequential:
            return nn.Sequential(
                SpikeConv(in_channels, width, 3, neuron=neuron),
                SpikeConv(width, width, 3, neuron=neuron),
                SpikeConvNoBN(width, out_channels, neuron=neuron),
            )

        self.box = nn.ModuleList(branch(c, box_width, 4 * reg_max) for c in channels)
        self.cls = nn.ModuleList(branch(c, class_width, num_classes) for c in channels)
        self._initialise_biases(num_classes, strides)

    def _initialise_biases(self, num_classes: int, strides: Sequence[int]) -> None:
        """Start from a prior of 5 objects in an image of 640 x 640 pixels, and boxes of a few cells."""
        for box, cls, stride in zip(self.box, self.cls, strides, strict=True):
            nn.init.constant_(box[-1].conv.bias, 1.0)  # type: ignore[index]
            nn.init.constant_(cls[-1].conv.bias, math.log(5 / num_classes / (640 / stride) ** 2))  # type: ignore[index]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, finest first -> raw head maps, finest first."""
        return [torch.cat([box(x), cls(x)], dim=1) for x, box, cls in zip(features, self.box, self.cls, strict=True)]


def decode_dfl(raw: Sequence[Tensor], *, strides: Sequence[int], reg_max: int, num_classes: int) -> Tensor:
    """Boxes and scores of all cells.

    The distance from a cell's centre to each side of the box is the expectation over its bins, in cells (Li et al.,
    "Generalized Focal Loss", NeurIPS 2020, eq. 3).

    Args:
        raw: head maps (B, 4 * reg_max + num_classes, H/s, W/s), finest first; bins side-major (left, top, right, bottom).
        strides: s of each map.
        reg_max: bins per side.
        num_classes: class logits per cell.

    Returns:
        (B, 4 + num_classes, A): cx, cy, w, h in input pixels, then class scores in 0..1, scales one after the other, row by
        row.
    """
    centres, sizes = cell_centres([(r.shape[-2], r.shape[-1]) for r in raw], strides)
    centres, sizes = centres.to(raw[0]), sizes.to(raw[0])
    flat = torch.cat([r.flatten(2) for r in raw], 2)
    bins, logits = flat.split([4 * reg_max, num_classes], 1)
    share = bins.unflatten(1, (4, reg_max)).softmax(2)  # (B, 4, reg_max, A)
    distance = torch.einsum("bsra,r->bsa", share, torch.arange(reg_max).to(share)) * sizes.T
    low, high = centres.T - distance[:, :2], centres.T + distance[:, 2:]
    return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], 1)


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


def _decode(raw: Sequence[Tensor], spec: DecodeSpec, num_classes: int) -> Tensor:
    return decode_dfl(raw, strides=spec.strides, reg_max=spec.reg_max, num_classes=num_classes)


def _loss(spec: DecodeSpec, num_classes: int, **gains: Any) -> DetectionLoss:
    return DetectionLoss(spec.strides, spec.reg_max, num_classes, **gains)


register(Head("dfl", _decode, _loss, frozenset({"box_gain", "class_gain", "dfl_gain"})))
