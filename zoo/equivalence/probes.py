"""Inputs on which backends are compared: real digits, noise, and images at the ends of the range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.config import ModelConfig
from zoo.data.images import ImageSource, load_image, prepare
from zoo.errors import InvalidInputError

SMALL = 128 * 128  # pixels; agreement on a few small canvases has proved nothing (facts/feasibility.md), so use 16


def default_images(
    config: ModelConfig, image_size: tuple[int, int] | None = None, *, count: int | None = None
) -> dict[str, Tensor]:
    """Images (B, C, H, W) in [0, 1], float64, by group: ``digits`` (for RGB detectors), ``noise`` and ``saturated``.

    Args:
        config: of the detector.
        image_size: (H, W) in pixels; by default the detector's own.
        count: images in each group; by default 16 small ones, fewer large ones.
    """
    height, width = image_size or config.input.image_size
    if config.input.events is not None:
        return event_slices(config, (height, width), count=count)
    count = _count(height, width) if count is None else count
    shape = (config.input.channels, height, width)
    groups = {"noise": noise(config, (height, width), count), "saturated": saturated_images(max(3, count), shape)}
    if config.input.channels == 3:
        groups = {"digits": digit_images(count, config, (height, width)), **groups}
    return groups


def _count(height: int, width: int) -> int:
    return max(1, min(16, 16 * SMALL // (height * width)))


def noise(config: ModelConfig, image_size: tuple[int, int], count: int) -> Tensor:
    """Noise of the kind that a detector takes: images (count, C, H, W), or micro-slices (Tm, count, 2, H, W), float64."""
    if config.input.events is None:
        return noise_images(count, (config.input.channels, *image_size))
    shape = (config.input.events.micro_slices, count, 2, *image_size)
    generator = torch.Generator().manual_seed(20200207)
    return torch.poisson(torch.full(shape, 0.3), generator=generator).double()


def event_slices(config: ModelConfig, image_size: tuple[int, int], *, count: int | None = None) -> dict[str, Tensor]:
    """Micro-slices (Tm, B, 2, H, W), float64, by group: moving ``digits``, ``noise`` events, and ``saturated`` slices.

    Args:
        config: of an event detector.
        image_size: (H, W) in pixels of the network's input.
        count: streams in each group; by default 16 small ones, fewer large ones.
    """
    from zoo.data.digit_events import DigitEvents
    from zoo.data.events import prepare_events

    spec = config.input.events
    if spec is None:
        raise InvalidInputError(f"{config.arch} takes pictures, not events")
    count = _count(*image_size) if count is None else count
    clips = DigitEvents("test", length=count, events=spec)
    digits = [prepare_events(clips[index].counts, config.input, image_size)[0] for index in range(count)]
    saturated = saturated_images(max(3, count), (2, *image_size)) * 8  # nothing, everything, patterns
    return {
        "digits": torch.stack(digits, 1).double(),
        "noise": noise(config, image_size, count),
        "saturated": saturated.expand(spec.micro_slices, *saturated.shape).contiguous(),
    }


def digit_images(count: int, config: ModelConfig, image_size: tuple[int, int]) -> Tensor:
    """Test canvases with handwritten digits, resized as the detector does: (count, 3, H, W)."""
    from zoo.data.digits import DigitsDetection

    canvases = DigitsDetection("test", length=count)
    prepared = [prepare(canvases[index].image, config.input, image_size)[0] for index in range(count)]
    return torch.stack(prepared).double()


def noise_images(count: int, shape: tuple[int, int, int]) -> Tensor:
    """Uniform noise of 256 grey levels: (count, C, H, W)."""
    generator = torch.Generator().manual_seed(20200207)
    return torch.randint(0, 256, (count, *shape), generator=generator).float().div(255).double()


def saturated_images(count: int, shape: tuple[int, int, int]) -> Tensor:
    """All black, all white, a chequerboard of single pixels, then random squares of either: (count, C, H, W)."""
    generator = torch.Generator().manual_seed(20200208)
    _, height, width = shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    board = ((rows + columns) % 2).double().expand(shape)
    images = [torch.zeros(shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64), board]
    for index in range(count - len(images)):
        side = 2 ** (index % 6)
        squares = torch.randint(0, 2, (shape[0], height // side + 1, width // side + 1), generator=generator).double()
        images.append(squares[:, rows // side, columns // side])
    return torch.stack(images)


def given_images(images: Tensor | Sequence[ImageSource], config: ModelConfig) -> Tensor:
    """What a caller passed, as images (B, C, H, W) or frames (T, B, C, H, W), float64.

    For event detectors: micro-slices (Tm, B, 2, H, W) of counts, or streams of events.

    Raises:
        InvalidInputError: not floating point, not in [0, 1] (counts: negative), or empty.
        FileMissingError, CorruptFileError: a path that is not a picture.
    """
    if config.input.events is not None:
        return _given_slices(images, config)
    if not isinstance(images, Tensor):
        if isinstance(images, str) or len(images) == 0:
            raise InvalidInputError("images must be a tensor (B, C, H, W) or a list of at least one picture")
        return torch.stack([prepare(load_image(source), config.input)[0] for source in images]).double()
    if not images.is_floating_point():
        raise InvalidInputError(f"expected images as floating point in [0, 1], got {images.dtype}")
    if images.numel() == 0 or not ((images >= 0) & (images <= 1)).all():
        raise InvalidInputError("expected at least one image, with values in [0, 1]")
    return images.detach().cpu().double()


def _given_slices(given: Tensor | Sequence[Any], config: ModelConfig) -> Tensor:
    from zoo.data.events import check_events, micro_slices, prepare_events
    from zoo.data.prophesee import DatFile

    spec = config.input.events
    if spec is None or (not isinstance(given, Tensor) and (isinstance(given, str) or len(given) == 0)):
        raise InvalidInputError(
            "images must be micro-slices (Tm, B, 2, H, W), or a list of at least one stream of events"
        )
    if not isinstance(given, Tensor):
        streams = [DatFile(one).read() if isinstance(one, str | Path) else one for one in given]
        counts = [micro_slices(check_events(events, spec.sensor_size), spec) for events in streams]
        return torch.stack([prepare_events(one, config.input)[0] for one in counts], 1).double()
    if not given.is_floating_point() or given.numel() == 0 or not bool((given >= 0).all() and given.isfinite().all()):
        raise InvalidInputError(
            "expected at least one stack of micro-slices: counts as floating point numbers, not negative"
        )
    return given.detach().cpu().double()
