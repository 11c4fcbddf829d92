"""A detection set of real handwritten digits on textured pictures.

The digits are the 1,797 scans that ship with scikit-learn (UCI "Optical Recognition of Handwritten Digits", 8x8 pixels each,
CC BY 4.0). Every picture shows one to six of them with their own size, rotation, slant, colour and contrast. Picture ``i`` of a
split depends on (split, seed, i, image size) alone: not on the length of the set, the order of access or the machine.

Training and test share neither digit scans nor background textures, so a test score is about unseen handwriting on unseen
backgrounds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from zoo.data.sample import Sample
from zoo.data.textures import TEST_TEXTURES, TRAIN_TEXTURES
from zoo.errors import DataError, MissingFrameworkError

Array = npt.NDArray[np.float32]
Split = Literal["train", "test"]

CLASS_NAMES = tuple("0123456789")
MAX_DIGITS = 6
INK = 0.35  # opacity from which a pixel belongs to the digit, for its tight box
_TEST_SHARE = 5  # every fifth scan of a fixed shuffle is a test scan
_SPLIT_CODE = {"train": 1, "test": 2}


@lru_cache(maxsize=1)
def _scans() -> tuple[Array, npt.NDArray[np.int64]]:
    """All scans (1797, 8, 8) in 0..1 with their labels (1797,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingFrameworkError("the digits need scikit-learn: pip install 'nir-zoo[train]'") from error
    digits = load_digits()
    return (digits.images / 16.0).astype(np.float32), digits.target.astype(np.int64)


def scan_indices(split: Split) -> npt.NDArray[np.int64]:
    """Which of scikit-learn's scans a split may use; the two splits are disjoint."""
    order = np.random.default_rng(20200207).permutation(len(_scans()[1]))
    is_test = np.arange(len(order)) % _TEST_SHARE == 0
    return np.sort(order[is_test if split == "test" else ~is_test])


def _render(scan: Array, size: float, rng: np.random.Generator) -> Array:
    """One scan enlarged to about ``size`` pixels of height, rotated and slanted: its opacity (side, side) in 0..1."""
    angle, slant = rng.uniform(-0.35, 0.35), rng.uniform(-0.2, 0.2)
    stretch = rng.uniform(0.85, 1.15)
    zoom = size / 8
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[zoom * stretch, slant * zoom], [0.0, zoom]])
    side = int(np.ceil(size * 1.7)) + 2
    # Pillow maps output pixels back to the scan, both measured at pixel centres plus one half
    back = np.linalg.inv(linear)
    shift = 5.0 - back @ np.array([side / 2, side / 2])
    coefficients = (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])
    enlarged = Image.fromarray(np.pad(scan, 1)).transform(  # strokes that touch the scan's edge end softly
        (side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    opacity = np.asarray(enlarged)
    edge = rng.uniform(0.1, 0.3)
    return np.clip((opacity - edge) / 0.45, 0.0, 1.0).astype(np.float32)


def _tight_box(opacity: Array) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 (exclusive) around the ink, or None where there is none."""
    ink = opacity >= INK
    columns, rows = np.flatnonzero(ink.any(0)), np.flatnonzero(ink.any(1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _free_place(
    width: int, height: int, canvas: tuple[int, int], taken: list[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Top left corner of a box that overlaps none of those taken, one pixel apart; None after 20 tries."""
    if width >= canvas[1] or height >= canvas[0]:
        return None
    for _ in range(20):
        x, y = int(rng.integers(0, canvas[1] - width)), int(rng.integers(0, canvas[0] - height))
        if all(x >= x2 + 1 or x + width + 1 <= x1 or y >= y2 + 1 or y + height + 1 <= y1 for x1, y1, x2, y2 in taken):
            return x, y
    return None


def _ink_colour(background: Array, rng: np.random.Generator) -> Array:
    """A colour (3,) in 0..1 whose lightness stands clearly off the background's (h, w, 3)."""
    lightness = float(background.mean())
    distance = rng.uniform(0.35, 0.75)
    darker = lightness - distance >= 0.02
    lighter = lightness + distance <= 0.98
    if darker and lighter:
        darker = rng.random() < 0.5
    elif not (darker or lighter):
        darker = lightness > 0.5
    target = lightness - distance if darker else lightness + distance
    tint = rng.uniform(-0.15, 0.15, 3)
    return np.clip(target + tint - tint.mean(), 0.0, 1.0).astype(np.float32)


class DigitsDetection:
    """Pictures with handwritten digits and their boxes.

    Args:
        split: ``train`` or ``test``.
        length: number of pictures.
        seed: another seed gives other pictures of the same split.
        image_size: side of the square pictures in pixels, or (height, width). Digits scale with the shorter side: they are
            14 to 44 pixels high on 96 pixels.

    Raises:
        DataError: unknown split, or sizes that cannot be.
        MissingFrameworkError: scikit-learn is not installed.
    """

    class_names = CLASS_NAMES

    def __init__(self, split: Split, *, length: int, seed: int = 0, image_size: int | tuple[int, int] = 96) -> None:
        if split not in _SPLIT_CODE:
            raise DataError(f"the digits have the splits 'train' and 'test', not {split!r}")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if length < 1 or seed < 0 or min(height, width) < 32:
            raise DataError("the digits need length >= 1, seed >= 0 and pictures of at least 32 pixels")
        self.split: Split = split
        self.length = length
        self.seed = seed
        self.image_size = (height, width)
        self._indices = scan_indices(split)
        self._textures = TEST_TEXTURES if split == "test" else TRAIN_TEXTURES

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index`` with its boxes and labels."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([_SPLIT_CODE[self.split], self.seed, index, *self.image_size])
        texture = self._textures[int(rng.integers(len(self._textures)))]
        canvas = texture(self.image_size, rng)
        boxes, labels = self._draw_digits(canvas, rng)
        canvas += rng.normal(0.0, rng.uniform(0.0, 0.03), canvas.shape).astype(np.float32)
        image = np.clip(canvas * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
        return Sample(image, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), index)

    def _draw_digits(
        self, canvas: Array, rng: np.random.Generator
    ) -> tuple[list[tuple[int, int, int, int]], list[int]]:
        scans, labels = _scans()
        boxes: list[tuple[int, int, int, int]] = []
        drawn: list[int] = []
        for _ in range(int(rng.integers(1, MAX_DIGITS + 1))):
            index = int(self._indices[rng.integers(len(self._indices))])
            size = float(np.exp(rng.uniform(np.log(14.0), np.log(44.0)))) * min(self.image_size) / 96
            opacity = _render(scans[index], size, rng)
            box = _tight_box(opacity)
            if box is None:
                continue
            x1, y1, x2, y2 = box
            place = _free_place(x2 - x1, y2 - y1, self.image_size, boxes, rng)
            if place is None:
                continue
            x, y = place
            region = canvas[y : y + y2 - y1, x : x + x2 - x1]
            alpha = opacity[y1:y2, x1:x2, None]
            region += alpha * (_ink_colour(region, rng) - region)
            boxes.append((x, y, x + x2 - x1, y + y2 - y1))
            drawn.append(int(labels[index]))
        return boxes, drawn
