"""On 50 real images of COCO all numbers equal pycocotools', with three detectors and with detections inside crowds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.evaluation.boxes_detector import BoxesDetector
from tests.unit.evaluation.pycoco import assert_equal, pycoco_numbers
from zoo.data import open_dataset
from zoo.data.imageset import ImageSet
from zoo.evaluation import evaluate
from zoo.evaluation.predictions import CocoResults

pytestmark = pytest.mark.real


def moved(dataset: ImageSet, rng: np.random.Generator) -> list[npt.NDArray[np.float64]]:
    """Annotated boxes, moved and scaled, some missing, some of another class, and boxes where nothing is."""
    found = []
    for index in range(len(dataset)):
        rows = dataset.truth.rows(index)
        xywh, labels = dataset.truth.xywh[rows], dataset.truth.labels[rows]
        keep = rng.random(len(labels)) < 0.8
        xywh, labels = xywh[keep], labels[keep]
        xywh = xywh + rng.normal(0, 0.08, xywh.shape) * np.tile(xywh[:, 2:], 2)
        wrong = rng.random(len(labels)) < 0.1
        labels = np.where(wrong, rng.integers(0, len(dataset.class_names), len(labels)), labels)
        height, width = dataset.truth.sizes[index]
        extra = rng.random((6, 4)) * [width * 0.6, height * 0.6, width * 0.4, height * 0.4]
        xywh = np.concatenate([xywh, extra])
        labels = np.concatenate([labels, rng.integers(0, len(dataset.class_names), 6)])
        found.append(in_image(xywh, rng.random(len(xywh)).round(2), labels, (height, width)))
    return found


def gridded(dataset: ImageSet, rng: np.random.Generator) -> list[npt.NDArray[np.float64]]:
    """Annotated boxes rounded to 16 pixels with few different scores, so that many are equal, and every box twice."""
    found = []
    for index in range(len(dataset)):
        rows = dataset.truth.rows(index)
        xywh, labels = (dataset.truth.xywh[rows] / 16).round() * 16, dataset.truth.labels[rows]
        xywh = np.concatenate([xywh, xywh + np.array([0, 0, 12, 12])])
        labels = np.concatenate([labels, labels])
        found.append(in_image(xywh, rng.integers(1, 5, len(xywh)) / 5, labels, dataset.truth.sizes[index]))
    return found


def in_crowds(dataset: ImageSet, rng: np.random.Generator) -> list[npt.NDArray[np.float64]]:
    """The first, and many strong detections inside crowds."""
    found = moved(dataset, rng)
    for index, rows in enumerate(found):
        place = dataset.truth.rows(index)
        crowds = dataset.truth.crowd[place]
        for (x, y, w, h), label in zip(
            dataset.truth.xywh[place][crowds], dataset.truth.labels[place][crowds], strict=True
        ):
            corner = np.array([x, y]) + rng.random((20, 2)) * [w * 0.7, h * 0.7]
            inside = np.concatenate([corner, np.full((20, 2), [w * 0.25, h * 0.25])], 1)
            more = in_image(inside, 0.5 + rng.random(20) / 2, np.full(20, label), dataset.truth.sizes[index])
            rows = np.concatenate([rows, more])  # noqa: PLW2901 - added to what was there
        found[index] = rows
    return found


def in_image(xywh: Any, scores: Any, labels: Any, size: Any) -> npt.NDArray[np.float64]:
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    corners = corners.clip(0, [size[1], size[0], size[1], size[0]])
    there = ((corners[:, 2:] - corners[:, :2]) > 1).all(1)
    return np.column_stack([corners, scores, labels])[there]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("made", [moved, gridded, in_crowds])
def test_all_numbers_equal_pycocotools(real_data: Path, tmp_path: Path, split: str, made: Any) -> None:
    dataset = open_dataset(real_data / "tiny_coco", split)
    assert isinstance(dataset, ImageSet)
    assert dataset.truth.crowd.sum() == 5
    found = made(dataset, np.random.default_rng(7))
    detector = BoxesDetector(found, [(int(h), int(w)) for h, w in dataset.truth.sizes], dataset.class_names)
    with CocoResults(tmp_path / "found.json", dataset.truth.category_ids) as writer:
        metrics = evaluate(detector, dataset, batch_size=16, iou=1.0, writers=[writer])
    annotations = json.loads((real_data / "tiny_coco" / "annotations" / f"instances_{split}2017.json").read_text())
    rows = json.loads((tmp_path / "found.json").read_text())
    assert len(rows) > 400
    assert_equal(metrics, pycoco_numbers(annotations, rows), dataset.truth.category_ids)
    assert 0.05 < metrics.map50 < 0.95


def test_crowds_matter_here(real_data: Path) -> None:
    """Without its crowds the same set gives another number: what is tested above is not trivially equal."""
    dataset = open_dataset(real_data / "tiny_coco", "val")
    assert isinstance(dataset, ImageSet)
    found = in_crowds(dataset, np.random.default_rng(7))
    sizes = [(int(h), int(w)) for h, w in dataset.truth.sizes]
    right = evaluate(BoxesDetector(found, sizes, dataset.class_names), dataset, iou=1.0)
    bare = [dataset[index] for index in range(len(dataset))]

    class WithoutCrowds:
        class_names = dataset.class_names

        def __len__(self) -> int:
            return len(bare)

        def __getitem__(self, index: int) -> Any:
            return bare[index]

    naive = evaluate(BoxesDetector(found, sizes, dataset.class_names), WithoutCrowds(), iou=1.0)
    assert right.map50 - naive.map50 > 0.002
