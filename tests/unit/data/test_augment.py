"""Boxes stay on their objects under every augmentation: coloured rectangles are found again where the boxes say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from zoo.config import Augmentation
from zoo.data.augment import Augmenter, Pixels, clip_boxes, crop, letterbox, warp, warp_boxes
from zoo.data.sample import Sample

COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)


def rectangles(index: int, *, least: int = 24) -> Sample:
    """Three coloured rectangles that do not overlap, on black, in an image of random size."""
    rng = np.random.default_rng(index)
    height, width = (int(n) for n in rng.integers(160, 420, 2))
    image = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for label in range(3):
        third = width // 3
        wide, tall = (int(n) for n in rng.integers(least, 48, 2))
        left = label * third + int(rng.integers(0, third - wide))
        top = int(rng.integers(0, height - tall))
        image[top : top + tall, left : left + wide] = COLOURS[label]
        boxes.append([left, top, left + wide, top + tall])
    return Sample(image, np.array(boxes, np.float32), np.arange(3), index)


def extent(image: Pixels, label: int, box: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Bounding box of the pixels of a colour near a box."""
    others = [c for c in range(3) if c != label]
    pure = (image[..., label].astype(int) - image[..., others].max(-1)) > 100
    x1, y1, x2, y2 = (int(n) for n in (*np.floor(box[:2] - 4).clip(0), *np.ceil(box[2:] + 4)))
    rows, columns = np.nonzero(pure[y1:y2, x1:x2])
    assert len(rows), f"no pixel of colour {label} within {box}"
    return np.array([x1 + columns.min(), y1 + rows.min(), x1 + columns.max() + 1, y1 + rows.max() + 1])


def draw(augmentation: Augmentation, index: int, seed: int, size: tuple[int, int] = (192, 256)) -> Sample:
    return Augmenter(augmentation, size, rectangles, 50)(rectangles(index), np.random.default_rng(seed))


@given(
    index=st.integers(0, 49),
    seed=st.integers(0, 10**6),
    flips=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    scale=st.floats(0, 0.5),
    translate=st.floats(0, 0.3),
)
@settings(max_examples=60, deadline=None)
def test_boxes_are_tight_without_rotation(
    index: int, seed: int, flips: tuple[float, float], scale: float, translate: float
) -> None:
    sample = draw(
        Augmentation(flip_horizontal=flips[0], flip_vertical=flips[1], scale=scale, translate=translate), index, seed
    )
    assert sample.image.shape == (192, 256, 3)
    for box, label in zip(sample.boxes, sample.labels, strict=True):
        assert np.abs(extent(sample.image, int(label), box) - box).max() <= 1.5


@given(index=st.integers(0, 49), seed=st.integers(0, 10**6), degrees=st.floats(0, 45), shear=st.floats(0, 15))
@settings(max_examples=60, deadline=None)
def test_boxes_enclose_rotated_objects(index: int, seed: int, degrees: float, shear: float) -> None:
    sample = draw(Augmentation(degrees=degrees, shear=shear, scale=0.2), index, seed)
    for box, label in zip(sample.boxes, sample.labels, strict=True):
        found = extent(sample.image, int(label), box)
        assert (found[:2] >= box[:2] - 1.5).all()
        assert (found[2:] <= box[2:] + 1.5).all()


@given(index=st.integers(0, 49), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_mosaic_keeps_boxes_on_objects(index: int, seed: int) -> None:
    sample = draw(Augmentation(mosaic=1.0, flip_horizontal=0.5, scale=0.3), index, seed)
    for box, label in zip(sample.boxes, sample.labels, strict=True):
        assert np.abs(extent(sample.image, int(label), box) - box).max() <= 2.0


def test_mosaic_holds_objects_of_several_images() -> None:
    counts = [len(draw(Augmentation(mosaic=1.0), index, index).boxes) for index in range(20)]
    assert max(counts) > 3  # one image has three


@given(index=st.integers(0, 49), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_crops_keep_resolution_and_boxes(index: int, seed: int) -> None:
    original = rectangles(index)
    part = crop(original, 96, np.random.default_rng(seed))
    assert part.image.shape == (96, 96, 3)
    for box, label in zip(part.boxes, part.labels, strict=True):
        assert np.array_equal(extent(part.image, int(label), box), box)
    assert set(np.unique(part.image)) <= {0, 255}  # nothing was resampled


def test_mixup_holds_the_objects_of_both() -> None:
    sample = draw(Augmentation(mixup=1.0), 3, 1)
    assert sorted(sample.labels) == [0, 0, 1, 1, 2, 2]


def test_colour_and_noise_leave_boxes_alone() -> None:
    plain = draw(Augmentation(), 5, 2)
    changed = draw(Augmentation(hue=0.1, saturation=0.6, brightness=0.6, noise=20.0), 5, 2)
    assert np.array_equal(plain.boxes, changed.boxes)
    assert not np.array_equal(plain.image, changed.image)


def test_without_settings_the_image_is_letterboxed_only() -> None:
    sample = rectangles(7)
    plain = draw(Augmentation(), 7, 0)
    expected = warp(sample, letterbox(sample.size, (192, 256)), (192, 256))
    assert np.array_equal(plain.image, expected.image)
    assert len(plain.boxes) == 3
    assert Augmentation().changes_nothing
    assert not Augmentation(noise=1.0).changes_nothing


def test_identity_does_not_resample() -> None:
    sample = rectangles(1)
    same = warp(sample, np.eye(3), sample.size)
    assert np.array_equal(same.image, sample.image)
    assert np.array_equal(same.boxes, sample.boxes)


@pytest.mark.parametrize("size", [(61, 40), (20, 31)])
def test_strong_reduction_averages_pixels(size: tuple[int, int]) -> None:
    """A chequerboard of single pixels becomes grey, not black or white."""
    board = (np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)
    sample = Sample(np.repeat(board[..., None], 3, 2), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 0)
    inner = warp(sample, letterbox((400, 400), size), size).image[size[0] // 2, size[1] // 2]
    assert (np.abs(inner.astype(int) - 127) < 40).all()


def test_the_generator_alone_decides() -> None:
    everything = Augmentation(
        mosaic=0.5,
        mixup=0.5,
        degrees=10.0,
        translate=0.1,
        scale=0.3,
        shear=2.0,
        flip_horizontal=0.5,
        hue=0.05,
        noise=3.0,
    )
    one, two, other = draw(everything, 4, 9), draw(everything, 4, 9), draw(everything, 4, 10)
    assert np.array_equal(one.image, two.image)
    assert np.array_equal(one.boxes, two.boxes)
    assert not np.array_equal(one.image, other.image)


def test_boxes_that_leave_the_image_are_dropped() -> None:
    boxes = np.array([[-30, 0, 10, 10], [-30, 0, 1, 10], [90, 90, 101, 101], [200, 200, 210, 210]], np.float32)
    clipped, kept = clip_boxes(boxes, (0.0, 0.0, 100.0, 100.0))
    assert kept.tolist() == [0, 2]
    assert clipped.tolist() == [[0, 0, 10, 10], [90, 90, 100, 100]]


def test_no_boxes_stay_no_boxes() -> None:
    assert warp_boxes(np.zeros((0, 4), np.float32), np.eye(3)).shape == (0, 4)


@pytest.mark.parametrize(
    "wrong", [{"mosaic": 1.5}, {"scale": 1.0}, {"degrees": float("nan")}, {"flip": 0.5}, {"crop": -1}]
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Augmentation(**wrong)  # type: ignore[arg-type]
