"""The digits set: determined by its arguments, honest about train and test, with boxes that are tight."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data import Sample, open_dataset
from zoo.data.digits import DigitsDetection, scan_indices
from zoo.data.textures import TEST_TEXTURES, TRAIN_TEXTURES
from zoo.errors import DataError


def test_a_picture_depends_on_split_seed_index_and_size_alone() -> None:
    short, long = DigitsDetection("train", length=5), DigitsDetection("train", length=500)
    for index in (4, 0, 2):
        one, other = short[index], long[index]
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.labels, other.labels)
    different = [
        DigitsDetection("test", length=5)[0],
        DigitsDetection("train", length=5, seed=1)[0],
        short[1],
    ]
    assert all(not np.array_equal(short[0].image, sample.image) for sample in different)


def test_train_and_test_share_no_scan_and_no_texture() -> None:
    train, test = set(scan_indices("train")), set(scan_indices("test"))
    assert not train & test
    assert len(train | test) == 1797
    assert not set(TRAIN_TEXTURES) & set(TEST_TEXTURES)


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_hold_what_is_promised(split: str) -> None:
    dataset = open_dataset("digits", split, length=150)
    labels, heights, counts = [], [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        assert isinstance(sample, Sample)
        assert sample.image.shape == (96, 96, 3)
        assert sample.image.dtype == np.uint8
        boxes = sample.boxes
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= 96).all()
        for i, a in enumerate(boxes):  # no two digits overlap
            for b in boxes[i + 1 :]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        labels += sample.labels.tolist()
        heights += (boxes[:, 3] - boxes[:, 1]).tolist()
        counts.append(len(boxes))
    assert set(labels) == set(range(10))
    assert min(heights) > 8
    assert max(heights) > 38
    assert set(counts) == {1, 2, 3, 4, 5, 6}


def test_boxes_enclose_the_ink_tightly() -> None:
    """Drawn on nothing but one colour, what differs from it must reach all four sides of the box and not beyond."""
    dataset = DigitsDetection("test", length=40)
    for index in range(40):
        rng = np.random.default_rng(index)
        canvas = np.full((96, 96, 3), 0.5, np.float32)
        boxes, _ = dataset._draw_digits(canvas, rng)
        ink = np.abs(canvas - 0.5).max(-1) > 0.01
        for x1, y1, x2, y2 in boxes:
            inside = ink[y1:y2, x1:x2]
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
            ink[y1:y2, x1:x2] = False
        assert not ink.any()


def test_other_sizes() -> None:
    sample = DigitsDetection("test", length=3, image_size=(64, 160))[2]
    assert sample.image.shape == (64, 160, 3)


@pytest.mark.parametrize("arguments", [{"split": "val"}, {"length": 0}, {"seed": -1}, {"image_size": 8}])
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(DataError):
        DigitsDetection(**{"split": "train", "length": 3, **arguments})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no data set"):
        open_dataset("no-such-folder", "test")
