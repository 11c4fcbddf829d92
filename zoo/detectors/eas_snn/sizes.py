"""The sizes of EAS-SNN, and what they take and give."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.config import DecodeSpec, EventSpec, InputSpec

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Size:
    """What tells the sizes apart.

    Attributes:
        width: channels of the stem; the stages have 2, 4, 8 and 16 times as many.
        depth: blocks of the CSP layers, three times as many at strides 8 and 16.
        image_size: side in pixels of the input.
        sensor_size: (height, width) of the event camera in pixels.
    """

    width: int
    depth: int
    image_size: int = 640
    sensor_size: tuple[int, int] = (240, 304)


SIZES = {
    # For the small sensor of the digits as events.
    "pico": Size(16, 1, image_size=96, sensor_size=(96, 96)),
    "s": Size(32, 1),
    "m": Size(48, 2),
    "l": Size(64, 3),
}


def input_spec(size: str) -> InputSpec:
    """The input of a size at which it was made to run: windows of 200 ms, as for GEN1."""
    numbers = SIZES[size]
    return InputSpec(
        channels=2,
        image_size=(numbers.image_size, numbers.image_size),
        events=EventSpec(sensor_size=numbers.sensor_size),
    )


def decode_spec(size: str) -> DecodeSpec:
    """How the raw head maps of a size become boxes."""
    del size
    return DecodeSpec(kind="yolox", strides=STRIDES)
