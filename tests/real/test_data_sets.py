"""``zoo data check`` on each real set: counts as their authors state them."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.data.check import check_dataset
from zoo.data.sheet import contact_sheet

pytestmark = pytest.mark.real

EXPECTED = {
    "tiny_coco": ("coco", 80, {"train2017": (50, 465, 5), "val2017": (50, 377, 5)}),
    "coco128_yolo": ("yolo", 80, {"train2017": (128, 929, 0)}),
    "bccd": (
        "voc",
        3,
        {"train": (205, 2805, 0), "val": (87, 1138, 0), "test": (72, 945, 0), "trainval": (292, 3943, 0)},
    ),
    "deeppcb": ("deeppcb", 6, {"trainval": (1000, 6873, 0), "test": (500, 3140, 0)}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_real_sets_are_understood(real_data: Path, tmp_path: Path, name: str) -> None:
    kind, classes, splits = EXPECTED[name]
    contents = check_dataset(real_data / name)
    assert contents.fine
    assert contents.found.format.name == kind
    assert len(contents.class_names) == classes
    assert {one.name: (one.images, sum(one.objects), one.crowds) for one in contents.splits} == splits
    assert contact_sheet(contents.datasets, tmp_path / "sheet.png").stat().st_size > 50_000
