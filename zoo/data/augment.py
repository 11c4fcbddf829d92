"""Augmentation of images and their boxes: mosaic, affine, crop, flips, colour, noise, mixup.

The geometry is OpenCV's ``warpAffine``, one resampling per image: letterboxing, scaling, rotation, shear, translation, mosaic
and flips are composed into one matrix. A box becomes the bounding box of its transformed corners, clipped to the image. It is
dropped if too little of it remains visible. With rotation or shear such a box is larger than the object, so large angles cost
accuracy.

What is drawn depends on the generator alone, so a training step sees the same images whether or not a run was interrupted.

Sources: mosaic as in YOLOv4 (Bochkovskiy et al., arXiv:2004.10934, section 3.3); mixup as in Zhang et al. (ICLR 2018, eq. 1)
with Beta(8, 8) weights, as detection recipes use it (Zhang et al., arXiv:1902.04103, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.config import Augmentation
from zoo.data.sample import AnySample, Sample
from zoo.errors import DataError

Pixels = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]
Generator = np.random.Generator
GREY = 114
"""Value of pixels outside every image, as in the detectors' letterboxing."""
LEAST_VISIBLE = 0.25
"""Share of a box's area that has to remain inside the image, else the box is dropped."""
LEAST_SIDE = 2.0
"""Pixels that both sides of a box must have, else the box is dropped."""


@dataclass(frozen=True)
class Augmenter:
    """Draws augmented samples of one size.

    Attributes:
        settings: what is changed.
        size: (height, width) of the result in pixels.
        other: gives the sample of an index, for mosaic and mixup.
        length: how many samples there are.
    """

    settings: Augmentation
    size: tuple[int, int]
    other: Callable[[int], AnySample]
    length: int

    def __call__(self, sample: AnySample, rng: Generator) -> Sample:
        """The sample, changed as the generator says; its image has ``size``.

        Raises:
            DataError: the sample holds events.
        """
        first = self._one(_image(sample), rng)
        if rng.random() >= self.settings.mixup:
            return first
        second = self._one(self._other(rng), rng)
        weight = float(rng.beta(8.0, 8.0))
        mixed = first.image.astype(np.float32) * weight + second.image.astype(np.float32) * (1 - weight)
        return Sample(
            np.rint(mixed).astype(np.uint8),
            np.concatenate([first.boxes, second.boxes]),
            np.concatenate([first.labels, second.labels]),
            first.image_id,
        )

    def _other(self, rng: Generator) -> Sample:
        return _image(self.other(int(rng.integers(self.length))))

    def _one(self, sample: Sample, rng: Generator) -> Sample:
        settings = self.settings
        if settings.crop:
            sample = crop(sample, settings.crop, rng)
        view = random_view(settings, self.size, rng)
        if rng.random() < settings.mosaic:
            others = [self._other(rng) for _ in range(3)]
            if settings.crop:
                others = [crop(other, settings.crop, rng) for other in others]
            result = self._mosaic([sample, *others], view, rng)
        else:
            result = warp(sample, view @ letterbox(sample.size, self.size), self.size)
        image = add_noise(change_colour(result.image, settings, rng), settings.noise, rng)
        return Sample(image, result.boxes, result.labels, sample.image_id)

    def _mosaic(self, samples: list[Sample], view: Matrix, rng: Generator) -> Sample:
        """Four images around a point near the centre of a canvas of the result's size; each fills its quadrant."""
        height, width = self.size
        centre = np.array([width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7)])
        image = np.full((height, width, 3), GREY, np.uint8)
        boxes, labels = [], []
        for quadrant, sample in enumerate(samples):
            right, below = quadrant % 2, quadrant // 2
            low = np.array([centre[0] * right, centre[1] * below])
            high = np.array([width if right else centre[0], height if below else centre[1]])
            part = warp(sample, view @ _fill(sample.size, low, high, right=bool(right), below=bool(below)), self.size)
            mask = _quadrant(view, low, high, self.size)
            image[mask] = part.image[mask]
            inside, kept = clip_boxes(part.boxes, _bounds(view, low, high, self.size))
            boxes.append(inside)
            labels.append(part.labels[kept])
        return Sample(image, np.concatenate(boxes), np.concatenate(labels), samples[0].image_id)


def _image(sample: AnySample) -> Sample:
    if not isinstance(sample, Sample):
        raise DataError("events cannot be augmented: leave out the setting `augment`")
    return sample


def letterbox(size: tuple[int, int], target: tuple[int, int]) -> Matrix:
    """The matrix that scales an image (height, width) to fit into the target's centre, keeping its shape."""
    scale = min(target[0] / size[0], target[1] / size[1])
    shift = [(target[1] - size[1] * scale) / 2, (target[0] - size[0] * scale) / 2]
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1.0]])


def _fill(size: tuple[int, int], low: Matrix, high: Matrix, *, right: bool, below: bool) -> Matrix:
    """The matrix that scales an image to cover a quadrant, with its inner corner at the quadrants' common point."""
    wide, tall = high - low
    scale = max(wide / size[1], tall / size[0])
    left = low[0] if right else high[0] - size[1] * scale
    top = low[1] if below else high[1] - size[0] * scale
    return np.array([[scale, 0, left], [0, scale, top], [0, 0, 1.0]])


def _corners(low: Matrix, high: Matrix) -> Matrix:
    return np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])


def _quadrant(view: Matrix, low: Matrix, high: Matrix, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels of the result that a quadrant covers."""
    import cv2

    mask = np.zeros(size, np.uint8)
    points = transform(view, _corners(low, high))
    cv2.fillConvexPoly(mask, np.rint(points).astype(np.int32), 1)
    return mask.astype(bool)


def _bounds(view: Matrix, low: Matrix, high: Matrix, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Bounding box (x1, y1, x2, y2) of a quadrant in the result, clipped to it."""
    points = transform(view, _corners(low, high))
    x1, y1 = points.min(0).clip(0, [size[1], size[0]])
    x2, y2 = points.max(0).clip(0, [size[1], size[0]])
    return float(x1), float(y1), float(x2), float(y2)


def random_view(settings: Augmentation, size: tuple[int, int], rng: Generator) -> Matrix:
    """A random change of view about the centre of a canvas (height, width): flips, rotation, scale, shear, translation."""
    height, width = size
    angle = np.deg2rad(rng.uniform(-settings.degrees, settings.degrees))
    factor = rng.uniform(1 - settings.scale, 1 + settings.scale)
    shear = np.tan(np.deg2rad(rng.uniform(-settings.shear, settings.shear, 2)))
    shift = rng.uniform(-settings.translate, settings.translate, 2) * [width, height]
    flip = [-1.0 if rng.random() < p else 1.0 for p in (settings.flip_horizontal, settings.flip_vertical)]
    turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, shear[0]], [shear[1], 1]]) @ np.diag(flip)
    centre = np.array([width / 2, height / 2])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre + shift - linear @ centre
    return matrix


def transform(matrix: Matrix, points: Matrix) -> Matrix:
    """Points (N, 2) as x, y through an affine matrix (3, 3)."""
    result: Matrix = points @ matrix[:2, :2].T + matrix[:2, 2]
    return result


def warp(sample: Sample, matrix: Matrix, size: tuple[int, int]) -> Sample:
    """A sample through an affine matrix, in an image of (height, width); pixels from outside are grey.

    Coordinates are those of boxes: pixel i covers i..i + 1. OpenCV's are those of pixel centres.
    """
    import cv2

    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    centres = np.linalg.inv(half) @ matrix @ half
    shrink = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    image: Any = sample.image
    if shrink < 0.5:  # bilinear sampling would skip pixels: reduce by areas first
        image, centres = _reduced(image, centres, shrink)
    image = cv2.warpAffine(
        image, centres[:2], size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(GREY,) * 3
    )
    boxes = warp_boxes(sample.boxes, matrix)
    inside, kept = clip_boxes(boxes, (0.0, 0.0, float(size[1]), float(size[0])))
    return Sample(image, inside, sample.labels[kept], sample.image_id)


def _reduced(image: Pixels, centres: Matrix, shrink: float) -> tuple[Pixels, Matrix]:
    """An image reduced by a whole factor, and the matrix for it."""
    import cv2

    factor = int(1 / shrink)
    height, width = max(1, image.shape[0] // factor), max(1, image.shape[1] // factor)
    scale = np.diag([image.shape[1] / width, image.shape[0] / height, 1.0])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    small: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small, centres @ np.linalg.inv(half) @ scale @ half


def warp_boxes(boxes: npt.NDArray[np.float32], matrix: Matrix) -> npt.NDArray[np.float32]:
    """Bounding boxes (N, 4) of boxes (N, 4), as x1, y1, x2, y2, through an affine matrix."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2).astype(np.float64)
    moved = transform(matrix, corners).reshape(-1, 4, 2)
    return np.concatenate([moved.min(1), moved.max(1)], axis=1).astype(np.float32)


def clip_boxes(
    boxes: npt.NDArray[np.float32], bounds: tuple[float, float, float, float]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Boxes (N, 4) clipped to bounds x1, y1, x2, y2, and the indices of those of which enough remains."""
    low, high = np.array(bounds[:2] * 2, np.float32), np.array(bounds[2:] * 2, np.float32)
    clipped = boxes.clip(low, high)
    sides = clipped[:, 2:] - clipped[:, :2]
    before = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    visible = sides.clip(0).prod(1) >= LEAST_VISIBLE * before
    kept = np.flatnonzero(visible & (sides >= LEAST_SIDE).all(1))
    return clipped[kept], kept


def crop(sample: Sample, side: int, rng: Generator) -> Sample:
    """A square of a sample at full resolution; half of the time it is placed around one of the objects."""
    height, width = sample.size
    tall, wide = min(side, height), min(side, width)
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    if len(sample.boxes) and rng.random() < 0.5:
        x1, y1, x2, y2 = sample.boxes[int(rng.integers(len(sample.boxes)))]
        left = int(np.clip((x1 + x2) / 2 - wide * rng.uniform(0.2, 0.8), 0, width - wide))
        top = int(np.clip((y1 + y2) / 2 - tall * rng.uniform(0.2, 0.8), 0, height - tall))
    moved = sample.boxes - np.array([left, top, left, top], np.float32)
    inside, kept = clip_boxes(moved, (0.0, 0.0, float(wide), float(tall)))
    image = sample.image[top : top + tall, left : left + wide]
    return Sample(np.ascontiguousarray(image), inside, sample.labels[kept], sample.image_id)


def change_colour(image: Pixels, settings: Augmentation, rng: Generator) -> Pixels:
    """Random gains of hue, saturation and brightness, by look-up tables in OpenCV's HSV (hue in 0..179)."""
    import cv2

    gains = rng.uniform(-1, 1, 3) * [settings.hue, settings.saturation, settings.brightness] + 1
    if (gains == 1).all():
        return image
    levels = np.arange(256, dtype=np.float64)
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    tables = [(levels * gains[0]) % 180, (levels * gains[1]).clip(0, 255), (levels * gains[2]).clip(0, 255)]
    parts = [
        cv2.LUT(part, table.astype(np.uint8)) for part, table in zip((hue, saturation, value), tables, strict=True)
    ]
    changed: Any = cv2.cvtColor(cv2.merge(parts), cv2.COLOR_HSV2RGB)
    return changed


def add_noise(image: Pixels, most: float, rng: Generator) -> Pixels:
    """Gaussian noise of a random standard deviation up to ``most`` grey levels."""
    deviation = rng.uniform(0, most)
    if deviation == 0:
        return image
    noise = rng.normal(0, deviation, image.shape).astype(np.float32)
    return np.rint(image + noise).clip(0, 255).astype(np.uint8)
