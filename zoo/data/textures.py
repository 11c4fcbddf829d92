"""Background textures of the digits pictures, in two families that share no pattern: one to train on, one to test on.

A texture takes ((height, width), random generator) and returns float32 (height, width, 3) in about 0..1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]
Size = tuple[int, int]
Texture = Callable[[Size, np.random.Generator], Array]


def _grid(size: Size) -> tuple[Array, Array]:
    """Row and column coordinates, each (H, W), in units of the shorter side."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    return rows / min(size), columns / min(size)


def _colours(rng: np.random.Generator, contrast: float) -> tuple[Array, Array]:
    """Two colours (3,) whose lightness differs by up to ``contrast``."""
    lightness = rng.uniform(0.12, 0.88)
    tint = rng.uniform(-0.12, 0.12, (2, 3))
    step = rng.uniform(-contrast, contrast)
    first, second = np.clip(lightness + tint[0] - step / 2, 0, 1), np.clip(lightness + tint[1] + step / 2, 0, 1)
    return first.astype(np.float32), second.astype(np.float32)


def _blend(mask: Array, rng: np.random.Generator, contrast: float = 0.25) -> Array:
    """Colour a mask (H, W) in 0..1."""
    first, second = _colours(rng, contrast)
    return first + mask[..., None] * (second - first)


def _smooth_noise(size: Size, cells: int, rng: np.random.Generator) -> Array:
    """Value noise (H, W) in 0..1 with ``cells`` cells along the shorter side."""
    shape = (max(2, cells * size[0] // min(size)), max(2, cells * size[1] // min(size)))
    coarse = Image.fromarray(rng.random(shape, dtype=np.float32))
    return np.clip(np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)), 0.0, 1.0)


def gradient(size: Size, rng: np.random.Generator) -> Array:
    """A linear ramp in a random direction."""
    rows, columns = _grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * columns + np.sin(angle) * rows
    return _blend((ramp - ramp.min()) / np.ptp(ramp), rng, 0.5)


def clouds(size: Size, rng: np.random.Generator) -> Array:
    """Smooth noise of three octaves."""
    cells = int(rng.integers(2, 6))
    octaves = [_smooth_noise(size, cells * 2**k, rng) / 2**k for k in range(3)]
    return _blend(np.sum(octaves, 0) / 1.75, rng, 0.4)


def stripes(size: Size, rng: np.random.Generator) -> Array:
    """Straight bars, soft or hard."""
    rows, columns = _grid(size)
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.35)
    wave = np.sin((np.cos(angle) * columns + np.sin(angle) * rows) * np.float32(2 * np.pi / period))
    return _blend(np.clip(0.5 + wave * rng.uniform(0.5, 4.0), 0, 1), rng)


def checks(size: Size, rng: np.random.Generator) -> Array:
    """A rotated checkerboard."""
    rows, columns = _grid(size)
    angle, side = rng.uniform(0, np.pi), rng.uniform(0.06, 0.25)
    u, v = np.cos(angle) * columns + np.sin(angle) * rows, np.cos(angle) * rows - np.sin(angle) * columns
    return _blend(((np.floor(u / side) + np.floor(v / side)) % 2).astype(np.float32), rng)


def grain(size: Size, rng: np.random.Generator) -> Array:
    """Coarse coloured grain over a smooth ground."""
    ground = _blend(_smooth_noise(size, 3, rng), rng)
    cells = int(rng.integers(20, 60))
    speck = np.stack([_smooth_noise(size, cells, rng) for _ in range(3)], -1)
    return ground + (speck - 0.5) * np.float32(rng.uniform(0.1, 0.3))


def patches(size: Size, rng: np.random.Generator) -> Array:
    """Overlapping rectangles of several shades."""
    canvas = _blend(_smooth_noise(size, 2, rng), rng, 0.2)
    for _ in range(int(rng.integers(3, 10))):
        top, left = int(rng.integers(size[0])), int(rng.integers(size[1]))
        bottom, right = top + int(rng.integers(4, size[0])), left + int(rng.integers(4, size[1]))
        canvas[top:bottom, left:right] += rng.uniform(-0.12, 0.12, 3).astype(np.float32)
    return canvas


def rings(size: Size, rng: np.random.Generator) -> Array:
    """Concentric rings around a random point."""
    rows, columns = _grid(size)
    radius = np.hypot(rows - rng.uniform(0, 1), columns - rng.uniform(0, 1))
    return _blend(0.5 + 0.5 * np.sin(radius * np.float32(2 * np.pi / rng.uniform(0.08, 0.35))), rng)


def cells(size: Size, rng: np.random.Generator) -> Array:
    """Voronoi cells, each with a shade of its own."""
    rows, columns = _grid(size)
    count = int(rng.integers(6, 24))
    centres = rng.uniform(0, max(size) / min(size), (count, 2)).astype(np.float32)
    distance = (rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2
    return _blend(rng.random(count, dtype=np.float32)[distance.argmin(-1)], rng)


def weave(size: Size, rng: np.random.Generator) -> Array:
    """A woven cloth: two crossing sets of threads."""
    rows, columns = _grid(size)
    warp, weft = 2 * np.pi / rng.uniform(0.05, 0.2, 2)
    return _blend(0.25 * (2 + np.sin(rows * np.float32(warp)) + np.sin(columns * np.float32(weft))), rng)


def marble(size: Size, rng: np.random.Generator) -> Array:
    """Wavy veins: a sine bent by smooth noise."""
    rows, columns = _grid(size)
    bend = 2.0 * _smooth_noise(size, int(rng.integers(2, 5)), rng)
    return _blend(np.abs(np.sin((columns + rows * np.float32(rng.uniform(-1, 1)) + bend) * np.float32(np.pi * 2))), rng)


TRAIN_TEXTURES: tuple[Texture, ...] = (gradient, clouds, stripes, checks, grain, patches)
TEST_TEXTURES: tuple[Texture, ...] = (rings, cells, weave, marble)
