"""Wrong entries of COCO files: ids of two kinds, missing and null fields, names that lead away, images of other sizes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zoo.data import open_dataset
from zoo.data.coco import CocoDetection
from zoo.errors import DataError, DataWarning

GOOD: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a/1.png", "width": 30, "height": 20},
        {"id": 2, "file_name": "b/1.png", "width": 30, "height": 20},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 5], "area": 50, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [3, 4, 5, 6], "area": 30, "iscrowd": 0},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (30, 20), colour).save(tmp_path / "test" / name / "1.png")
    (tmp_path / "annotations").mkdir()
    return tmp_path


def written(folder: Path, **changes: Any) -> Path:
    """Change entries of the good file: ``images__0__file_name=None``, or whole lists."""
    content = copy.deepcopy(GOOD)
    for key, value in changes.items():
        place, *rest = key.split("__")
        if not rest:
            content[place] = value
            continue
        entry = content[place][int(rest[0])]
        if value is ...:
            del entry[rest[1]]
        else:
            entry[rest[1]] = value
    (folder / "annotations" / "test.json").write_text(json.dumps(content))
    return folder


def test_folders_in_file_names_are_kept(folder: Path) -> None:
    dataset = open_dataset(written(folder), "test")
    assert dataset[0].image[0, 0].tolist() == [255, 0, 0]  # type: ignore[union-attr]
    assert dataset[1].image[0, 0].tolist() == [0, 0, 255]  # type: ignore[union-attr]
    windows = open_dataset(written(folder, images__1__file_name="b\\1.png"), "test")
    assert windows[1].image[0, 0].tolist() == [0, 0, 255]  # type: ignore[union-attr]
    inside = open_dataset(written(folder, images__1__file_name="a/../b/1.png"), "test")
    assert inside[1].image[0, 0].tolist() == [0, 0, 255]  # type: ignore[union-attr]
    absolute = open_dataset(written(folder, images__1__file_name=str(folder / "test" / "b" / "1.png")), "test")
    assert absolute[1].image[0, 0].tolist() == [0, 0, 255]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["../../outside.png", "/etc/passwd", "a/../../../outside.png"])
def test_what_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    Image.new("RGB", (30, 20)).save(folder.parent / "outside.png")
    with pytest.raises(DataError, match=r"images\[1\]: file_name .* leads out of the folder"):
        open_dataset(written(folder, images__1__file_name=name), "test")


def test_names_of_the_whole_set_are_found_from_its_top(folder: Path) -> None:
    changed = written(folder, images__0__file_name="test/a/1.png", images__1__file_name="test/b/1.png")
    assert len(open_dataset(changed, "test")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images__1__id": "2"}, r'images\[1\]: id is "2", while other ids in this file are numbers'),
        ({"images__0__id": None}, r"images\[0\]: id is null, and must be a whole number or text"),
        ({"images__0__id": 1.5}, r"images\[0\]: id is 1.5"),
        ({"images__0__id": True}, r"images\[0\]: id is true"),
        ({"images__0__id": ...}, r"images\[0\]: it has no id"),
        ({"images__1__id": 1}, r"images\[1\]: the id 1 is in use already, for a/1.png"),
        ({"images__0__file_name": None}, r"images\[0\] \(id 1\): file_name is null"),
        ({"images__0__file_name": ""}, r"images\[0\] \(id 1\): file_name is \"\""),
        ({"images__0__file_name": ["a"]}, r"file_name is \[\"a\"\]"),
        ({"images__0__file_name": "a\0b"}, r"images\[0\] \(id 1\): file_name is"),
        ({"images__0__file_name": "a/none.png"}, r"images\[0\]: there is no image .*none\.png"),
        ({"images__0__width": 31}, r"images\[0\]: the annotations say 31x20 pixels .* and .*a/1\.png has 30x20"),
        ({"images__0__width": 20, "images__0__height": 30}, r"20x30 .* has 30x20; .* before its EXIF rotation"),
        ({"images__0__width": "30"}, r"height and width are 20 and \"30\", and must be numbers of pixels"),
        ({"images__0__width": ...}, r"height and width are 20 and null"),
        ({"images": [GOOD["images"][0], None]}, r"images\[1\]: expected an object with fields, found null"),
        ({"images": [GOOD["images"][0], "x"]}, r"images\[1\]: expected an object with fields, found \"x\""),
        ({"images": []}, "images: the list is empty"),
        ({"annotations__1__image_id": "2"}, r'annotations\[1\] \(id 2\): image_id is "2", while other ids in this'),
        ({"annotations__1__image_id": None}, r"annotations\[1\] \(id 2\): image_id is null"),
        ({"annotations__1__image_id": ...}, r"annotations\[1\] \(id 2\): it has no image_id"),
        ({"annotations__1__image_id": [2]}, r"annotations\[1\] \(id 2\): image_id is \[2\]"),
        ({"annotations__1__id": 1}, r"annotations\[1\] \(id 1\): its id is in use already"),
        ({"annotations__1__id": None}, r"annotations\[1\]: id is null"),
        ({"annotations__1__category_id": 3}, r"annotations\[1\] \(id 2\): category_id is 3, which is not among the categories"),
        ({"annotations__1__category_id": None}, r"category_id is null"),
        ({"annotations__1__category_id": ...}, r"category_id is null"),
        ({"annotations__1__category_id": {}}, r"category_id is \{\}"),
        ({"annotations__1__bbox": ...}, r"annotations\[1\] \(id 2\): bbox is null, and must be \[left, top, width, height\]"),
        ({"annotations__1__bbox": [1, 2, 3]}, r"bbox is \[1, 2, 3\]"),
        ({"annotations__1__bbox": [1, 2, -3, 4]}, r"bbox is \[1, 2, -3, 4\]"),
        ({"annotations__1__bbox": [1, 2, float("nan"), 4]}, r"bbox is \[1, 2, NaN, 4\]"),
        ({"annotations__1__bbox": [1, 2, "3", 4]}, r"bbox is"),
        ({"annotations__1__bbox": [1, 2, 10**400, 4]}, r"bbox is"),
        ({"annotations__1__area": "many"}, r"area is \"many\""),
        ({"annotations__1__area": -1}, r"area is -1"),
        ({"annotations__1__iscrowd": 2}, r"iscrowd is 2, and must be 0 or 1"),
        ({"annotations": [None, GOOD["annotations"][0]]}, r"annotations\[0\]: expected an object with fields, found null"),
        ({"annotations": [7]}, r"annotations\[0\]: expected an object with fields, found 7"),
        ({"categories": []}, "categories: the list is empty"),
        ({"categories": [None]}, r"categories\[0\]: expected an object"),
        ({"categories__0__name": None}, r"categories\[0\]: name is null, and must be text"),
        ({"categories__1__id": 1}, r"categories\[1\]: the id 1 is in use already"),
        ({"categories__1__id": "2"}, r"categories\[1\]: id is \"2\", while other ids"),
        (
            {"annotations__0__image_id": 8, "annotations__1__image_id": 9},
            r"none is for an image of this file; the first, annotations\[0\] \(id 1\) is for image 8",
        ),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(written(folder, **changes), "test")


def test_the_first_of_many_wrong_entries_are_named_and_the_rest_counted(folder: Path) -> None:
    annotations = [{**GOOD["annotations"][0], "id": number, "bbox": None} for number in range(1, 13)]
    with pytest.raises(DataError, match=r"^12 wrong entries:\n(  - .*bbox is null.*\n){5}  - and 7 more$"):
        open_dataset(written(folder, annotations=annotations), "test")


def test_annotations_of_unknown_images_are_said(folder: Path) -> None:
    with pytest.warns(
        DataWarning, match=r"1 annotation of 2 for images that are not in this file; the first, annotations\[1\]"
    ):
        dataset = open_dataset(written(folder, annotations__1__image_id=3), "test")
    assert [len(dataset[index].labels) for index in range(2)] == [1, 0]


def test_text_ids_work_as_in_pycocotools(folder: Path) -> None:
    changed = written(
        folder, images__0__id="x", images__1__id="k", annotations__0__image_id="x", annotations__1__image_id="k"
    )
    dataset = open_dataset(changed, "test")
    assert [dataset[index].image_id for index in range(2)] == ["k", "x"]
    assert [dataset[index].labels.tolist() for index in range(2)] == [[1], [0]]
    numbers = open_dataset(written(folder, images__0__id=1.0, annotations__0__image_id=1.0), "test")
    assert numbers[0].image_id == 1


def test_optional_fields_may_be_missing(folder: Path) -> None:
    changes = {f"annotations__{n}__{key}": ... for n in (0, 1) for key in ("id", "area", "iscrowd")}
    changes |= {f"images__{n}__{key}": ... for n in (0, 1) for key in ("width", "height")}
    dataset = CocoDetection(written(folder, **changes) / "annotations" / "test.json", folder / "test")
    assert dataset.truth.areas.tolist() == [50, 30]
    assert dataset.truth.sizes.tolist() == [[20, 30], [20, 30]]


def test_boxes_over_the_border_are_clipped_for_training_only(folder: Path) -> None:
    changed = written(folder, annotations__0__bbox=[-2, 15, 10, 9], annotations__1__bbox=[40, 4, 5, 6])
    dataset = CocoDetection(changed / "annotations" / "test.json", folder / "test")
    assert dataset[0].boxes.tolist() == [[0, 15, 8, 20]]
    assert len(dataset[1].boxes) == 0
    assert dataset.truth.xywh.tolist() == [[-2, 15, 10, 9], [40, 4, 5, 6]]


def test_outlines_are_not_kept_and_other_keys_do_not_matter(folder: Path) -> None:
    changes = {
        "annotations__0__segmentation": [[1, 2, 3, 4, 5, 6]],
        "info": {"year": 2017},
        "annotations__0__extra": None,
    }
    assert len(open_dataset(written(folder, **changes), "test")) == 2


def test_roboflows_root_category_is_left_out(folder: Path) -> None:
    categories = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "animals"},
        {"id": 2, "name": "dog", "supercategory": "animals"},
    ]
    assert open_dataset(written(folder, categories=categories), "test").class_names == ("cat", "dog")
    used = written(folder, categories=categories, annotations__0__category_id=0)
    assert open_dataset(used, "test").class_names == ("animals", "cat", "dog")
    alone = [{**one, "supercategory": "none"} for one in categories]
    assert len(open_dataset(written(folder, categories=alone), "test").class_names) == 3


def test_a_folder_is_used_whole(tmp_path: Path) -> None:
    """The case of the report: 520 images."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    for number in range(520):
        Image.new("L", (8, 8)).save(tmp_path / "val" / f"{number}.png")
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(520)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [1, 1, 5, 5]} for number in range(520)
        ],
    }
    (tmp_path / "annotations" / "val.json").write_text(json.dumps(content))
    assert len(open_dataset(tmp_path, "val")) == 520
    assert len(open_dataset(tmp_path, None)) == 520
    assert len(open_dataset(tmp_path, "val", length=20)) == 20
