"""mAP: perfect, shifted and wrong detections have known scores; the same through any image size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.config import InputSpec, make_config
from zoo.data.digits import DigitsDetection
from zoo.data.sample import Sample
from zoo.detectors.base import DetectorBase
from zoo.errors import DataError, InvalidInputError
from zoo.evaluation import evaluate

NAMES = tuple("0123456789")


class Oracle(DetectorBase):
    """Knows the objects of a data set; returns them changed."""

    def __init__(self, dataset: Any, *, shift: float = 0.0, labels: int = 0, side: int = 96, drop: int = 0) -> None:
        self.config = make_config(arch="oracle", class_names=NAMES, input=InputSpec(image_size=(side, side)))
        self.dataset, self.shift, self.labels, self.drop = dataset, shift, labels, drop
        self.scale, self.next = side / 96, 0

    def __call__(self, images: Tensor) -> list[Tensor]:
        return [images]

    def decode(self, raw: Any) -> Tensor:
        decoded = torch.zeros(len(raw[0]), 14, 40, dtype=torch.float64)
        for row in decoded:
            sample = self.dataset[self.next]
            self.next += 1
            boxes = torch.from_numpy(sample.boxes).double() * self.scale
            for index in range(self.drop, len(boxes)):
                x1, y1, x2, y2 = boxes[index].tolist()
                shift = self.shift * (x2 - x1)
                row[:4, index] = torch.tensor([(x1 + x2) / 2 + shift, (y1 + y2) / 2, x2 - x1, y2 - y1])
                row[4 + (sample.labels[index] + self.labels) % 10, index] = 0.9
        return decoded


@pytest.fixture(scope="module")
def digits() -> DigitsDetection:
    return DigitsDetection("test", length=60)


@pytest.mark.parametrize("side", [96, 192])
def test_perfect_detections(digits: DigitsDetection, side: int) -> None:
    metrics = evaluate(Oracle(digits, side=side), digits, batch_size=7)
    assert metrics.map50_95 == pytest.approx(1.0)
    assert metrics.to_dict()["mAP50"] == pytest.approx(1.0)
    assert metrics.images == 60
    assert all(value == pytest.approx(1.0) for value in metrics.per_class.values())


def test_a_shift_costs_the_strict_overlaps_only(digits: DigitsDetection) -> None:
    # moved by 10 % of the width: IoU 0.9 / 1.1 = 0.818, so 7 of the 10 overlaps 0.50, 0.55, ... count
    metrics = evaluate(Oracle(digits, shift=0.1), digits)
    assert metrics.map50 == pytest.approx(1.0)
    # (a few boxes at the border are clipped and so overlap more)
    assert metrics.map50_95 == pytest.approx(0.7, abs=2e-3)


def test_wrong_classes_and_missed_objects(digits: DigitsDetection) -> None:
    assert evaluate(Oracle(digits, labels=1), digits).map50 < 0.02
    assert evaluate(Oracle(digits, drop=40), digits).map50 == 0.0
    assert 0.3 < evaluate(Oracle(digits, drop=1), digits).map50 < 0.9


class _Empty:
    class_names = NAMES

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.zeros((96, 96, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), index)


def test_what_cannot_be_measured(digits: DigitsDetection) -> None:
    with pytest.raises(DataError, match="no objects"):
        evaluate(Oracle(_Empty()), _Empty())
    other = Oracle(digits)
    other.config = make_config(arch="oracle", class_names=("one",))
    with pytest.raises(InvalidInputError, match="classes"):
        evaluate(other, digits)
