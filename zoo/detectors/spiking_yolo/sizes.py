"""The variants of Spiking-YOLO, and what they take and give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from zoo.config import Anchors, DecodeSpec, InputSpec

_COCO = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))

_TINY: Anchors = (_COCO[1:4], _COCO[3:])  # the finer scale takes anchors 1 to 3, as the released configuration does

_DIGITS: Anchors = (((10, 16), (13, 20), (17, 25)), ((21, 30), (24, 37), (30, 43)))


@dataclass(frozen=True)
class Size:
    """What tells the variants apart.

    Attributes:
        widths: channels of the convolutions before each halving of the resolution; the last one feeds the finer scale.
        deep: channels behind the last halving, one convolution each.
        narrow: channels of the 1x1 convolution behind them.
        coarse: channels in front of the coarse head.
        lateral, merge: channels of the 1x1 convolution that is brought back, and in front of the fine head.
        down: how the resolution is halved.
        activation: ``relu`` or ``leaky`` (slope 0.1).
        up: how features are brought back.
        strides: input pixels per cell, finest first.
        anchors: (width, height) in input pixels, three per scale.
        kind: of box decoding.
        image_size: side in pixels.
        stem_stride: of the first convolution.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    deep: tuple[int, ...] = (512, 1024)
    narrow: int = 256
    coarse: int = 512
    lateral: int = 128
    merge: int = 256
    down: Literal["pool", "conv"] = "conv"
    activation: Literal["relu", "leaky"] = "relu"
    up: Literal["nearest", "transposed"] = "transposed"
    strides: tuple[int, int] = (16, 32)
    anchors: Anchors = _TINY
    kind: Literal["anchors", "anchors_exp"] = "anchors_exp"
    image_size: int = 416
    stem_stride: int = 1


_pico = partial(
    Size,
    widths=(16, 32, 64),
    deep=(96, 128),
    narrow=64,
    coarse=128,
    lateral=32,
    merge=64,
    up="nearest",
    strides=(8, 16),
    anchors=_DIGITS,
    kind="anchors",
    image_size=96,
    stem_stride=2,
)

SIZES = {
    "tiny": Size(down="pool", activation="leaky", up="nearest"),
    "tiny-conv": Size(),
    "pico": _pico(),
    "pico-leaky": _pico(activation="leaky"),
}


def input_spec(size: str) -> InputSpec:
    """The input of a size at which it was made to run."""
    side = SIZES[size].image_size
    return InputSpec(channels=3, image_size=(side, side))


def decode_spec(size: str) -> DecodeSpec:
    """How the raw head maps of a size become boxes."""
    numbers = SIZES[size]
    fields: dict[str, Any] = {"kind": numbers.kind, "strides": numbers.strides, "anchors": numbers.anchors}
    return DecodeSpec(**fields)
