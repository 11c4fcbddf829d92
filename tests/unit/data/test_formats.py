"""Every layout is told from its content and gives the same boxes; unknown layouts and wrong entries are named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.data import sets
from tests.unit.data.sets import CLASSES, LAYOUTS, ONE_SPLIT, SPLITS, objects_of
from zoo.data import open_dataset
from zoo.data.faults import Report
from zoo.data.imageset import Contents, ImageEntry, ImageSet
from zoo.data.registry import UNSPLIT, ImageFormat, find_format, formats, register, unregister
from zoo.errors import DataError, DataWarning


def require_same(dataset: Any, split: str, *, names: Sequence[str] = CLASSES) -> None:
    """The set holds the images of a split with their objects."""
    assert tuple(dataset.class_names) == tuple(names)
    assert len(dataset) == SPLITS[split]
    for index in range(len(dataset)):
        sample = dataset[index]
        expected = objects_of(split, index)
        assert sample.image.shape == (60, 80, 3)
        assert sample.labels.tolist() == [list(names).index(CLASSES[label]) for label, _ in expected]
        np.testing.assert_allclose(sample.boxes, np.array([box for _, box in expected]).reshape(-1, 4), atol=1e-4)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_told_and_read(tmp_path: Path, name: str) -> None:
    write, kind, tested = LAYOUTS[name]
    write(tmp_path)
    found = find_format(tmp_path)
    assert found.format.name == kind
    assert found.others == ()
    for split in SPLITS if tested else ("train", "val"):
        require_same(open_dataset(tmp_path, split), split)
        require_same(open_dataset(str(tmp_path), split), split)
    require_same(open_dataset(tmp_path, None), "test" if tested else "val")
    require_same(open_dataset(tmp_path, "valid"), "val")
    with pytest.raises(DataError, match=r"there is no split 'night' in .*: there are "):
        open_dataset(tmp_path, "night")


@pytest.mark.parametrize("name", ONE_SPLIT)
def test_layouts_without_splits(tmp_path: Path, name: str) -> None:
    write, kind = ONE_SPLIT[name]
    write(tmp_path)
    found = find_format(tmp_path)
    assert (found.format.name, found.splits) == (kind, (UNSPLIT,))
    dataset = open_dataset(tmp_path, None)
    assert len(dataset) == sum(SPLITS.values())
    assert len(open_dataset(tmp_path, UNSPLIT)) == len(dataset)
    by_name = {sample.image_id: sample for sample in (dataset[index] for index in range(len(dataset)))}
    assert by_name["val_1"].labels.tolist() == [label for label, _ in objects_of("val", 1)]
    with pytest.raises(DataError, match="the set is not split; ask for 'all'"):
        open_dataset(tmp_path, "test")


def test_files_that_describe_a_set(tmp_path: Path) -> None:
    sets.ultralytics(tmp_path / "yolo")
    require_same(open_dataset(tmp_path / "yolo" / "data.yaml", "train"), "train")
    sets.coco_downloaded(tmp_path / "coco")
    (tmp_path / "coco" / "val.json").write_text(
        (tmp_path / "coco" / "annotations" / "instances_val2017.json").read_text().replace('"val_', '"val2017/val_')
    )
    require_same(open_dataset(tmp_path / "coco" / "val.json", None), "val")
    elsewhere = tmp_path / "my.yaml"
    elsewhere.write_text("path: yolo\ntrain: images/train\nval: images/val\nnames: [cat, dog, owl]\n")
    require_same(open_dataset(elsewhere, "val"), "val")
    elsewhere.write_text(f"path: {tmp_path / 'yolo'}\ntrain: [images/train, images/val]\nnames: [cat, dog, owl]\n")
    assert len(open_dataset(elsewhere, "train")) == SPLITS["train"] + SPLITS["val"]


def test_years_and_synonyms_of_splits(tmp_path: Path) -> None:
    sets.coco_downloaded(tmp_path)
    for name in ("train", "train2017", "training"):
        require_same(open_dataset(tmp_path, name), "train")
    for name in ("val", "val2017", "validation"):
        require_same(open_dataset(tmp_path, name), "val")
    annotations = tmp_path / "annotations"
    (annotations / "instances_train2014.json").write_text((annotations / "instances_train2017.json").read_text())
    with pytest.raises(DataError, match=r"the split 'train' of .* may be train2014 or train2017: name one of them"):
        open_dataset(tmp_path, "train")


def test_a_folder_with_two_formats(tmp_path: Path) -> None:
    sets.coco_images_split(tmp_path)
    for split in SPLITS:
        sets.write_labels(
            tmp_path / "labels" / split, split, [f"{split}_{index}.png" for index in range(SPLITS[split])]
        )
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog, owl]\n")
    found = find_format(tmp_path)
    assert (found.format.name, found.others) == ("coco", ("yolo",))
    assert isinstance(open_dataset(tmp_path, "val")[0].image_id, int)
    yolo = open_dataset(tmp_path, "val", format="yolo")
    require_same(yolo, "val")
    assert yolo[0].image_id == "val_0"
    with pytest.raises(DataError, match="there is no data format 'tfrecord'; there are gen1, coco, yolo"):
        find_format(tmp_path, "tfrecord")
    with pytest.raises(DataError, match="is not known"):
        open_dataset(tmp_path, "val", format="voc")


def test_an_unknown_layout_is_told_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "table.csv").write_text("image,x1\n")
    with pytest.raises(DataError) as raised:
        open_dataset(tmp_path, "train")
    text = str(raised.value)
    assert "is not known" in text
    assert "Found: 1 folder (shots), 1 .csv." in text
    for title in (
        "COCO: annotations/instances_SPLIT.json",
        "YOLO: data.yaml",
        "Pascal VOC: Annotations/*.xml",
        "_bbox.npy",
    ):
        assert title in text
    sets.write_images(tmp_path / "shots", "test")
    with pytest.raises(DataError, match=r"(?s)holds images without annotations.*Expected one of:.*COCO"):
        open_dataset(tmp_path, "train")
    images = open_dataset(tmp_path, None, annotated=False)
    assert (len(images), len(images.class_names)) == (2, 0)
    assert images[0].image_id == "shots/test_0.png"


def test_a_new_format_is_one_class(tmp_path: Path) -> None:
    @register
    class Toy(ImageFormat):
        """Lines IMAGE CLASS X1 Y1 X2 Y2."""

        name = "toy"
        title = "Toy"
        layout = "boxes.toy"

        def splits(self, root: Path) -> Sequence[str]:
            return [UNSPLIT] if (root / "boxes.toy").is_file() else []

        def read(self, root: Path, split: str, report: Report) -> Contents:
            lines = [line.split() for line in (root / "boxes.toy").read_text().splitlines()]
            names = sorted({words[1] for words in lines})
            report.notes.append(split)
            entries = []
            for number, (image, label, *corners) in enumerate(lines, 1):
                x1, y1, x2, y2 = map(float, corners)
                if x2 < x1:
                    report.faults.add(f"line {number}: x2 is smaller than x1")
                entries.append(ImageEntry(number, root / image, [(x1, y1, x2 - x1, y2 - y1)], [names.index(label)]))
            return Contents(names, entries, len(entries))

    try:
        Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
        (tmp_path / "boxes.toy").write_text("a.png owl 1 2 11 12\n")
        assert "toy" in [one.name for one in formats()]
        dataset = open_dataset(tmp_path, None)
        assert isinstance(dataset, ImageSet)
        assert dataset.class_names == ("owl",)
        assert dataset[0].boxes.tolist() == [[1, 2, 11, 12]]
        (tmp_path / "boxes.toy").write_text("a.png owl 9 2 1 12\n")
        with pytest.raises(DataError, match="line 1: x2 is smaller than x1"):
            open_dataset(tmp_path, None)
    finally:
        unregister("toy")
    assert "toy" not in [one.name for one in formats()]


# YOLO.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0.5 0.5 0.2 0.2", "the class is 3, and there are only 3, counted from 0"),
        ("-1 0.5 0.5 0.2 0.2", "the class is -1"),
        ("0.5 0.5 0.5 0.2 0.2", "a whole number in front"),
        ("0 0.5 0.5 0.2", "found 4 numbers"),
        ("0 0.5 0.5 0.2 0.2 0.9", "found 6 numbers"),
        ("cat 0.5 0.5 0.2 0.2", "expected CLASS CX CY W H, five numbers, found 'cat 0.5"),
        ("0 40 30 20 10", r"the box 40 30 20 10 reaches out of the image; numbers are shares of its sides, 0\.\.1"),
        ("0 0.5 0.5 -0.2 0.2", "reaches out"),
        ("0 nan 0.5 0.2 0.2", "finite numbers"),
        ("0 0.95 0.5 0.2 0.2", "reaches out"),
    ],
)
def test_wrong_lines_of_labels_are_named(tmp_path: Path, line: str, message: str) -> None:
    sets.ultralytics(tmp_path)
    path = tmp_path / "labels" / "train" / "train_1.txt"
    path.write_text(f"0 0.5 0.5 0.2 0.2\n\n{line}\n")
    with pytest.raises(DataError, match=rf"train_1\.txt, line 3: .*{message}"):
        open_dataset(tmp_path, "train")


def test_outlines_and_roundings_of_labels(tmp_path: Path) -> None:
    sets.ultralytics(tmp_path)
    path = tmp_path / "labels" / "train" / "train_0.txt"
    path.write_text("1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n2 0.1 0.1 0.2004 0.2\n1.0 0.5 0.5 0.1 0.1\n")
    sample = open_dataset(tmp_path, "train")[0]
    np.testing.assert_allclose(
        sample.boxes, np.array([[20, 15, 60, 45], [0, 0, 16.016, 12], [36, 27, 44, 33]]), atol=1e-3
    )
    assert sample.labels.tolist() == [1, 2, 1]
    (tmp_path / "data.yaml").write_text("train: images/train\nkpt_shape: [2, 2]\nnames: [cat, dog, owl]\n")
    for other in (tmp_path / "labels" / "train").glob("train_[12].txt"):
        other.unlink()
    path.write_text("1 0.5 0.5 0.5 0.5 0.1 0.1 0.2 0.2\n")
    assert open_dataset(tmp_path, "train")[0].boxes.tolist() == [[20, 15, 60, 45]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat\n", "is not YAML"),
        ("- a\n", "describes no set of images: it needs names, and train, val or test"),
        ("names: [cat]\n", "describes no set of images"),
        ("train: images/train\n", "describes no set of images"),
        ("train: images/train\nnames: {1: cat, 2: dog}\n", "names must have the numbers 0 to 1 as keys"),
        ("train: images/train\nnames: cat\n", "names must be a list of class names"),
        ("train: images/train\nnames: []\n", "names must be a list"),
        ("train: images/train\nnames: [cat, {}]\n", "names must be a list"),
        ("train: images/train\nnc: 5\nnames: [cat]\n", "nc is 5, and names has 1 entries"),
        ("train: 7\nnames: [cat]\n", "train must be a folder, a .txt list of images, or a list of these"),
        (
            "train: images/nowhere\nnames: [cat, dog, owl]\n",
            "the split train is 'images/nowhere', and there is no such folder",
        ),
        ("train: list.txt\nnames: [cat, dog, owl]\n", r"list\.txt, line 2: there is no image 'images/train/none\.png'"),
        ("train: !!python/object/apply:os.system [exit 1]\nnames: [cat]\n", "is not YAML"),
    ],
)
def test_wrong_yaml_is_named(tmp_path: Path, text: str, message: str) -> None:
    sets.ultralytics(tmp_path)
    (tmp_path / "list.txt").write_text("images/train/train_0.png\nimages/train/none.png\n")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path, "train")


def test_numbers_stand_for_classes_without_names(tmp_path: Path) -> None:
    """The largest number of all splits counts, so that all splits have the same classes."""
    sets.yolo_without_yaml(tmp_path)
    (tmp_path / "labels" / "classes.txt").unlink()
    (tmp_path / "labels" / "test" / "test_0.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    for split in SPLITS:
        dataset = open_dataset(tmp_path, split)
        assert isinstance(dataset, ImageSet)
        assert dataset.class_names == tuple("01234567")
        assert "they are called 0 to 7" in dataset.report.notes[0]


def test_no_labels_at_all_is_an_error(tmp_path: Path) -> None:
    sets.ultralytics(tmp_path)
    for path in (tmp_path / "labels" / "val").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no image has a file of labels; the first was expected at .*val_0\.txt"):
        open_dataset(tmp_path, "val")


def test_images_that_share_their_name_have_ids_of_their_own(tmp_path: Path) -> None:
    sets.ultralytics(tmp_path)
    Image.new("RGB", (80, 60)).save(tmp_path / "images" / "val" / "val_0.jpg")
    dataset = open_dataset(tmp_path, "val")
    assert [dataset[index].image_id for index in range(4)] == ["val_0.jpg", "val_0.png", "val_1", "val_2"]


# Pascal VOC.


def voc_set(folder: Path, xml: str) -> Path:
    sets.labelimg(folder)
    (folder / "Annotations" / "train_1.xml").write_text(xml)
    return folder


def annotation(objects: str, *, size: str = "<width>80</width><height>60</height>", more: str = "") -> str:
    return f"<annotation>{more}<filename>train_1.png</filename><size>{size}</size>{objects}</annotation>"


def item(name: str = "cat", corners: str = "1 2 30 40", more: str = "") -> str:
    x1, y1, x2, y2 = corners.split()
    return (
        f"<object><name>{name}</name>{more}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
        "</object>"
    )


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation><object>", r"train_1\.xml is not an XML file of annotations"),
        ("", r"train_1\.xml is not an XML file of annotations"),
        (
            annotation(item(corners="x 2 30 40")),
            r"train_1\.xml, object 1: bndbox/xmin is 'x', and must be a number of pixels",
        ),
        (annotation(item() + item(corners="1 2 nan 40")), r"object 2: bndbox/xmax is 'nan'"),
        (annotation("<object><name>cat</name></object>"), r"object 1: bndbox/xmin is ''"),
        (annotation(item(corners="30 2 1 40")), "object 1: the box 30, 2, 1, 40 has its corners the wrong way round"),
        (annotation(item(name="")), "object 1: it has no name"),
        (
            annotation(item(), size="<width>81</width><height>60</height>"),
            r"the annotations say 81x60 pixels .* has 80x60",
        ),
        (annotation(item(), size="<width>many</width><height>60</height>"), "size/width is 'many'"),
        (
            '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><annotation><filename>&y;</filename></annotation>',
            "is not an XML file of annotations: EntitiesForbidden",
        ),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>',
            "is not an XML file of annotations: EntitiesForbidden",
        ),
    ],
)
def test_wrong_xml_is_named(tmp_path: Path, xml: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(voc_set(tmp_path, xml), None)


def test_difficult_objects_are_neither_learned_nor_counted(tmp_path: Path) -> None:
    folder = voc_set(tmp_path, annotation(item() + item("dog", "5 6 20 30", "<difficult>1</difficult>")))
    dataset = open_dataset(folder, None)
    assert isinstance(dataset, ImageSet)
    sample = next(dataset[index] for index in range(len(dataset)) if dataset.truth.image_ids[index] == "train_1")
    assert sample.boxes.tolist() == [[1, 2, 30, 40]]
    assert dataset.truth.crowd.sum() == 1
    assert dataset.report.notes == ["1 object marked as difficult: neither learned nor counted"]


def test_parts_are_not_objects_and_voc_classes_have_vocs_order(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    for name in ("train", "val", "test"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (80, 60)).save(tmp_path / name / "a.jpg")
        (tmp_path / name / "a.xml").write_text(annotation(item("person", more=part) + item("aeroplane")))
    dataset = open_dataset(tmp_path, "val")
    assert len(dataset.class_names) == 20
    assert dataset[0].labels.tolist() == [14, 0]


def test_a_listed_image_without_annotations_is_named(tmp_path: Path) -> None:
    sets.voc(tmp_path)
    (tmp_path / "VOCdevkit" / "VOC2012" / "Annotations" / "val_1.xml").unlink()
    with pytest.raises(DataError, match=r"val_1\.xml: there is no such file of annotations"):
        open_dataset(tmp_path, "val")


# What every format shares.


@pytest.mark.parametrize("name", LAYOUTS)
def test_unreadable_images_are_left_out_with_a_warning(tmp_path: Path, name: str) -> None:
    LAYOUTS[name][0](tmp_path)
    first = next(path for path in sorted(tmp_path.rglob("val_0.*")) if path.suffix in {".png", ".jpg"})
    first.write_bytes(first.read_bytes()[:100])
    with pytest.warns(DataWarning, match=r"left out: .*val_0\.\w+: cannot be read as an image: "):
        dataset = open_dataset(tmp_path, "val")
    assert len(dataset) == SPLITS["val"] - 1
    assert isinstance(dataset, ImageSet)
    assert len(dataset.skipped) == 1
    assert [len(dataset[index].labels) for index in range(2)] == [2, 0]


def test_names_that_only_look_like_images(tmp_path: Path) -> None:
    sets.ultralytics(tmp_path)
    (tmp_path / "images" / "val" / "._val_0.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "images" / "val" / "x.jpg").mkdir()
    with pytest.warns(
        DataWarning, match=r"\._val_0\.png: is a file that macOS keeps beside an image.*; .*x\.jpg: is a folder"
    ):
        dataset = open_dataset(tmp_path, "val")
    require_same(dataset, "val")


def test_where_no_image_can_be_read_is_an_error(tmp_path: Path) -> None:
    sets.ultralytics(tmp_path)
    for path in (tmp_path / "images" / "val").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"holds no image that can be read\. left out: .*val_0\.png"):
        open_dataset(tmp_path, "val")


def test_opening_decodes_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.ultralytics(tmp_path)

    def decode(*_: Any) -> Any:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(Image.Image, "convert", decode)
    monkeypatch.setattr(Image.Image, "getdata", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    assert len(open_dataset(tmp_path, "train")) == 4


def test_entries_are_listed_without_reading_images(tmp_path: Path) -> None:
    """What the digest of a training run needs."""
    sets.ultralytics(tmp_path)
    dataset = open_dataset(tmp_path, "val")
    assert isinstance(dataset, ImageSet)
    for index, (name, size, boxes, labels) in enumerate(dataset.entries()):
        assert name == f"images/val/val_{index}.png"
        assert size == (tmp_path / name).stat().st_size
        assert np.array_equal(boxes, dataset[index].boxes)
        assert np.array_equal(labels, dataset[index].labels)
    dataset.paths[0].unlink()
    assert next(dataset.entries())[1] == -1


def test_truth_as_a_coco_file_is_read_back(tmp_path: Path) -> None:
    sets.voc(tmp_path)
    dataset = open_dataset(tmp_path, "val")
    assert isinstance(dataset, ImageSet)
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "annotations").mkdir()
    names = [path.name for path in dataset.paths]
    content = dataset.truth.to_coco(dataset.class_names, names)
    (tmp_path / "coco" / "annotations" / "val.json").write_text(json.dumps(content))
    (tmp_path / "coco" / "val").symlink_to(dataset.paths[0].parent)
    require_same(open_dataset(tmp_path / "coco", "val"), "val")


def test_deeppcb(tmp_path: Path) -> None:
    inner = tmp_path / "PCBData" / "group1"
    (inner / "1").mkdir(parents=True)
    (inner / "1_not").mkdir()
    for name in ("10", "11"):
        Image.new("L", (64, 64)).save(inner / "1" / f"{name}_test.jpg")
        Image.new("L", (64, 64)).save(inner / "1" / f"{name}_temp.jpg")
        (inner / "1_not" / f"{name}.txt").write_text("1 2 30 40 1\n5 6 20 30 6\n")
    (tmp_path / "PCBData" / "trainval.txt").write_text("group1/1/10.jpg group1/1_not/10.txt\n")
    (tmp_path / "PCBData" / "test.txt").write_text("group1/1/11.jpg group1/1_not/11.txt\n")
    dataset = open_dataset(tmp_path, "test")
    assert dataset.class_names[5] == "pin-hole"
    assert dataset[0].boxes.tolist() == [[1, 2, 30, 40], [5, 6, 20, 30]]
    assert dataset[0].labels.tolist() == [0, 5]
    (inner / "1_not" / "11.txt").write_text("1 2 30 40 7\n")
    with pytest.raises(
        DataError, match=r"11\.txt, line 1: expected x1 y1 x2 y2 and a type of 1 to 6, found '1 2 30 40 7'"
    ):
        open_dataset(tmp_path, "test")
