"""A run does not continue on other data, and says what changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.training.conftest import small_settings, write_set
from zoo.data.coco import CocoDetection
from zoo.errors import DataError, TrainingError
from zoo.training import train
from zoo.training.digest import digest, require_same


class Listed:
    """A data set that lists its entries and holds nothing else."""

    def __init__(self, entries: list[tuple[str, int, Any, Any]], class_names: tuple[str, ...] = ("a", "b")) -> None:
        self._entries = entries
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("a digest reads no pixels")

    def entries(self) -> Iterator[tuple[str, int, Any, Any]]:
        yield from self._entries


def listed(**changes: Any) -> Listed:
    boxes, labels = np.array([[1, 2, 3, 4]], np.float32), np.array([0])
    entries: list[tuple[str, int, Any, Any]] = [
        (f"{i}.png", 100 + i, boxes + np.float32(i), labels + i % 2) for i in range(4)
    ]
    for index, change in changes.pop("entries", {}).items():
        entries[index] = change(*entries[index])
    return Listed(entries[: changes.pop("length", 4)], **changes)


def refused(there: Listed, here: Listed) -> str:
    with pytest.raises(TrainingError) as caught:
        require_same(digest(there), digest(here), here)
    return str(caught.value)


def test_the_same_data_pass() -> None:
    require_same(digest(listed()), digest(listed()), listed())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("b", "a")}, "another order, first class 0: it was 'a' and is 'b'"),
        ({"class_names": ("a", "b", "c")}, r"2 before, 3 now; new: 'c'"),
        ({"class_names": ("a",)}, r"2 before, 1 now; missing: 'b'"),
        ({"class_names": ("a", "x")}, r"new: 'x'; missing: 'b'"),
        ({"length": 3}, "had 4 images and has 3"),
        ({"entries": {2: lambda _, s, b, l: ("9.png", s, b, l)}}, r"1 of its 4 images differ, first '9.png' .* in its name"),
        ({"entries": {1: lambda n, s, b, l: (n, s + 1, b, l)}}, r"first '1.png' \(image 1\) in its size in bytes"),
        ({"entries": {3: lambda n, s, b, l: (n, s, b + np.float32(1e-5), l)}}, r"first '3.png' .* in its boxes or labels"),
        ({"entries": {0: lambda n, s, b, l: (n, s, b, 1 - l)}}, r"first '0.png' .* in its boxes or labels"),
        ({"entries": {0: lambda n, s, b, l: (n, s, b[:0], l[:0])}}, r"first '0.png' .* in its boxes or labels"),
        ({"entries": {0: lambda _, s, b, l: ("\udcff", s, b, l)}}, r"first .* in its name"),
    ],
)  # fmt: skip
def test_what_changed_is_named(changes: dict[str, Any], message: str) -> None:
    import re

    assert re.search(message, refused(listed(), listed(**changes)))


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    path = folder / "annotations" / "train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def permute_classes(folder: Path) -> None:
    def change(content: Any) -> None:
        names = [category["name"] for category in content["categories"]]
        for category, name in zip(content["categories"], names[1:] + names[:1], strict=True):
            category["name"] = name

    edit(folder, change)


def add_class(folder: Path) -> None:
    edit(folder, lambda content: content["categories"].append({"id": 99, "name": "new"}))


def move_box(folder: Path) -> None:
    edit(folder, lambda content: content["annotations"][0].update(bbox=[1, 1, 3, 3]))


def drop_image(folder: Path) -> None:
    def change(content: Any) -> None:
        gone = content["images"].pop()["id"]
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != gone]

    edit(folder, change)


def other_image(folder: Path) -> None:
    path = sorted((folder / "train").iterdir())[2]
    with Image.open(path) as image:
        Image.fromarray(np.zeros_like(np.asarray(image))).save(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (permute_classes, "its classes are in another order"),
        (add_class, "its classes are others .*new: 'new'"),
        (move_box, "in its boxes or labels"),
        (drop_image, "had 6 images and has 5"),
        (other_image, "in its size in bytes"),
    ],
)
def test_a_run_whose_data_changed_is_refused_and_kept(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    data = write_set(tmp_path / "set")
    settings = small_settings(data=str(data), train_length=None)
    train(settings, tmp_path / "run", stop_after=2)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    change(data)
    with pytest.raises(TrainingError, match=message):
        train(settings, tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_data_may_move(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    train(small_settings(data=str(data)), tmp_path / "run", stop_after=2)
    shutil.move(data, tmp_path / "elsewhere")
    train(small_settings(data=str(tmp_path / "elsewhere")), tmp_path / "run")


def test_data_without_objects_are_refused(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    edit(data, lambda content: content.update(annotations=[]))
    with pytest.raises(DataError, match="none of the 6 images has an object"):
        train(small_settings(data=str(data)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_set_on_disk_lists_its_entries(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    dataset = CocoDetection(data / "annotations" / "train.json", data / "train")
    found = digest(dataset)
    assert found["entries"].shape == (6, 3)
    assert found["entries"][:, 1].tolist() == [path.stat().st_size for path in sorted((data / "train").iterdir())]
