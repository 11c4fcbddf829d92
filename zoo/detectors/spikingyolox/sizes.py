"""The sizes of SpikingYOLOX, and what they take and give."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.config import DecodeSpec, InputSpec

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Size:
    """What tells the sizes apart.

    Attributes:
        width: channels of the stem; the stages have 2, 4, 8 and 16 times as many.
        depth: blocks of the CSP layers, three times as many at strides 8 and 16.
        separable: depthwise and pointwise convolutions in place of the 3x3 ones.
        image_size: side in pixels of the (square) pictures it was made for.
    """

    width: int
    depth: int
    separable: bool = False
    image_size: int = 640


SIZES = {
    # For small pictures (the handwritten digits).
    "pico": Size(16, 1, image_size=96),
    "nano": Size(16, 1, separable=True),
    "tiny": Size(24, 1),
    "s": Size(32, 1),
    "m": Size(48, 2),
    "l": Size(64, 3),
    "x": Size(80, 4),
}


def input_spec(size: str) -> InputSpec:
    """The input of a size at which it was made to run."""
    side = SIZES[size].image_size
    return InputSpec(channels=3, image_size=(side, side))


def decode_spec(size: str) -> DecodeSpec:
    """How the raw head maps of a size become boxes."""
    del size
    return DecodeSpec(kind="yolox", strides=STRIDES)
