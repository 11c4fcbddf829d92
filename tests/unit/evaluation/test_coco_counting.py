"""Evaluation counts as COCO does: crowds, areas, ids of any kind, classes by name, unreadable images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.evaluation.boxes_detector import BoxesDetector
from tests.unit.evaluation.pycoco import assert_equal, pycoco_numbers
from zoo.data import open_dataset
from zoo.data.imageset import ImageSet
from zoo.errors import DataError, DataWarning, InvalidInputError
from zoo.evaluation import Metrics, evaluate
from zoo.evaluation.predictions import CocoResults


def coco_set(folder: Path, annotations: list[dict[str, Any]], *, images: int = 1, ids: Any = None) -> ImageSet:
    """Images of 200x200 pixels with annotations of two classes."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "test").mkdir()
    keys = ids or list(range(1, images + 1))
    for number in range(images):
        Image.new("RGB", (200, 200)).save(folder / "test" / f"{number}.png")
    content = {
        "images": [
            {"id": key, "file_name": f"{number}.png", "width": 200, "height": 200} for number, key in enumerate(keys)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": annotations,
    }
    (folder / "annotations" / "test.json").write_text(json.dumps(content))
    dataset = open_dataset(folder, "test")
    assert isinstance(dataset, ImageSet)
    return dataset


def measured(dataset: ImageSet, found: list[Any], *, names: Any = ("cat", "dog"), **options: Any) -> Metrics:
    rows = [np.array(one, np.float64).reshape(-1, 6) for one in found]
    return evaluate(BoxesDetector(rows, [(200, 200)] * len(rows), names, side=200), dataset, **options)


def box(number: int, image: Any, bbox: list[float], category: int = 3, **more: Any) -> dict[str, Any]:
    area = bbox[2] * bbox[3]
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, "area": area, "iscrowd": 0, **more}


def test_a_detection_in_a_crowd_is_ignored(tmp_path: Path) -> None:
    """The case of the report: 1.0; without its crowd the set gives 0.5."""
    objects = [box(1, 1, [0, 0, 20, 20], iscrowd=0), box(2, 1, [40, 40, 60, 60], iscrowd=1)]
    found = [[[45, 45, 65, 65, 0.9, 0], [0, 0, 20, 20, 0.8, 0]]]
    dataset = coco_set(tmp_path / "a", objects)
    assert dataset.truth.crowd.tolist() == [False, True]
    assert dataset[0].boxes.tolist() == [[0, 0, 20, 20]]
    assert measured(dataset, found).map50 == 1.0
    assert measured(coco_set(tmp_path / "b", objects[:1]), found).map50 == 0.5


def test_areas_are_those_of_the_annotations(tmp_path: Path) -> None:
    """The outline of a large box can be a small object."""
    objects = [box(1, 1, [0, 0, 100, 100]) | {"area": 900}, box(2, 1, [100, 100, 40, 40]) | {"area": 10_000}]
    metrics = measured(coco_set(tmp_path, objects), [[[0, 0, 100, 100, 0.9, 0]]])
    assert metrics.by_size["small"] == pytest.approx(1.0)
    assert metrics.by_size["large"] == 0.0
    assert np.isnan(metrics.by_size["medium"])
    assert [one.objects for one in metrics.classes] == [2, 0]


def test_an_annotation_id_of_0_is_found_like_any_other(tmp_path: Path) -> None:
    """Roboflow counts annotations from 0, which pycocotools takes for no match."""
    metrics = measured(coco_set(tmp_path, [box(0, 1, [0, 0, 50, 50])]), [[[0, 0, 50, 50, 0.9, 0]]])
    assert metrics.map50_95 == pytest.approx(1.0)


@pytest.mark.parametrize("ids", [["b", "a", "c"], [30, 4, 17]])
def test_ids_of_any_kind_equal_pycocotools(tmp_path: Path, ids: list[Any]) -> None:
    rng = np.random.default_rng(3)
    objects, found = [], []
    for place, key in enumerate(ids):
        corners = rng.integers(0, 100, (6, 2))
        objects += [
            box(10 * place + n + 1, key, [int(x), int(y), 60, 50], [3, 18][n % 2], iscrowd=int(n == 5))
            for n, (x, y) in enumerate(corners)
        ]
        rows = [[x + 3, y + 3, x + 60, y + 50, 0.5 + n / 100, n % 2] for n, (x, y) in enumerate(corners)]
        found.append(rows + [[x + 20, y, x + 90, y + 40, 0.5, n % 2] for n, (x, y) in enumerate(corners)])
    dataset = coco_set(tmp_path / "set", objects, images=3, ids=ids)
    ordered = [found[ids.index(key)] for key in sorted(ids)]
    with CocoResults(tmp_path / "found.json", dataset.truth.category_ids) as writer:
        metrics = measured(dataset, ordered, iou=1.0, writers=[writer])
    content = json.loads((tmp_path / "set" / "annotations" / "test.json").read_text())
    rows = json.loads((tmp_path / "found.json").read_text())
    assert {row["image_id"] for row in rows} == set(ids)
    assert {row["category_id"] for row in rows} == {3, 18}
    assert_equal(metrics, pycoco_numbers(content, rows), dataset.truth.category_ids)
    assert 0 < metrics.map50_95 < 1


def test_more_detections_than_cocos_limit_equal_pycocotools(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    objects = [box(n + 1, 1, [int(x), int(y), 30, 30]) for n, (x, y) in enumerate(rng.integers(0, 170, (40, 2)))]
    corners = rng.integers(0, 165, (260, 2))
    rows = [
        [x, y, x + 33, y + 31, float(s), 0] for (x, y), s in zip(corners, rng.random(260).round(1) + 0.05, strict=True)
    ]
    dataset = coco_set(tmp_path / "set", objects)
    with CocoResults(tmp_path / "found.json", dataset.truth.category_ids) as writer:
        metrics = measured(dataset, [rows], iou=1.0, writers=[writer])
    content = json.loads((tmp_path / "set" / "annotations" / "test.json").read_text())
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 260
    assert_equal(metrics, pycoco_numbers(content, found), dataset.truth.category_ids)


def test_classes_are_matched_by_their_names(tmp_path: Path) -> None:
    dataset = coco_set(tmp_path, [box(1, 1, [0, 0, 50, 50]), box(2, 1, [100, 100, 50, 50], 18)])
    found = [[[0, 0, 50, 50, 0.9, 1], [100, 100, 150, 150, 0.9, 0]]]
    assert measured(dataset, found, names=("dog", "cat")).map50 == 1.0
    assert measured(dataset, found, names=("dog", "cat"), match_classes="index").map50 == 0.0
    with pytest.raises(InvalidInputError, match="only the detector has puma; only the data set has cat"):
        measured(dataset, found, names=("dog", "puma"))
    assert measured(dataset, found, names=("dog", "puma"), match_classes="index").map50 == 0.0


def test_nothing_found_is_0_and_classes_without_objects_have_no_number(tmp_path: Path) -> None:
    metrics = measured(coco_set(tmp_path, [box(1, 1, [0, 0, 50, 50])]), [[]])
    assert metrics.map50_95 == 0.0
    assert metrics.per_class["cat"] == 0.0
    assert np.isnan(metrics.per_class["dog"])
    assert metrics.classes[0].images == 1
    with pytest.raises(DataError, match="no objects"):
        measured(coco_set(tmp_path / "crowd", [box(1, 1, [0, 0, 50, 50], iscrowd=1)]), [[]])


def test_images_that_cannot_be_read_are_not_in_the_numbers(tmp_path: Path) -> None:
    dataset = coco_set(tmp_path, [box(n, n, [0, 0, 50, 50]) for n in (1, 2, 3)], images=3)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(dataset.paths[1])
    dataset.paths[1].write_bytes(dataset.paths[1].read_bytes()[:60_000])  # damaged after the set was opened
    found = [[[0, 0, 50, 50, 0.9, 0]]] * 2
    with pytest.warns(DataWarning, match=r"1 of 3 images cannot be read and are not in the numbers: .*1\.png"):
        metrics = measured(dataset, found)
    assert metrics.images == 2
    assert metrics.map50 == 1.0
    assert len(metrics.skipped) == 1


def test_a_detector_is_measured_in_eval_mode_and_left_as_it_was(tmp_path: Path) -> None:
    import torch

    import zoo

    detector = zoo.create("spikeyolo-pico", num_classes=2, class_names=["cat", "dog"], image_size=64).train()
    detector.network[0].eval() if isinstance(detector.network, torch.nn.Sequential) else next(
        detector.network.children()
    ).eval()
    modes = [module.training for module in detector.modules()]
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    dataset = coco_set(tmp_path, [box(1, 1, [0, 0, 50, 50])])
    one = evaluate(detector, dataset)
    assert [module.training for module in detector.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in detector.state_dict().items())
    assert evaluate(detector.eval(), dataset).to_dict()["mAP50"] == one.map50
