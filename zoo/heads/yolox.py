"""The detection loss of YOLOX with its assignment SimOTA: overlap for boxes, cross entropy for objectness and classes.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430, section 2.2; Ge et al., "OTA: Optimal Transport Assignment
for Object Detection", CVPR 2021. EAS-SNN trains with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.config import DecodeSpec
from zoo.heads.boxes import Targets, cell_centres, iou, pairwise_iou
from zoo.heads.table import Head, register
from zoo.layers.conv import Activation, ConvAct, ConvFactory

CENTRE_RADIUS = 2.5
"""Cells so many strides around an object's centre are candidates, too."""
CANDIDATES = 10
"""The sum of so many best overlaps is the number of cells that learn an object."""
OVERLAP_COST, OUTSIDE_COST = 3.0, 1e5
PRIOR = 0.01
"""Initial objectness and class score."""


class YOLOXHead(nn.Module):
    """Decoupled, anchor-free head: per scale (N, C_i, H_i, W_i) -> (N, 4 + 1 + num_classes, H_i, W_i).

    Channels: x, y, log w, log h in cells, objectness logit, class logits.

    Args:
        num_classes: number of classes.
        channels: C_i of each scale, finest first.
        width: channels within the head.
        act: makes each activation.
        conv: makes the 3x3 convolutions.
    """

    def __init__(
        self, num_classes: int, channels: Sequence[int], width: int, *, act: Activation, conv: ConvFactory = ConvAct
    ) -> None:
        super().__init__()

        def branch() -> nn.Sequential:
            return nn.Sequential(conv(width, width, 3, act=act), conv(width, width, 3, act=act))

        def predictor(outputs: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(width, outputs, 1) for _ in channels)

        self.stems = nn.ModuleList(ConvAct(c, width, 1, act=act) for c in channels)
        self.class_branches = nn.ModuleList(branch() for _ in channels)
        self.box_branches = nn.ModuleList(branch() for _ in channels)
        self.boxes, self.objectness, self.classes = predictor(4), predictor(1), predictor(num_classes)
        for predictor_conv in [*self.objectness, *self.classes]:
            nn.init.constant_(predictor_conv.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, finest first -> raw head maps, finest first."""
        maps = []
        for index, feature in enumerate(features):
            x = self.stems[index](feature)
            box = self.box_branches[index](x)
            named = self.class_branches[index](x)
            parts = [self.boxes[index](box), self.objectness[index](box), self.classes[index](named)]
            maps.append(torch.cat(parts, dim=1))
        return maps


def decode_yolox(raw: Sequence[Tensor], *, strides: Sequence[int], num_classes: int) -> Tensor:
    r"""Boxes and scores of all cells of a YOLOX head.

    .. math::
        c = (t_{xy} + g)\,s, \qquad (w, h) = e^{t_{wh}}\,s

    with the cell's index g and the stride s; a class score is objectness times class probability. Source: Ge et al.,
    "YOLOX", arXiv 2107.08430, section 2.2.

    Args:
        raw: head maps (B, 5 + num_classes, H/s, W/s), finest first: x, y, log w, log h, objectness, class logits.
        strides: s of each map.
        num_classes: class logits per cell.

    Returns:
        (B, 4 + num_classes, A): cx, cy, w, h in input pixels, then class scores in 0..1; one scale after the other, row by
        row.
    """
    centres, sizes = cell_centres([(r.shape[-2], r.shape[-1]) for r in raw], strides)
    corners, sizes = (centres - sizes / 2).to(raw[0]).T, sizes.to(raw[0]).T
    box, objectness, logits = torch.cat([r.flatten(2) for r in raw], 2).split([4, 1, num_classes], 1)
    centre = box[:, :2] * sizes + corners
    return torch.cat([centre, box[:, 2:].exp() * sizes, objectness.sigmoid() * logits.sigmoid()], 1)


@dataclass(frozen=True)
class Assigned:
    """Which of the A cells of one image learn which of its N objects.

    Attributes:
        cells: (P,) indices of the cells.
        objects: (P,) index of the object of each.
        overlap: (P,) of its predicted box with the object.
    """

    cells: Tensor
    objects: Tensor
    overlap: Tensor


@torch.no_grad()
def simota(
    boxes: Tensor, objectness: Tensor, logits: Tensor, centres: Tensor, strides: Tensor, objects: Tensor, labels: Tensor
) -> Assigned:
    """Assign the objects of one image.

    The cost of a pair is the cross entropy of the class scores, plus three times minus the logarithm of the overlap; cells that
    lie in the box but not near its centre, or the other way round, come last. An object takes as many cells as its ten best
    overlaps add up to, those of least cost; a cell that several objects want goes to the one of least cost.

    Args:
        boxes: predicted (A, 4) x1, y1, x2, y2 in pixels.
        objectness: logits (A,).
        logits: of the classes, (A, classes).
        centres: of the cells, (A, 2) in pixels.
        strides: pixels per cell, (A, 1).
        objects: (N, 4) x1, y1, x2, y2 in pixels, N > 0.
        labels: (N,).
    """
    middle = (objects[:, :2] + objects[:, 2:]) / 2
    offset = torch.stack([centres - objects[:, None, :2], objects[:, None, 2:] - centres], -1)  # (N, A, 2, 2)
    in_box = offset.flatten(2).amin(2) > 0
    in_centre = ((centres - middle[:, None]).abs() < CENTRE_RADIUS * strides).all(2)
    candidate = (in_box | in_centre).any(0).nonzero()[:, 0]
    if not len(candidate):
        return Assigned(candidate, candidate, boxes.new_zeros(0))
    overlap = pairwise_iou(objects[None], boxes[candidate][None])[0]  # (N, C)
    score = (logits[candidate].sigmoid() * objectness[candidate].sigmoid()[:, None]).sqrt().clamp(1e-7, 1 - 1e-7)
    wanted = F.one_hot(labels, logits.shape[1]).to(score)
    entropy = F.binary_cross_entropy(
        score.expand(len(labels), -1, -1), wanted[:, None].expand(-1, len(candidate), -1), reduction="none"
    ).sum(2)
    both = (in_box & in_centre)[:, candidate]
    cost = entropy - OVERLAP_COST * (overlap + 1e-8).log() + OUTSIDE_COST * ~both
    count = overlap.topk(min(CANDIDATES, len(candidate)), 1).values.sum(1).int().clamp_min(1)
    rank = cost.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    chosen = rank < count[:, None]
    owner = torch.where(chosen, cost, torch.inf).argmin(0)
    taken = chosen.any(0)
    owner = owner[taken]
    return Assigned(candidate[taken], owner, overlap[:, taken].gather(0, owner[None])[0])


@dataclass
class YOLOXLoss:
    """Weighted sum of the three parts, for raw head maps that are averaged over T already.

    Attributes:
        strides, num_classes: of the head.
        box_gain, class_gain, objectness_gain: weights of the parts.
    """

    strides: Sequence[int]
    num_classes: int
    box_gain: float = 5.0
    class_gain: float = 1.0
    objectness_gain: float = 1.0

    def __call__(self, raw: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Raw maps (B, 5 + classes, H/s, W/s) and objects -> the parts ``box``, ``cls``, ``obj``, each weighted."""
        centres, strides = cell_centres([(r.shape[-2], r.shape[-1]) for r in raw], self.strides)
        centres, strides = centres.to(raw[0]), strides.to(raw[0])
        flat = torch.cat([r.flatten(2) for r in raw], 2).transpose(1, 2)  # (B, A, channels)
        box, objectness, logits = flat.split([4, 1, self.num_classes], -1)
        middle = box[..., :2] * strides + centres - strides / 2
        half = (
            box[..., 2:].clamp_max(10).exp() * strides / 2
        )  # limited, so that a step too far does not end in infinity
        boxes = torch.cat([middle - half, middle + half], -1)
        wanted = torch.zeros_like(objectness[..., 0])
        found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for image, valid in enumerate(targets.valid):
            objects, labels = targets.boxes[image][valid], targets.labels[image][valid]
            if not len(labels):
                continue
            pairs = simota(
                boxes[image], objectness[image, :, 0], logits[image], centres, strides, objects.to(boxes), labels
            )
            wanted[image, pairs.cells] = 1
            classes = F.one_hot(labels[pairs.objects], self.num_classes) * pairs.overlap[:, None]
            found.append(
                (boxes[image, pairs.cells], objects[pairs.objects].to(boxes), logits[image, pairs.cells], classes)
            )
        count = max(sum(len(part[0]) for part in found), 1)
        box_loss = class_loss = flat.sum() * 0
        if found:
            predicted, objects, chosen, classes = (torch.cat(parts) for parts in zip(*found, strict=True))
            box_loss = (1 - iou(predicted, objects) ** 2).sum() / count
            class_loss = F.binary_cross_entropy_with_logits(chosen, classes, reduction="sum") / count
        found_loss = F.binary_cross_entropy_with_logits(objectness[..., 0], wanted, reduction="sum") / count
        return {
            "box": self.box_gain * box_loss,
            "cls": self.class_gain * class_loss,
            "obj": self.objectness_gain * found_loss,
        }


def _decode(raw: Sequence[Tensor], spec: DecodeSpec, num_classes: int) -> Tensor:
    return decode_yolox(raw, strides=spec.strides, num_classes=num_classes)


def _loss(spec: DecodeSpec, num_classes: int, **gains: float) -> YOLOXLoss:
    return YOLOXLoss(spec.strides, num_classes, **gains)


register(Head("yolox", _decode, _loss, frozenset({"box_gain", "class_gain", "objectness_gain"})))
