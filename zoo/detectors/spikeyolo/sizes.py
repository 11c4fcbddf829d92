"""The sizes of SpikeYOLO, and what they take and give."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.config import DecodeSpec, InputSpec

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Size:
    """Numbers that tell the sizes of SpikeYOLO apart.

    Attributes:
        stem: (output channels, kernel, stride, padding) of the stem convolution. Where its stride is 2, a spiking 3x3
            convolution of stride 2 follows.
        widths: channels of the stages at strides 4, 8, 16 and 32.
        depths: blocks per stage.
        ratios: hidden channels per channel in each stage's blocks.
        neck: channels of the neck at strides 8 and 16.
        neck_ratios: the same ratio for the neck's blocks at strides 8, 16 and 32.
        reg_max: bins per box side.
        image_size: side in pixels of the (square) pictures it was made for.
    """

    stem: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    ratios: tuple[int, int, int, int] = (4, 4, 3, 2)
    neck: tuple[int, int] = (64, 128)
    neck_ratios: tuple[int, int, int] = (4, 3, 1)
    reg_max: int = 16
    image_size: int = 640


def _published(width: float, depths: tuple[int, int, int, int], last_ratio: int) -> Size:
    widths = (int(128 * width), int(256 * width), int(512 * width), int(1024 * width))
    stem = (widths[0], 7, 4, 2)
    return Size(stem, widths, depths, neck=(widths[1], widths[2]), neck_ratios=(4, 3, last_ratio))


SIZES = {
    # For small pictures (the handwritten digits): an earlier, finer first stage and narrower blocks.
    "pico": Size(
        (16, 7, 2, 3), (24, 48, 96, 128), (1, 1, 1, 1), (2, 2, 2, 2), (48, 64), (2, 2, 1), reg_max=8, image_size=96
    ),
    "n": _published(0.375, (1, 2, 3, 1), 1),
    "s": _published(0.5, (1, 2, 3, 1), 1),
    "m": _published(0.625, (2, 3, 4, 2), 2),
    "l": _published(0.75, (2, 3, 4, 2), 2),
}


def input_spec(size: str) -> InputSpec:
    """The input of a size at which it was made to run."""
    side = SIZES[size].image_size
    return InputSpec(channels=3, image_size=(side, side))


def decode_spec(size: str) -> DecodeSpec:
    """How the raw head maps of a size become boxes."""
    return DecodeSpec(kind="dfl", strides=STRIDES, reg_max=SIZES[size].reg_max)
