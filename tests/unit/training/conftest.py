"""What the tests of training share: small settings, small data sets, and comparisons bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.training import TrainConfig, make_train_config


def small_settings(**changes: Any) -> TrainConfig:
    """Five steps on six generated images."""
    fields: dict[str, Any] = {
        "arch": "spikeyolo-pico",
        "image_size": 64,
        "train_length": 6,
        "batch_size": 2,
        "steps": 5,
        "warmup_steps": 2,
        "checkpoint_every": 2,
        "log_every": 1,
        "threads": 1,
    }
    return make_train_config(**(fields | changes))


RECEIVES_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""First line of programs that are interrupted: a shell lets its background jobs, and their children, ignore Ctrl-C."""


def same(one: Any, other: Any) -> bool:
    """Bit by bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def rows(folder: Path) -> list[list[str]]:
    """The table of metrics without the time, which differs between runs."""
    return [line.split(",")[:1] + line.split(",")[2:] for line in (folder / "metrics.csv").read_text().splitlines()]


def write_set(folder: Path, *, length: int = 6, classes: Sequence[str] | None = None, size: int = 64) -> Path:
    """Digits as a folder in COCO layout, with the splits train and test."""
    import json

    from zoo.data.coco import write_coco
    from zoo.data.digits import DigitsDetection

    for split in ("train", "test"):
        write_coco(DigitsDetection(split, length=length, image_size=size), folder / split, split=split)
    for split in ("train", "test"):
        (folder / "annotations").mkdir(exist_ok=True)
        content = json.loads((folder / split / "annotations" / f"{split}.json").read_text())
        if classes is not None:
            content["categories"] = [{"id": index, "name": name} for index, name in enumerate(classes, 1)]
            for annotation in content["annotations"]:
                annotation["category_id"] = 1 + (annotation["category_id"] - 1) % len(classes)
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
        for path in (folder / split / split).iterdir():
            path.rename(folder / split / path.name)
        for path in (folder / split / "annotations", folder / split / split):
            for inner in path.iterdir():
                inner.unlink()
            path.rmdir()
    return folder


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A small data set in COCO layout."""
    return write_set(tmp_path / "set")
