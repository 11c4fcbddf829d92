"""The loss: distribution focal loss by hand, decoding conventions, and that its minimum is the truth."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.heads.boxes import Targets, cell_centres
from zoo.heads.dfl import DetectionLoss, decode_dfl, distribution_focal_loss

STRIDES, BINS, CLASSES = (8, 16), 8, 3


def loss(**gains: Any) -> DetectionLoss:
    return DetectionLoss(STRIDES, BINS, CLASSES, **gains)


def raw_maps(batch: int = 1, *, logit: float = 0.0) -> list[Tensor]:
    """Flat heads for 32 x 32 pixels."""
    return [torch.full((batch, 4 * BINS + CLASSES, 32 // s, 32 // s), logit, dtype=torch.float64) for s in STRIDES]


def one_object(*corners: float, label: int = 1) -> Targets:
    return Targets(torch.tensor([[label]]), torch.tensor([[corners]], dtype=torch.float64), torch.tensor([[True]]))


def perfect(targets: Targets) -> list[Tensor]:
    """Heads whose cells inside the object are sure of it, and all others of nothing."""
    maps = raw_maps(logit=-40.0)
    x1, y1, x2, y2 = targets.boxes[0, 0].tolist()
    for raw, stride in zip(maps, STRIDES, strict=True):
        bins = raw[:, : 4 * BINS].unflatten(1, (4, BINS))
        for row in range(raw.shape[2]):
            for column in range(raw.shape[3]):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                if x1 < x < x2 and y1 < y < y2:
                    raw[0, 4 * BINS + int(targets.labels[0, 0]), row, column] = 40.0
                    for side, distance in enumerate([x - x1, y - y1, x2 - x, y2 - y]):
                        bins[0, side, :, row, column] = hat(distance / stride)
    return maps


def hat(distance: float) -> Tensor:
    """Bin logits whose expectation is the distance, with all mass on the two neighbours."""
    mass = (1 - (torch.arange(BINS, dtype=torch.float64) - distance).abs()).clamp_min(1e-30)
    return mass.log()


def test_cells_are_ordered_as_the_decoder_expects() -> None:
    centres, strides = cell_centres([(2, 3), (1, 1)], [8, 16])
    assert centres.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8]]
    assert strides[:, 0].tolist() == [8] * 6 + [16]


def test_distribution_focal_loss_by_hand() -> None:
    bins = torch.tensor([[0.0, 1, 2, 0]], dtype=torch.float64).expand(1, 4, 4)
    log_sum = math.log(2 + math.e + math.e**2)
    expected = -(0.75 * (1 - log_sum) + 0.25 * (2 - log_sum))  # 1.25 lies between bins 1 and 2
    distance = torch.full((1, 4), 1.25, dtype=torch.float64)
    assert distribution_focal_loss(bins, distance).item() == pytest.approx(expected)


@pytest.mark.parametrize("distance", [-3.0, 0.0, 6.99, 7.0, 50.0])
def test_distances_beyond_the_last_bin_are_clamped(distance: float) -> None:
    value = distribution_focal_loss(torch.zeros(1, 4, BINS), torch.full((1, 4), distance))
    assert value.item() == pytest.approx(math.log(BINS))


def test_the_truth_costs_nothing_but_the_entropy_of_its_bins() -> None:
    targets = one_object(3, 5, 21, 26)
    parts = loss()(perfect(targets), targets)
    assert parts["box"].item() == pytest.approx(0, abs=1e-6)
    assert parts["cls"].item() == pytest.approx(0, abs=1e-4)
    assert parts["dfl"].item() < 1.5 * math.log(2)
    whole = one_object(4, 4, 28, 28)  # whole cells everywhere at stride 8: no entropy there either
    assert loss(dfl_gain=1.0)(perfect(whole), whole)["dfl"].item() < 0.4


@pytest.mark.parametrize("corners", [(8, 5, 21, 26), (3, 5, 21, 20), (0, 0, 32, 32)])
def test_any_other_box_costs_more(corners: tuple[float, ...]) -> None:
    targets = one_object(3, 5, 21, 26)
    wrong = perfect(one_object(*corners))
    right = perfect(targets)
    assert loss()(wrong, targets)["box"] > loss()(right, targets)["box"] + 0.1


def test_gains_scale_their_part_only() -> None:
    torch.manual_seed(0)
    maps, targets = [torch.randn_like(raw) for raw in raw_maps()], one_object(3, 5, 21, 26)
    plain = loss(box_gain=1, class_gain=1, dfl_gain=1)(maps, targets)
    scaled = loss(box_gain=2, class_gain=3, dfl_gain=5)(maps, targets)
    for name, gain in {"box": 2, "cls": 3, "dfl": 5}.items():
        assert scaled[name].item() == pytest.approx(gain * plain[name].item())


@pytest.mark.parametrize("padding", [0, 2])
def test_pictures_without_objects_teach_silence(padding: int) -> None:
    maps = [raw.requires_grad_() for raw in raw_maps(2)]
    empty = Targets(
        torch.zeros(2, padding, dtype=torch.int64),
        torch.zeros(2, padding, 4, dtype=torch.float64),
        torch.zeros(2, padding, dtype=torch.bool),
    )
    parts = loss()(maps, empty)
    assert parts["box"] == 0
    assert parts["dfl"] == 0
    sum(parts.values(), torch.zeros(())).backward()
    for raw in maps:
        assert raw.grad is not None
        assert (raw.grad[:, 4 * BINS :] > 0).all()
        assert (raw.grad[:, : 4 * BINS] == 0).all()


def test_descent_finds_the_object() -> None:
    """Free logits, trained by this loss alone, decode to the object."""
    torch.manual_seed(0)
    targets = one_object(6, 9, 24, 27, label=2)
    maps = [(0.1 * torch.randn_like(raw)).requires_grad_() for raw in raw_maps()]
    optimizer = torch.optim.Adam(maps, lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        sum(loss()(maps, targets).values(), torch.zeros(())).backward()
        optimizer.step()
    raw = maps[0][0].detach()
    scores = raw[4 * BINS :].sigmoid()
    label, row, column = torch.unravel_index(scores.argmax(), scores.shape)
    assert label == 2
    assert scores.max() > 0.8
    bins = raw[: 4 * BINS, row, column].view(4, BINS).softmax(-1)
    left, top, right, bottom = (bins @ torch.arange(BINS, dtype=torch.float64) * 8).tolist()
    x, y = (column.item() + 0.5) * 8, (row.item() + 0.5) * 8
    assert [x - left, y - top, x + right, y + bottom] == pytest.approx([6, 9, 24, 27], abs=0.5)


def test_agrees_with_the_decoder() -> None:
    targets = one_object(3, 5, 21, 26)
    decoded = decode_dfl(perfect(targets), strides=STRIDES, reg_max=BINS, num_classes=CLASSES)
    best = decoded[0, :, decoded[0, 4:].amax(0).argmax()]
    x, y, width, height = best[:4].tolist()
    assert [x - width / 2, y - height / 2, x + width / 2, y + height / 2] == pytest.approx([3, 5, 21, 26], abs=1e-6)
