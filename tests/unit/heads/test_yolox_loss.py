"""The loss of YOLOX: which cells learn which object, and what is zero when all is right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.errors import ConfigError
from zoo.heads.boxes import Targets, cell_centres, pairwise_iou
from zoo.heads.yolox import Assigned, YOLOXLoss, decode_yolox, simota
from zoo.training.config import make_train_config
from zoo.training.loop import make_loss
from zoo.training.start import model_config

STRIDES, SHAPES = (8, 16), [(8, 8), (4, 4)]


def targets(*boxes: list[float], labels: list[int]) -> Targets:
    return Targets(torch.tensor([labels]), torch.tensor([boxes]), torch.ones(1, len(labels)).bool())


def assign(boxes: Tensor, objects: Tensor, labels: list[int], logits: Tensor | None = None) -> Assigned:
    centres, strides = (part.float() for part in cell_centres(SHAPES, STRIDES))
    cells = len(centres)
    given = torch.zeros(cells, 3) if logits is None else logits
    return simota(boxes, torch.zeros(cells), given, centres, strides, objects, torch.tensor(labels))


def test_as_many_cells_learn_as_overlaps_add_up_to() -> None:
    objects = torch.tensor([[10.0, 10, 40, 40]])
    boxes = torch.zeros(80, 4)
    near = [8 * 2 + 2, 8 * 2 + 3, 8 * 3 + 2, 8 * 3 + 3]  # around the centre (25, 25)
    boxes[near] = objects
    found = assign(boxes, objects, [1])
    assert sorted(found.cells.tolist()) == near
    torch.testing.assert_close(found.overlap, torch.ones(4))
    boxes[near[2:]] = 0
    assert sorted(assign(boxes, objects, [1]).cells.tolist()) == near[:2]


def test_an_object_that_nothing_overlaps_still_has_one_cell_near_its_centre() -> None:
    found = assign(torch.zeros(80, 4), torch.tensor([[10.0, 10, 14, 14]]), [0])
    assert len(found.cells) == 1
    centres, strides = cell_centres(SHAPES, STRIDES)
    distance = (centres[found.cells] - 12).abs().max()
    assert float(distance) < 2.5 * float(strides[found.cells])


def test_a_cell_that_two_objects_want_learns_the_cheaper_one() -> None:
    objects = torch.tensor([[8.0, 8, 24, 24], [8.0, 8, 24, 25]])
    boxes = objects[1].expand(80, 4)
    logits = torch.full((80, 3), -5.0)
    logits[:, 2] = 5
    found = assign(boxes.clone(), objects, [0, 2], logits)
    assert (found.objects == 1).all()  # of the right class, and the better overlap


def test_of_equal_overlap_the_better_class_wins() -> None:
    objects = torch.tensor([[8.0, 8, 24, 24]])
    logits = torch.zeros(80, 3)
    logits[8 + 1, 0] = 4.0
    boxes = torch.zeros(80, 4)
    boxes[[9, 10, 17, 18]] = torch.tensor([8.0, 8, 24, 16])  # overlap of a half each: two of the four learn
    found = assign(boxes, objects, [0], logits)
    assert len(found.cells) == 2
    assert 9 in found.cells.tolist()


def perfect(box: list[float], label: int) -> list[Tensor]:
    """Raw maps that hold exactly one object, in each cell of the finer scale that lies in it."""
    raw = [torch.zeros(1, 8, *shape) for shape in SHAPES]
    for level in raw:
        level[:, 2:4] = -3  # boxes of nearly nothing elsewhere
        level[:, 4:] = -20.0
    x1, y1, x2, y2 = box
    for row in range(8):
        for column in range(8):
            if abs(8 * column + 4 - (x1 + x2) / 2) < 8 and abs(8 * row + 4 - (y1 + y2) / 2) < 8:
                cell = raw[0][0, :, row, column]
                cell[0], cell[1] = (x1 + x2) / 16 - column, (y1 + y2) / 16 - row
                cell[2:4] = torch.tensor([(x2 - x1) / 8, (y2 - y1) / 8]).log()
                cell[4] = cell[5 + label] = 20.0
    return raw


def test_what_is_right_costs_nothing_and_decodes_to_the_object() -> None:
    box = [9.0, 14.0, 33.0, 40.0]
    raw = perfect(box, 2)
    parts = YOLOXLoss(STRIDES, 3)(raw, targets(box, labels=[2]))
    assert all(float(part) < 1e-4 for part in parts.values()), parts
    decoded = decode_yolox(raw, strides=STRIDES, num_classes=3)[0]
    best = decoded[:, decoded[6].argmax()]
    torch.testing.assert_close(best[:4], torch.tensor([21.0, 27, 24, 26]))
    assert float(best[6]) == pytest.approx(1)
    wrong = YOLOXLoss(STRIDES, 3)(raw, targets(box, labels=[1]))
    assert float(wrong["cls"]) > 1


def test_gradients_pull_the_boxes_towards_the_object() -> None:
    torch.manual_seed(0)
    box = [9.0, 14.0, 33.0, 40.0]
    raw = [torch.zeros(1, 8, *shape, requires_grad=True) for shape in SHAPES]
    optimizer = torch.optim.Adam(raw, lr=0.1)
    loss = YOLOXLoss(STRIDES, 3)
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack(list(loss(raw, targets(box, labels=[2])).values())).sum().backward()
        optimizer.step()
    decoded = decode_yolox([level.detach() for level in raw], strides=STRIDES, num_classes=3)[0]
    best = decoded[:, decoded[4:].amax(0).argmax()]
    corners = torch.cat([best[:2] - best[2:4] / 2, best[:2] + best[2:4] / 2])
    assert float(pairwise_iou(corners[None, None], torch.tensor([[box]]))) > 0.9
    assert int(best[4:].argmax()) == 2


def test_pictures_without_objects_only_teach_that_there_are_none() -> None:
    empty = Targets(torch.zeros(1, 1).long(), torch.zeros(1, 1, 4), torch.zeros(1, 1).bool())
    raw = [torch.zeros(1, 8, *shape, requires_grad=True) for shape in SHAPES]
    parts = YOLOXLoss(STRIDES, 3)(raw, empty)
    assert float(parts["box"].detach()) == float(parts["cls"].detach()) == 0
    parts["obj"].backward()
    assert raw[0].grad is not None
    assert (raw[0].grad[:, 4] > 0).all()


def test_gains_and_inputs_come_from_the_settings() -> None:
    config = make_train_config(arch="eas-snn-pico", data="digits-events", box_gain=2.0, variant={"ts": 3, "tm": 6})
    spec = model_config(config, ["object"]).input
    assert spec.events is not None
    assert spec.events.micro_slices == 6
    import zoo

    loss = make_loss(zoo.create("eas-snn-pico", num_classes=2).config, config)
    assert isinstance(loss, YOLOXLoss)
    assert loss.box_gain == 2.0
    foreign = make_train_config(arch="eas-snn-pico", data="digits-events", dfl_gain=1.0)
    with pytest.raises(ConfigError, match="has no dfl_gain"):
        make_loss(zoo.create("eas-snn-pico", num_classes=2).config, foreign)
