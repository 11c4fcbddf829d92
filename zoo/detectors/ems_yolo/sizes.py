"""The variants of EMS-YOLO, and what they take and give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.config import Anchors, DecodeSpec, InputSpec

ANCHORS: Anchors = (((10, 14), (23, 27), (37, 58)), ((81, 82), (135, 169), (344, 319)))


@dataclass(frozen=True)
class Kind:
    """A kind of block.

    Attributes:
        block: ``block1``, ``block2`` (of the paper), or ``conv``.
        hidden: channels between its convolutions; by default ``share`` of the output channels.
        share: see there; 0.5 for the bottleneck blocks of the event-based variants.
    """

    block: Literal["block1", "block2", "conv"]
    hidden: int | None = None
    share: float = 1.0


B1, B2, CONV = Kind("block1"), Kind("block2"), Kind("conv")

WIDE = Kind("block1", hidden=1024)

HALF1, HALF2 = Kind("block1", share=0.5), Kind("block2", share=0.5)


@dataclass(frozen=True)
class Size:
    """What tells the variants of EMS-YOLO apart.

    Attributes:
        stem: channels of the 7x7 (or 3x3) stem convolution of stride 2.
        stages: (block, channels, stride) one after the other.
        fine: index of the stage that the neck takes up again.
        top: the block behind the backbone.
        coarse: what follows for the coarse scale.
        lateral: the block that brings features back, in front of the upsampling.
        merge: the block behind the concatenation, for the fine scale.
        widths: channels of ``top``, ``coarse``, ``lateral`` and ``merge``.
        stem_kernel: side of the stem's convolution.
        strides: input pixels per cell of the two scales.
        anchors: (width, height) in input pixels, three per scale.
        image_size: side in pixels of the (square) pictures it was made for.
    """

    stem: int
    stages: tuple[tuple[Kind, int, int], ...]
    fine: int
    top: Kind
    coarse: Kind
    lateral: Kind
    merge: Kind
    widths: tuple[int, int, int, int] = (256, 512, 128, 256)
    stem_kernel: int = 7
    strides: tuple[int, int] = (16, 32)
    anchors: Anchors = ANCHORS
    image_size: int = 640


def _plain(*depths: int, down: Kind = B1) -> tuple[tuple[Kind, int, int], ...]:
    """Four stages of 64 to 512 channels; in all but the first, ``down`` halves the resolution."""
    rows: list[tuple[Kind, int, int]] = []
    for stage, depth in enumerate(depths):
        channels = 64 * 2**stage
        rows.append((down if stage else B1, channels, 2))
        rows += [(B1, channels, 1)] * (depth - 1)
    return tuple(rows)


_DIGIT_ANCHORS: Anchors = (((10, 16), (13, 20), (17, 25)), ((21, 30), (24, 37), (30, 43)))

_RES10_EE = tuple((HALF2, width, 2) for width in (64, 128, 256, 512))

_RES18_EE = tuple(row for width in (64, 128, 256, 512) for row in ((HALF2, width, 2), (HALF1, width, 1)))

SIZES = {
    # For small pictures (the handwritten digits): finer scales and narrower blocks.
    "pico": Size(
        16,
        ((B1, 32, 2), (B1, 64, 2), (B1, 64, 1), (B1, 128, 2), (B1, 128, 1)),
        2, B1, B1, B1, B1,
        widths=(96, 128, 32, 64), strides=(8, 16), anchors=_DIGIT_ANCHORS, image_size=96,
    ),
    "resnet10": Size(64, _plain(1, 1, 1, 1, down=B2), 2, WIDE, B1, B1, B1),
    "resnet18": Size(64, _plain(2, 2, 2, 2), 5, B1, CONV, B1, CONV),
    "resnet34": Size(64, _plain(3, 4, 6, 3), 12, WIDE, B1, B1, B1),
    "resnet34-cat": Size(64, _plain(3, 4, 6, 3, down=B2), 12, B1, CONV, B1, CONV),
    "res10-ee": Size(32, _RES10_EE, 2, HALF1, HALF2, HALF1, HALF1, stem_kernel=3),
    "res18-ee": Size(32, _RES18_EE, 5, HALF1, HALF2, HALF1, HALF1, stem_kernel=3),
}  # fmt: skip


def input_spec(size: str) -> InputSpec:
    """The input of a size at which it was made to run."""
    side = SIZES[size].image_size
    return InputSpec(channels=3, image_size=(side, side))


def decode_spec(size: str) -> DecodeSpec:
    """How the raw head maps of a size become boxes."""
    return DecodeSpec(kind="anchors", strides=SIZES[size].strides, anchors=SIZES[size].anchors)
