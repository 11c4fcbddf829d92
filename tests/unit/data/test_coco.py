"""COCO data: what is written is read back; real files' quirks; malformed files give one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.data import Sample, open_dataset
from zoo.data.coco import CocoDetection, write_coco
from zoo.data.digits import DigitsDetection
from zoo.errors import DataError, InvalidInputError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    digits = DigitsDetection("test", length=6)
    folder = write_coco(digits, tmp_path / "set", split="test")
    dataset = open_dataset(folder, "test")
    assert list(dataset.class_names) == list(digits.class_names)
    assert len(dataset) == 6
    for index in range(6):
        one, other = digits[index], dataset[index]
        assert isinstance(other, Sample)
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.labels, other.labels)
        assert one.image_id == other.image_id
    assert len(open_dataset(folder, "test", length=2)) == 2


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(InvalidInputError):
        write_coco(DigitsDetection("test", length=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def coco_file(tmp_path: Path, **changes: Any) -> Path:
    """A small annotation file with the quirks of COCO's own."""
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "train2017" / "b.jpg")
    content = {
        "images": [{"id": 7, "file_name": "train2017/b.jpg", "height": 30, "width": 40}],
        "categories": [{"id": 90, "name": "brush"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 10, 5], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 40, 30], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [3, 3, 0, 5]},
        ],
        **changes,
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def test_category_gaps_crowds_and_empty_boxes(tmp_path: Path) -> None:
    dataset = CocoDetection(coco_file(tmp_path), tmp_path)
    assert dataset.class_names == ("person", "brush")
    sample = dataset[0]
    assert sample.labels.tolist() == [1]
    assert sample.boxes.tolist() == [[1, 2, 11, 7]]


@pytest.mark.parametrize(
    "changes",
    [
        {"images": "none"},
        {"images": [{"id": 1}]},
        {"categories": [{"id": 1}]},
        {"annotations": [{"image_id": 7, "category_id": 5, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1]}]},
        {"images": [{"id": 7, "file_name": "missing.jpg"}]},
        {"images": [None]},
    ],
)
def test_malformed_files(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        CocoDetection(coco_file(tmp_path, **changes), tmp_path)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    for content in (None, "{", "[]"):
        path = tmp_path / "a.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(DataError):
            CocoDetection(path, tmp_path)
    with pytest.raises(DataError, match=r"layout of the data set .* is not known"):
        open_dataset(tmp_path, "test")


def test_the_command_line_writes_the_digits(tmp_path: Path) -> None:
    from zoo.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["write-dataset", "digits", "--length", "2", "--out", str(tmp_path / "set")])
    assert not ended.value.code
    assert len(open_dataset(tmp_path / "set", "test")) == 2
