"""Task-aligned assignment: which grid cells learn which object.

Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.heads.boxes import pairwise_iou


@dataclass(frozen=True)
class Assignment:
    """What each of the A cells of B images should predict.

    Attributes:
        boxes: (B, A, 4) x1, y1, x2, y2 in pixels; meaningful where ``positive``.
        scores: (B, A, classes) soft class targets in 0..1; zero where not ``positive``.
        positive: (B, A) whether the cell learns an object.
    """

    boxes: Tensor
    scores: Tensor
    positive: Tensor


@dataclass(frozen=True)
class TaskAlignedAssigner:
    r"""Assigns to each object the cells whose predictions suit it best.

    The alignment of a cell with an object is :math:`t = s^\alpha \, u^\beta` with the score s of the object's class and the
    overlap u (TOOD eq. 1). The ``topk`` best cells whose centre lies in the object are positive; a cell claimed twice goes to
    the object it overlaps most. The class target is t, scaled so that its maximum per object is the largest u (TOOD eq. 6).

    Attributes:
        topk: cells per object.
        alpha, beta: exponents.
        least_side: objects narrower than this many pixels are widened to it when choosing candidate cells. With the finest
            stride, no object falls between the cells, unless it is that small and centred on their very border.
    """

    topk: int = 10
    alpha: float = 0.5
    beta: float = 6.0
    least_side: float = 8.0

    @torch.no_grad()
    def __call__(
        self, scores: Tensor, boxes: Tensor, centres: Tensor, labels: Tensor, objects: Tensor, valid: Tensor
    ) -> Assignment:
        """Assign.

        Args:
            scores: predicted (B, A, classes) in 0..1.
            boxes: predicted (B, A, 4) in pixels.
            centres: of the cells, (A, 2) as x, y in pixels.
            labels: of the objects, (B, N), padded.
            objects: their boxes, (B, N, 4) in pixels, padded.
            valid: (B, N) False for padding.
        """
        batch, cells, classes = scores.shape
        if objects.shape[1] == 0:
            return Assignment(torch.zeros_like(boxes), torch.zeros_like(scores), scores.new_zeros(batch, cells) > 0)
        overlap = pairwise_iou(objects, boxes)  # (B, N, A)
        class_score = scores.transpose(1, 2).gather(1, labels[..., None].expand(-1, -1, cells))
        candidate = self._inside(centres, objects) & valid[..., None]
        alignment = class_score**self.alpha * overlap**self.beta * candidate
        chosen = self._best(alignment, candidate)
        chosen = self._one_object_per_cell(chosen, overlap)
        owner = chosen.long().argmax(1)  # (B, A)
        positive = chosen.any(1)
        target_boxes = objects.gather(1, owner[..., None].expand(-1, -1, 4))
        target_labels = labels.gather(1, owner)
        strength = self._normalised(alignment * chosen, overlap * chosen) * positive
        target_scores = torch.nn.functional.one_hot(target_labels, classes) * strength[..., None]
        return Assignment(target_boxes, target_scores.to(scores.dtype), positive)

    def _inside(self, centres: Tensor, objects: Tensor) -> Tensor:
        middle = (objects[..., :2] + objects[..., 2:]) / 2
        half = (objects[..., 2:] - objects[..., :2]).clamp_min(self.least_side) / 2
        return ((centres - middle[:, :, None]).abs() < half[:, :, None]).all(-1)

    def _best(self, alignment: Tensor, candidate: Tensor) -> Tensor:
        count = min(self.topk, alignment.shape[-1])
        # candidates win over non-candidates even where their alignment is still zero
        best = (alignment + candidate * 1e-9).topk(count, -1).indices
        return torch.zeros_like(candidate).scatter_(-1, best, True) & candidate

    @staticmethod
    def _one_object_per_cell(chosen: Tensor, overlap: Tensor) -> Tensor:
        most = (overlap * chosen + chosen * 1e-9).argmax(1, keepdim=True)
        return torch.zeros_like(chosen).scatter_(1, most, True) & chosen

    @staticmethod
    def _normalised(alignment: Tensor, overlap: Tensor) -> Tensor:
        strongest = alignment.amax(-1, keepdim=True).clamp_min(1e-12)
        return (alignment / strongest * overlap.amax(-1, keepdim=True)).amax(1)
