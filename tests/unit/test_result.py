"""Results: supervision inside, plain data, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import InvalidInputError
from zoo.result import Result


def result(count: int = 2) -> Result:
    boxes = np.array([[10, 20, 40, 60], [50, 5, 90, 30]], float)[:count]
    image = np.full((96, 96, 3), 128, np.uint8)
    confidence, classes = np.array([0.9, 0.5])[:count], np.array([1, 0])[:count]
    return Result.from_rows(boxes, confidence, classes, class_names=["cat", "dog"], image=image, path=Path("a.png"))


def test_detections_are_supervisions() -> None:
    found = result()
    detections: Any = found.detections
    assert detections.data["class_name"].tolist() == ["dog", "cat"]
    assert detections[detections.confidence > 0.6].class_id.tolist() == [1]
    assert len(found) == 2
    assert found.boxes.xyxy.shape == (2, 4)
    assert found.boxes.cls.tolist() == [1, 0]


def test_plain_data_is_json() -> None:
    data = json.loads(json.dumps(result().to_dict()))
    assert data["detections"][0] == {"class": 1, "name": "dog", "confidence": 0.9, "xyxy": [10, 20, 40, 60]}
    assert (data["height"], data["width"], data["path"]) == (96, 96, "a.png")


def test_small_pictures_are_enlarged_and_boxes_drawn_where_they_are() -> None:
    plain, drawn = result(0).plot(), result().plot()
    assert drawn.shape == (480, 480, 3)
    assert len(result(0)) == 0
    changed = np.abs(plain.astype(int) - drawn).max(-1) > 20
    assert changed[100, 50:200].all()  # top edge of the first box
    assert not changed[350:].any()


def test_colours_are_those_of_the_classes() -> None:
    bottom = result(1).plot()[5 * 60, 5 * 15 : 5 * 35]  # edge of the first box; the image is enlarged five times
    assert np.unique(bottom, axis=0).tolist() == [[0x1B, 0x99, 0x8B]]


def test_labels_stay_in_the_image_and_have_more_than_ascii() -> None:
    image = np.zeros((480, 480, 3), np.uint8)
    at_the_border = np.array([[0, 0, 50, 40], [440, 430, 480, 480]], float)
    drawn = [
        Result.from_rows(at_the_border, np.array([0.9, 0.8]), np.array([0, 0]), class_names=[name], image=image).plot()
        for name in ("Ampel\u00e4", "Ampel\u00f6", "\u0410\u043c")
    ]
    for one in drawn:
        text = (one == 255).all(-1)
        assert text[:60].any()
        assert text[380:].any()
    assert not np.array_equal(drawn[0], drawn[1])  # no box in the place of a letter


def test_saving(tmp_path: Path) -> None:
    path = result().save(tmp_path / "new" / "a.png")
    assert np.array_equal(np.asarray(Image.open(path)), result().plot())
    with pytest.raises(InvalidInputError, match=r"\.png or \.jpg"):
        result().save(tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()
