"""Decoding and non-maximum suppression against arithmetic by hand and a plain quadratic implementation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from zoo.heads.dfl import decode_dfl
from zoo.heads.nms import non_max_suppression


def test_one_cell_by_hand() -> None:
    raw = [torch.full((1, 4 * 4 + 2, 2, 3), -100.0, dtype=torch.float64)]
    cell = raw[0][0, :, 1, 2]  # its centre is (2.5, 1.5) cells
    for side, bins in enumerate([(0,), (1,), (2, 3), (3,)]):
        for index in bins:
            cell[4 * side + index] = 0.0
    cell[16:] = torch.tensor([0.0, 2.0])
    decoded = decode_dfl(raw, strides=[8], reg_max=4, num_classes=2)
    assert decoded.shape == (1, 6, 6)
    left, top, right, bottom = 20 - 0, 12 - 8, 20 + 2.5 * 8, 12 + 3 * 8
    expected = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0.5, 1 / (1 + math.exp(-2))]
    assert torch.allclose(decoded[0, :, 5], torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_scales_follow_one_another_row_by_row() -> None:
    raw = [torch.zeros(1, 9, 2, 2), torch.zeros(1, 9, 1, 1)]
    decoded = decode_dfl(raw, strides=[8, 16], reg_max=2, num_classes=1)
    assert decoded[0, :2].T.tolist() == [[4, 4], [12, 4], [4, 12], [12, 12], [8, 8]]
    assert decoded[0, 2].tolist() == [8, 8, 8, 8, 16]


def plain_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou: float, agnostic: bool) -> list[int]:
    """Greedy suppression with Python loops; boxes come in any order."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i)):
        for k in kept:
            sides = [
                max(
                    0.0,
                    min(boxes[i][d + 2].item(), boxes[k][d + 2].item()) - max(boxes[i][d].item(), boxes[k][d].item()),
                )
                for d in (0, 1)
            ]
            areas = [((b[2] - b[0]) * (b[3] - b[1])).item() for b in (boxes[i], boxes[k])]
            shared = sides[0] * sides[1]
            if (agnostic or classes[i] == classes[k]) and shared / (sum(areas) - shared) > iou:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_a_plain_implementation(agnostic: bool, seed: int) -> None:
    torch.manual_seed(seed)
    count, classes = 60, 3
    decoded = torch.zeros(1, 4 + classes, count, dtype=torch.float64)
    decoded[0, :2] = torch.rand(2, count) * 40 - 20
    decoded[0, 2:4] = torch.rand(2, count) * 20 + 1
    decoded[0, 4:] = torch.randint(0, 5, (classes, count)) / 8  # many equal scores
    (found,) = non_max_suppression(decoded, conf=0.2, iou=0.4, max_det=300, class_agnostic=agnostic)
    scores, labels = decoded[0, 4:].max(0)
    boxes = torch.cat([decoded[0, :2] - decoded[0, 2:4] / 2, decoded[0, :2] + decoded[0, 2:4] / 2]).T
    chosen = (scores >= 0.2).nonzero()[:, 0]
    kept = plain_nms(boxes[chosen], scores[chosen], labels[chosen], 0.4, agnostic)
    expected = chosen[kept]
    assert len(found) == len(kept) > 3
    assert torch.equal(found[:, :4], boxes[expected])
    assert torch.equal(found[:, 5], labels[expected].double())


def test_a_cell_may_give_several_classes_when_measuring_only() -> None:
    decoded = torch.tensor([[[10.0], [10], [4], [4], [0.9], [0.8]]])
    limits = {"conf": 0.1, "iou": 0.5, "max_det": 10}
    assert len(non_max_suppression(decoded, **limits)[0]) == 1  # type: ignore[arg-type]
    several = non_max_suppression(decoded, **limits, multi_label=True)[0]  # type: ignore[arg-type]
    assert several[:, 5].tolist() == [0, 1]


def test_limits_and_nothing_found() -> None:
    decoded = torch.rand(2, 6, 50)
    decoded[:, :2] *= 1000
    assert all(len(found) == 5 for found in non_max_suppression(decoded, conf=0.0, iou=0.5, max_det=5))
    assert all(found.shape == (0, 6) for found in non_max_suppression(decoded, conf=1.1, iou=0.5, max_det=5))
