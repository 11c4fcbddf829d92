"""From raw head maps to boxes: outside the NIR graph, in plain torch, the same for every backend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.config import Anchors

MAX_CANDIDATES = 30_000


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


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    """IoU of one box (4,) with boxes (N, 4)."""
    sides = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp_min(0)
    shared = sides.prod(1)
    area = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1)
    return shared / (area - shared).clamp_min(1e-12)


def _greedy(boxes: Tensor, iou: float, max_det: int) -> Tensor:
    """Indices of the boxes (N, 4) kept by greedy suppression; the boxes come strongest first."""
    alive = torch.arange(len(boxes))
    kept: list[Tensor] = []
    while len(alive) and len(kept) < max_det:
        best, alive = alive[0], alive[1:]
        kept.append(best)
        alive = alive[_overlap(boxes[best], boxes[alive]) <= iou]
    return torch.stack(kept) if kept else alive


def non_max_suppression(
    decoded: Tensor,
    *,
    conf: float,
    iou: float,
    max_det: int,
    class_agnostic: bool = False,
    multi_label: bool = False,
) -> list[Tensor]:
    """Greedy non-maximum suppression, deterministic: equal scores keep the order of the cells.

    torchvision's does not load beside a CPU build of torch, and supervision's keeps all pairs in memory at once.

    Args:
        decoded: (B, 4 + classes, A) of :func:`decode_dfl`.
        conf: a score counts from this value on.
        iou: boxes that overlap a stronger one by more than this are dropped.
        max_det: boxes kept per image.
        class_agnostic: suppress across classes.
        multi_label: let a cell give one box per class with a sufficient score, as validation does, instead of its best.

    Returns:
        Per image (N, 6): x1, y1, x2, y2 in input pixels, score, class; strongest first.
    """
    results = []
    for image in decoded:
        centre, size, scores = image[:2].T, image[2:4].T, image[4:].T
        boxes = torch.cat([centre - size / 2, centre + size / 2], 1)
        if multi_label:
            cells, classes = (scores >= conf).nonzero().unbind(1)
            confidence = scores[cells, classes]
        else:
            confidence, classes = scores.max(1)
            cells = (confidence >= conf).nonzero()[:, 0]
            confidence, classes = confidence[cells], classes[cells]
        order = confidence.argsort(descending=True, stable=True)[:MAX_CANDIDATES]
        chosen, confidence, classes = boxes[cells[order]], confidence[order], classes[order]
        # boxes of different classes are moved out of each other's reach
        reach = 0.0 if class_agnostic or not len(chosen) else float(chosen.max() - chosen.min()) + 1.0
        kept = _greedy(chosen.double() + (classes * reach)[:, None].double(), iou, max_det)
        results.append(torch.cat([chosen[kept], confidence[kept, None], classes[kept, None].to(chosen)], 1))
    return results
