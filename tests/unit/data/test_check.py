"""``zoo data check``: what it says of sets in every layout, of wrong entries, and of images that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.unit.data import sets
from tests.unit.data.sets import LAYOUTS, ONE_SPLIT, SPLITS, objects_of
from zoo.cli import main
from zoo.data.check import check_dataset
from zoo.data.sheet import COLUMNS, SIDE, class_colour, contact_sheet
from zoo.errors import InvalidInputError


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in ("data", "check", *arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("name", [*LAYOUTS, *ONE_SPLIT])
def test_every_layout_is_understood(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write, kind = (LAYOUTS | ONE_SPLIT)[name][:2]
    write(tmp_path / "set")
    assert run(tmp_path / "set", "--out", tmp_path / "sheet.png", "--json", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["format"] == kind
    assert found["fine"]
    assert [one["name"] for one in found["classes"]] == ["cat", "dog", "owl"]
    plain = {"valid": "val", "train2017": "train", "val2017": "val"}
    for split in found["splits"]:
        names = SPLITS if split["name"] == "all" else [plain.get(split["name"], split["name"])]
        assert split["images"] == sum(SPLITS[one] for one in names)
        assert split["images_without_objects"] == len(names)
        assert split["objects"] == sum(len(objects_of(one, index)) for one in names for index in range(SPLITS[one]))
        assert split["image_sizes"]["median"] == [60, 80]
        assert split["wrong_entries"]["count"] == 0
    text = capsys.readouterr().out
    assert "80x60" in text
    assert "owl" in text
    assert f"contact sheet: {tmp_path / 'sheet.png'}" in text


def test_a_sheet_shows_boxes(tmp_path: Path) -> None:
    sets.ultralytics(tmp_path / "set")
    contents = check_dataset(tmp_path / "set", "train")
    contact_sheet(contents.datasets, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 4 * SIDE
        colours = {colour for _, colour in sheet.getcolors(10**6) or []}
    assert {class_colour(label) for label in range(3)} <= colours
    contact_sheet(check_dataset(tmp_path / "set").datasets, tmp_path / "all.jpg")
    with Image.open(tmp_path / "all.jpg") as sheet:
        assert sheet.width == COLUMNS * SIDE
    with pytest.raises(InvalidInputError, match="no image to show"):
        contact_sheet([], tmp_path / "none.png")


def test_wrong_entries_are_shown_and_the_exit_code_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets.ultralytics(tmp_path)
    (tmp_path / "labels" / "val" / "val_0.txt").write_text("9 0.5 0.5 0.1 0.1\n" * 12)
    assert run(tmp_path) == 1
    text = capsys.readouterr().out
    assert "val: 12 wrong entries, first:" in text
    assert "val_0.txt, line 5: the class is 9, and there are only 3" in text
    assert "line 6" not in text
    assert run(tmp_path, "--split", "train") == 0


def test_one_broken_split_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets.coco_images_split(tmp_path)
    (tmp_path / "annotations" / "val.json").write_text("{")
    assert run(tmp_path, "--json", tmp_path / "found.json") == 1
    found = {split["name"]: split for split in json.loads((tmp_path / "found.json").read_text())["splits"]}
    assert found["train"]["images"] == 4
    assert "is not a COCO annotation file" in found["val"]["wrong_entries"]["first"][0]
    assert "val: 1 wrong entries" in capsys.readouterr().out


def test_images_that_cannot_be_read_are_left_out_and_the_exit_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets.ultralytics(tmp_path)
    folder = tmp_path / "images" / "train"
    whole = (folder / "train_0.png").read_bytes()
    (folder / "train_0.png").write_bytes(whole[:100])
    # a damaged checksum in the middle, which only decoding finds
    place = whole.index(b"IDAT") + 8
    (folder / "train_1.png").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    (folder / "x.jpg").mkdir()
    (folder / "._y.jpg").write_bytes(b"\0")
    assert run(tmp_path) == 1
    text = capsys.readouterr().out
    for name in ("train_0.png", "train_1.png", "x.jpg: is a folder", "._y.jpg: is a file that macOS keeps"):
        assert name in text
    assert run(tmp_path, "--quick", "--json", tmp_path / "quick.json") == 1
    left = json.loads((tmp_path / "quick.json").read_text())["splits"]
    assert len(next(split for split in left if split["name"] == "train")["left_out"]) == 3


def test_bad_input_has_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere") == 2
    assert "there is no data set" in capsys.readouterr().err
    (tmp_path / "table.csv").write_text("x")
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert "Found: 1 .csv." in error
    assert "Expected one of:" in error
    sets.darknet(tmp_path / "set")
    assert run(tmp_path / "set", "--split", "test") == 2
    assert run(tmp_path / "set", "--out", tmp_path / "sheet.xyz") == 2
    assert "cannot write an image as .xyz" in capsys.readouterr().err
    assert run(tmp_path / "set", "--format", "voc") == 2


def test_class_names_are_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets.ultralytics(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: ['[/x]', '[bold]dog', '\u732b']\n")
    assert run(tmp_path, "--out", tmp_path / "sheet.png") == 0
    text = capsys.readouterr().out
    assert "[/x]" in text
    assert "[bold]dog" in text


def test_splits_with_other_classes_are_named(tmp_path: Path) -> None:
    sets.coco_images_split(tmp_path)
    path = tmp_path / "annotations" / "val.json"
    content: dict[str, Any] = json.loads(path.read_text())
    content["categories"][0]["name"] = "puma"
    path.write_text(json.dumps(content))
    faults = [fault for split in check_dataset(tmp_path).splits for fault in split.faults.first]
    assert len(faults) == 1
    assert "has other classes than another split" in faults[0]


def test_a_folder_of_images_says_what_else_it_holds(tmp_path: Path) -> None:
    sets.write_images(tmp_path, "train")
    (tmp_path / "boxes.csv").write_text("x")
    contents = check_dataset(tmp_path)
    assert contents.found.format.name == "images"
    assert "no annotations that are known here" in contents.splits[0].notes[0]
    assert "1 .csv" in contents.splits[0].notes[0]
