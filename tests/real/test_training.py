"""``zoo train`` on every real set as it lies on the disk: read, learned from, measured, and written as a model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import zoo
from zoo.cli import main

pytestmark = pytest.mark.real

SETS = {
    "tiny_coco": (50, "train2017", 80),
    "coco128_yolo": (128, "train2017", 80),
    "bccd": (205, "train", 3),
    "deeppcb": (1000, "trainval", 6),
}


@pytest.mark.parametrize("name", SETS)
def test_twenty_steps(name: str, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, split, classes = SETS[name]
    with pytest.raises(SystemExit) as ended:
        main([
            "train", "spikeyolo-pico", "--data", str(real_data / name), "--out", str(tmp_path / "run"), "--steps", "20",
            "--batch-size", "4", "--image-size", "96", "--threads", "1",
            "--warmup-steps", "5", "--log-every", "1", "--workers", "2",
        ])  # fmt: skip
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert f"spikeyolo-pico on {images:,} images (split {split}) of {classes} classes" in printed.out
    table = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    losses = [sum(map(float, line.split(",")[2:5])) for line in table[1:]]
    assert len(losses) == 20
    assert all(math.isfinite(loss) for loss in losses)  # twenty steps are too few to say that it falls
    model = zoo.load(tmp_path / "run" / "model")
    assert len(model.class_names) == classes
    assert zoo.info(tmp_path / "run" / "model").name == f"spikeyolo-pico-{name.replace('_', '-')}"


def test_splits_by_name_and_fine_tuning(real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """COCO as downloaded: val2017 to train on, train2017 to measure on; the backbone comes from digits."""
    with pytest.raises(SystemExit) as ended:
        main([
            "train", "--from", "spikeyolo-digits", "--data", str(real_data / "tiny_coco"), "--out", str(tmp_path / "run"),
            "--split", "val2017", "--val-split", "train2017", "--steps", "2", "--batch-size", "2", "--image-size", "64",
            "--validate-every", "2", "--validate-length", "4", "--threads", "1",
        ])  # fmt: skip
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert "spikeyolo-pico on 50 images (split val2017) of 80 classes" in printed.out
    assert "mAP every 2 steps on 4 images (split train2017)" in printed.out
    assert "new: 84 tensors (head 84) (other classes: 80 in place of 10)" in printed.out
    assert len((tmp_path / "run" / "validation.csv").read_text().splitlines()) == 2
