"""Task-aligned assignment: by hand on small grids, and what must hold on any."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.heads.assigner import Assignment, TaskAlignedAssigner
from zoo.heads.boxes import cell_centres, pairwise_iou

CENTRES, _ = cell_centres([(4, 4)], [8])  # 32 x 32 pixels


def assign(
    scores: Tensor, boxes: Tensor, objects: list[list[float]], labels: list[int], **arguments: float
) -> Assignment:
    assigner = TaskAlignedAssigner(**arguments)  # type: ignore[arg-type]
    count = len(labels)
    return assigner(
        scores,
        boxes,
        CENTRES,
        torch.tensor([labels]).view(1, count),
        torch.tensor([objects]).view(1, count, 4),
        torch.ones(1, count, dtype=torch.bool),
    )


def even_predictions(classes: int = 2) -> tuple[Tensor, Tensor]:
    """Every cell scores 0.5 and predicts its own 8 x 8 square."""
    return torch.full((1, 16, classes), 0.5), torch.cat([CENTRES - 4, CENTRES + 4], 1)[None]


def test_the_best_cell_gets_its_overlap_as_target() -> None:
    scores, boxes = even_predictions()
    found = assign(scores, boxes, [[8, 8, 16, 16]], [1])
    assert found.positive.nonzero().tolist() == [[0, 5]]  # the only cell with its centre inside
    assert found.scores[0, 5].tolist() == pytest.approx([0, 1])  # its prediction is the object's box
    assert found.boxes[0, 5].tolist() == [8, 8, 16, 16]


def test_targets_follow_alignment() -> None:
    scores, boxes = even_predictions()
    scores[0, 5, 0] = 0.9  # of four equal boxes, one scores higher
    found = assign(scores, boxes, [[8, 8, 24, 24]], [0])
    assert found.positive[0].nonzero()[:, 0].tolist() == [5, 6, 9, 10]
    # TOOD eq. 6: the strongest cell is scaled to the largest overlap, 64 / 256; the rest by (0.5 / 0.9) ** 0.5
    expected = [0.25, *[0.25 * (0.5 / 0.9) ** 0.5] * 3]
    assert found.scores[0, [5, 6, 9, 10], 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_topk_limits_the_cells_of_an_object() -> None:
    scores, boxes = even_predictions()
    scores[0, 6, 0] = 0.9
    found = assign(scores, boxes, [[0, 0, 32, 32]], [0], topk=3)
    assert found.positive.sum() == 3
    assert found.positive[0, 6]


def test_a_contested_cell_learns_the_object_it_overlaps_most() -> None:
    scores, boxes = even_predictions()
    found = assign(scores, boxes, [[0, 0, 32, 32], [7, 7, 17, 17]], [0, 1], topk=16)
    assert found.boxes[0, 5].tolist() == [7, 7, 17, 17]
    assert found.scores[0, 5, 0] == 0
    assert found.boxes[0, 6].tolist() == [0, 0, 32, 32]


def test_a_tiny_object_between_the_centres_still_gets_a_cell() -> None:
    scores, boxes = even_predictions()
    assert assign(scores, boxes, [[6, 9, 8, 11]], [0]).positive.any()
    assert not assign(scores, boxes, [[7, 7, 9, 9]], [0], least_side=0.0).positive.any()


def test_predictions_that_overlap_nothing_still_give_positive_cells() -> None:
    scores, boxes = even_predictions()
    found = assign(scores, boxes + 1000, [[8, 8, 24, 24]], [0])
    assert found.positive.sum() == 4
    assert found.scores.sum() == 0  # but they carry no weight
    assert found.scores.isfinite().all()


def test_without_objects_nothing_is_positive() -> None:
    scores, boxes = even_predictions()
    found = assign(scores, boxes, [], [])
    assert not found.positive.any()
    assert found.scores.shape == scores.shape
    assert found.scores.sum() == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 12))
def test_what_holds_for_any_predictions(seed: int, count: int, topk: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    scores = rand(2, 16, 3)
    middle, half = rand(2, 16, 2) * 32, rand(2, 16, 2) * 12 + 1
    boxes = torch.cat([middle - half, middle + half], -1)
    middle, half = rand(2, count, 2) * 32, rand(2, count, 2) * 10 + 0.5
    objects = torch.cat([middle - half, middle + half], -1)
    labels = torch.randint(0, 3, (2, count), generator=generator)
    valid = rand(2, count) > 0.3
    found = TaskAlignedAssigner(topk=topk)(scores, boxes, CENTRES, labels, objects, valid)
    assert (found.scores[~found.positive] == 0).all()
    assert (found.scores >= 0).all()
    overlap = pairwise_iou(objects, boxes)
    for image, cell in found.positive.nonzero().tolist():
        owners = [
            k for k in range(count) if valid[image, k] and torch.equal(objects[image, k], found.boxes[image, cell])
        ]
        assert len(owners) == 1  # padding owns nothing
        centre, target = CENTRES[cell], objects[image, owners[0]]
        reach = ((target[2:] - target[:2]).clamp_min(8) / 2).tolist()
        offset = (centre - (target[2:] + target[:2]) / 2).abs().tolist()
        assert offset[0] < reach[0]
        assert offset[1] < reach[1]
        label = labels[image, owners[0]]
        assert found.scores[image, cell].argmax() == label or found.scores[image, cell].sum() == 0
        assert found.scores[image, cell, label] <= overlap[image, owners[0]].max() + 1e-6
    for image in range(2):
        assert found.positive[image].sum() <= topk * valid[image].sum()


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    scores, boxes = torch.rand(1, 16, 2), torch.cat([CENTRES - 5, CENTRES + 6], 1)[None]
    objects, labels = torch.tensor([[[3.0, 3, 20, 18], [0, 0, 0, 0]]]), torch.tensor([[1, 0]])
    padded = TaskAlignedAssigner()(scores, boxes, CENTRES, labels, objects, torch.tensor([[True, False]]))
    plain = assign(scores, boxes, [[3, 3, 20, 18]], [1])
    assert torch.equal(padded.positive, plain.positive)
    assert torch.equal(padded.scores, plain.scores)
