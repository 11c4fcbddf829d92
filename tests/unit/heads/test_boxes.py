"""Overlap of boxes: known values, invariances, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zoo.heads.boxes import complete_iou, pairwise_iou

side = st.floats(1, 50)
corner = st.floats(-20, 20)


def box(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def test_pairwise_overlap_of_known_boxes() -> None:
    first = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 2, 2]]], dtype=torch.float64)
    second = torch.tensor([[[2.0, 0, 6, 4], [10, 10, 12, 12], [0, 0, 4, 4]]], dtype=torch.float64)
    expected = torch.tensor([[[1 / 3, 0, 1], [0, 0, 0.25]]], dtype=torch.float64)
    torch.testing.assert_close(pairwise_iou(first, second), expected, atol=1e-8, rtol=0)


def test_complete_iou_subtracts_distance_and_aspect() -> None:
    # equation by equation, for a 4x2 box against a 2x4 box: overlap 4, union 12, centres (2, 1) and (1, 2), hull 4x4
    iou, distance, diagonal = 4 / 12, 2.0, 32.0
    aspect = 4 / math.pi**2 * (math.atan(2 / 4) - math.atan(4 / 2)) ** 2
    expected = iou - distance / diagonal - aspect / (1 - iou + aspect) * aspect
    assert complete_iou(box(0, 0, 4, 2), box(0, 0, 2, 4)).item() == pytest.approx(expected, abs=1e-8)


def test_distance_still_pulls_boxes_that_do_not_touch() -> None:
    predicted = box(0, 0, 2, 2).requires_grad_()
    complete_iou(predicted, box(10, 0, 12, 2)).sum().backward()
    assert predicted.grad is not None
    assert (predicted.grad[0, [0, 2]].sum() > 0).item()  # moving right raises the overlap


@given(corner, corner, side, side)
def test_a_box_overlaps_itself_completely(x: float, y: float, width: float, height: float) -> None:
    same = box(x, y, x + width, y + height)
    assert complete_iou(same, same).item() == pytest.approx(1, abs=1e-6)


@given(corner, corner, side, side, corner, corner, side, side, st.floats(0.1, 10))
def test_complete_iou_is_bounded_and_blind_to_scale(
    x: float, y: float, w: float, h: float, x2: float, y2: float, w2: float, h2: float, scale: float
) -> None:
    first, second = box(x, y, x + w, y + h), box(x2, y2, x2 + w2, y2 + h2)
    value = complete_iou(first, second).item()
    assert -2 <= value <= 1 + 1e-9
    assert value <= pairwise_iou(first[None], second[None]).item() + 1e-9
    assert complete_iou(first * scale, second * scale).item() == pytest.approx(value, abs=1e-6)


def test_gradient_is_finite_for_degenerate_boxes() -> None:
    predicted = torch.tensor([[1.0, 1, 1, 1], [3, 3, 2, 2]], requires_grad=True)
    complete_iou(predicted, torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]])).sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
