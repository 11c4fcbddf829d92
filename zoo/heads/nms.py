"""Non-maximum suppression: outside the NIR graph, in plain torch, the same for every backend."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_CANDIDATES = 30_000


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
        decoded: (B, 4 + classes, A) of a head's decoding.
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
