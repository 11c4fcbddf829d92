"""The detection loss of anchor-based heads: complete IoU for boxes, cross entropy for objectness and classes.

This is the recipe of the YOLOv3 to v5 line that EMS-YOLO trains with: an object is learned by every anchor of a similar shape,
in the cell of its centre and in the two neighbouring cells nearest to the centre.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.config import Anchors, DecodeSpec
from zoo.heads.boxes import Targets, cell_centres, complete_iou
from zoo.heads.table import Head, register
from zoo.layers.conv import NeuronFactory, SpikeConvNoBN

SHAPE_RATIO = 4.0
"""An anchor fits an object whose sides are at most so many times longer or shorter."""
FINE_BALANCE, COARSE_BALANCE = 4.0, 1.0
"""Weights of the objectness loss; there are four times as many cells on a scale as on the next."""


class AnchorDetect(nn.Module):
    """Anchor-based head of EMS-YOLO (the head of YOLOv3) with a neuron in front: one 1x1 convolution per scale.

    Per scale: (N, C_i, H_i, W_i) -> (N, anchors * (5 + num_classes), H_i, W_i); per anchor x, y, w, h, objectness, then class
    logits.

    Args:
        num_classes: number of classes.
        channels: C_i of each scale, finest first.
        strides: input pixels per cell of each scale; only used for the initial biases.
        anchors_per_cell: anchors at each cell.
        neuron: makes each neuron; None for convolutions of real values, as released.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        anchors_per_cell: int,
        neuron: NeuronFactory | None,
    ) -> None:
        super().__init__()
        outputs = anchors_per_cell * (5 + num_classes)
        self.scales = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv2d(c, outputs, 1)))
            if neuron is None
            else SpikeConvNoBN(c, outputs, neuron=neuron)
            for c in channels
        )
        for scale, stride in zip(self.scales, strides, strict=True):
            bias = scale.conv.bias.data.view(anchors_per_cell, -1)  # type: ignore[union-attr, operator]
            bias[:, :4] = 0
            bias[:, 4] = math.log(8 / (640 / stride) ** 2)  # a prior of 8 objects in 640 x 640 pixels
            bias[:, 5:] = math.log(0.6 / max(num_classes - 1, 1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, finest first -> raw head maps, finest first."""
        return [scale(x) for x, scale in zip(features, self.scales, strict=True)]


def decode_anchors(
    raw: Sequence[Tensor], *, strides: Sequence[int], anchors: Anchors, num_classes: int, exponential: bool = False
) -> Tensor:
    r"""Boxes and scores of all anchors of all cells.

    .. math::
        c = (2\sigma(t_{xy}) - 0.5 + g)\,s, \qquad (w, h) = (2\sigma(t_{wh}))^2 \cdot \text{anchor}

    with the cell's index g and the stride s; a class score is objectness times class probability. This is the box of YOLOv5,
    which EMS-YOLO uses. YOLOv3 (Redmon and Farhadi, 2018, section 2.1) has, ``exponential``,

    .. math::
        c = (\sigma(t_{xy}) + g)\,s, \qquad (w, h) = e^{t_{wh}} \cdot \text{anchor}

    Args:
        raw: head maps (B, anchors * (5 + num_classes), H/s, W/s), finest first.
        strides: s of each map.
        anchors: (width, height) in pixels, per scale.
        num_classes: class logits per anchor.
        exponential: boxes of YOLOv3.

    Returns:
        (B, 4 + num_classes, A): cx, cy, w, h in input pixels, then class scores in 0..1; scales one after the other, within
        each anchor by anchor, row by row.
    """
    parts = []
    for level, stride, pairs in zip(raw, strides, anchors, strict=True):
        centres, _ = cell_centres([(level.shape[-2], level.shape[-1])], [1])
        cells = centres.to(level).T - 0.5  # (2, A)
        logits = level.unflatten(1, (len(pairs), 5 + num_classes)).flatten(3)  # (B, anchors, 5 + classes, A)
        values, sides = logits.sigmoid(), torch.tensor(pairs).to(level)[:, :, None]
        within = values[:, :, :2] if exponential else values[:, :, :2] * 2 - 0.5
        centre = (within + cells) * stride
        size = (logits[:, :, 2:4].exp() if exponential else (values[:, :, 2:4] * 2).square()) * sides
        part = torch.cat([centre, size, values[:, :, 4:5] * values[:, :, 5:]], 2)
        parts.append(part.transpose(1, 2).flatten(2))
    return torch.cat(parts, 2)


@dataclass(frozen=True)
class Matches:
    """P pairs of an object with a cell and an anchor of one scale.

    Attributes:
        image, anchor, row, column: where, each (P,).
        boxes: (P, 4) centre x, y relative to the cell's corner and width, height, in cells.
        labels: (P,).
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    boxes: Tensor
    labels: Tensor


def match(targets: Targets, anchors: Tensor, stride: int, size: tuple[int, int], *, neighbours: bool = True) -> Matches:
    """Which cells and anchors of a scale learn which objects.

    Args:
        targets: objects in pixels.
        anchors: (A, 2) width and height in pixels.
        stride: pixels per cell.
        size: (rows, columns) of the scale.
        neighbours: whether the two cells nearest to the centre learn the object, too.
    """
    image, index = targets.valid.nonzero(as_tuple=True)
    corners, labels = targets.boxes[image, index] / stride, targets.labels[image, index]
    centre, side = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    ratio = side[:, None] / (anchors / stride)
    fits = torch.maximum(ratio, 1 / ratio).amax(2) < SHAPE_RATIO
    objects, anchor = fits.nonzero(as_tuple=True)
    home = centre.floor()
    within = centre - home
    steps = torch.where(within < 0.5, -1.0, 1.0)  # towards the nearer neighbour, per axis
    zero = torch.zeros_like(steps)
    shifts = torch.stack([zero, steps * steps.new_tensor([1, 0]), steps * steps.new_tensor([0, 1])], 1)  # (N, 3, 2)
    cells = (home[:, None] + shifts)[objects]
    cells = cells if neighbours else cells[:, :1]
    limit = cells.new_tensor([size[1], size[0]])
    inside = ((cells >= 0) & (cells < limit)).all(2)
    pair, which = inside.nonzero(as_tuple=True)
    chosen, cell = objects[pair], cells[pair, which]
    boxes = torch.cat([centre[chosen] - cell, side[chosen]], 1)
    column, row = cell.long().unbind(1)
    return Matches(image[chosen], anchor[pair], row, column, boxes, labels[chosen])


@dataclass
class AnchorLoss:
    """Weighted sum of the three parts, for raw head maps that are averaged over T already.

    Attributes:
        strides, anchors, num_classes: of the head.
        exponential: boxes of YOLOv3, which reach no neighbouring cell; see :func:`zoo.heads.nms.decode_anchors`.
        box_gain, class_gain, objectness_gain: weights of the parts.
    """

    strides: Sequence[int]
    anchors: Anchors
    num_classes: int
    box_gain: float = 0.05
    class_gain: float = 0.5
    objectness_gain: float = 1.0
    exponential: bool = False

    def __call__(self, raw: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Raw maps (B, A * (5 + classes), H/s, W/s) and objects -> the parts ``box``, ``cls``, ``obj``, each weighted."""
        parts = [torch.stack(self._scale(index, level, targets)) for index, level in enumerate(raw)]
        box, classes, objectness = torch.stack(parts).sum(0)
        return {
            "box": self.box_gain * box,
            "cls": self.class_gain * classes,
            "obj": self.objectness_gain * objectness,
        }

    def _scale(self, index: int, raw: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Box, class and objectness loss of one scale."""
        anchors = torch.tensor(self.anchors[index]).to(raw)
        maps = raw.unflatten(1, (len(anchors), 5 + self.num_classes)).permute(
            0, 1, 3, 4, 2
        )  # (B, A, H, W, 5 + classes)
        size = (raw.shape[-2], raw.shape[-1])
        found = match(targets, anchors, self.strides[index], size, neighbours=not self.exponential)
        wanted = torch.zeros_like(maps[..., 4])
        values = maps[found.image, found.anchor, found.row, found.column]
        box = classes = values.sum() * 0
        if len(values):
            centre, share = values[:, :2].sigmoid(), (values[:, 2:4].sigmoid() * 2).square()
            if self.exponential:  # limited, so that a step too far does not end in infinity
                share = values[:, 2:4].clamp_max(10).exp()
            else:
                centre = centre * 2 - 0.5
            side = share * anchors[found.anchor] / self.strides[index]
            overlap = complete_iou(_corners(torch.cat([centre, side], 1)), _corners(found.boxes))
            box = (1 - overlap).mean()
            place = (found.image, found.anchor, found.row, found.column)
            # where several objects claim an anchor, the best overlap counts
            flat = torch.tensor(0).to(place[0])
            for axis, part in enumerate(place):
                flat = flat * wanted.shape[axis] + part
            wanted.view(-1).scatter_reduce_(0, flat, overlap.detach().clamp_min(0), "amax")
            classes = F.binary_cross_entropy_with_logits(
                values[:, 5:], F.one_hot(found.labels, self.num_classes).to(values)
            )
        balance = FINE_BALANCE if index == 0 else COARSE_BALANCE
        return box, classes, balance * F.binary_cross_entropy_with_logits(maps[..., 4], wanted)


def _corners(boxes: Tensor) -> Tensor:
    """(P, 4) centre and size -> x1, y1, x2, y2."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)


def _decode(raw: Sequence[Tensor], spec: DecodeSpec, num_classes: int, *, exponential: bool) -> Tensor:
    anchors = spec.anchors or ()
    return decode_anchors(raw, strides=spec.strides, anchors=anchors, num_classes=num_classes, exponential=exponential)


def _loss(spec: DecodeSpec, num_classes: int, *, exponential: bool, **gains: float) -> AnchorLoss:
    return AnchorLoss(spec.strides, spec.anchors or (), num_classes, exponential=exponential, **gains)


for _kind, _exponential in (("anchors", False), ("anchors_exp", True)):
    register(
        Head(
            _kind,
            partial(_decode, exponential=_exponential),
            partial(_loss, exponential=_exponential),
            frozenset({"box_gain", "class_gain", "objectness_gain"}),
            has_anchors=True,
        )
    )
