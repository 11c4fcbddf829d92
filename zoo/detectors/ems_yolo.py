"""EMS-YOLO: deep directly-trained spiking neural networks for object detection.

Su, Chou, Hu, Li, Mei, Zhang, Li: "Deep Directly-Trained Spiking Neural Networks for Object Detection", ICCV 2023. Written from
the paper and from measurements of its released behaviour, in its NIR-native form (see :mod:`zoo.layers.ems_blocks`): hard-reset
leaky integrate-and-fire neurons, spikes before every pool, and a neuron in front of the head's convolutions too.

The input (T*B, 3, H, W) is the image repeated T times. A residual backbone ends at the coarse stride; the neck brings its
features back to the fine one; each of the two scales has an anchor-based head of one convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from zoo.config import Anchors, DecodeSpec, InputSpec
from zoo.layers.conv import ConvBN, threshold_norm
from zoo.layers.ems_blocks import EMSBlock1, EMSBlock2, NeuronFactory, SpikeConv
from zoo.layers.heads import AnchorDetect
from zoo.layers.neurons import LIF

ANCHORS: Anchors = (((10, 14), (23, 27), (37, 58)), ((81, 82), (135, 169), (344, 319)))
Block = Callable[..., nn.Module]


def bottleneck(block: Block) -> Block:
    """A block with half of its output channels in between."""

    def make(in_channels: int, out_channels: int, *args: int, neuron: NeuronFactory) -> nn.Module:
        return block(in_channels, out_channels, *args, hidden=out_channels // 2, neuron=neuron)

    return make


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
    stages: tuple[tuple[Block, int, int], ...]
    fine: int
    top: Block
    coarse: Block
    lateral: Block
    merge: Block
    widths: tuple[int, int, int, int] = (256, 512, 128, 256)
    stem_kernel: int = 7
    strides: tuple[int, int] = (16, 32)
    anchors: Anchors = ANCHORS
    image_size: int = 640


WIDE = partial(EMSBlock1, hidden=1024)
HALF1, HALF2 = bottleneck(EMSBlock1), bottleneck(EMSBlock2)


def _plain(*depths: int, down: Block = EMSBlock1) -> tuple[tuple[Block, int, int], ...]:
    """Four stages of 64 to 512 channels; in all but the first, ``down`` halves the resolution."""
    rows: list[tuple[Block, int, int]] = []
    for stage, depth in enumerate(depths):
        channels = 64 * 2**stage
        rows.append((down if stage else EMSBlock1, channels, 2))
        rows += [(EMSBlock1, channels, 1)] * (depth - 1)
    return tuple(rows)


_DIGIT_ANCHORS: Anchors = (((10, 16), (13, 20), (17, 25)), ((21, 30), (24, 37), (30, 43)))
_RES10_EE = tuple((HALF2, width, 2) for width in (64, 128, 256, 512))
_RES18_EE = tuple(row for width in (64, 128, 256, 512) for row in ((HALF2, width, 2), (HALF1, width, 1)))

SIZES = {
    # For small pictures (the handwritten digits): finer scales and narrower blocks.
    "pico": Size(
        16,
        ((EMSBlock1, 32, 2), (EMSBlock1, 64, 2), (EMSBlock1, 64, 1), (EMSBlock1, 128, 2), (EMSBlock1, 128, 1)),
        2, EMSBlock1, EMSBlock1, EMSBlock1, EMSBlock1,
        widths=(96, 128, 32, 64), strides=(8, 16), anchors=_DIGIT_ANCHORS, image_size=96,
    ),
    "resnet10": Size(64, _plain(1, 1, 1, 1, down=EMSBlock2), 2, WIDE, EMSBlock1, EMSBlock1, EMSBlock1),
    "resnet18": Size(64, _plain(2, 2, 2, 2), 5, EMSBlock1, SpikeConv, EMSBlock1, SpikeConv),
    "resnet34": Size(64, _plain(3, 4, 6, 3), 12, WIDE, EMSBlock1, EMSBlock1, EMSBlock1),
    "resnet34-cat": Size(64, _plain(3, 4, 6, 3, down=EMSBlock2), 12, EMSBlock1, SpikeConv, EMSBlock1, SpikeConv),
    "res10-ee": Size(32, _RES10_EE, 2, HALF1, HALF2, HALF1, HALF1, stem_kernel=3),
    "res18-ee": Size(32, _RES18_EE, 5, HALF1, HALF2, HALF1, HALF1, stem_kernel=3),
}  # fmt: skip


class EMSYOLO(nn.Module):
    """The network: (T*B, 3, H, W) in [0, 1] -> two raw head maps (T*B, 3 * (5 + num_classes), H/s, W/s).

    H and W are multiples of the coarse stride. Without neurons with more than one level, D is always 1.

    Args:
        size: a key of ``SIZES``.
        num_classes: number of classes.
        time_steps: T.
        levels: must be 1.
        decay: of the neurons; 0.5 can be certified for float32, EMS-YOLO's own is 0.25.
        threshold: of the neurons.
    """

    def __init__(
        self,
        size: str,
        *,
        num_classes: int,
        time_steps: int = 4,
        levels: int = 1,
        decay: float = 0.5,
        threshold: float = 0.5,
    ) -> None:
        if levels != 1:
            raise ValueError(f"EMS-YOLO's neurons are binary: levels must be 1, not {levels}")
        super().__init__()
        numbers = SIZES[size]
        neuron = partial(LIF, time_steps=time_steps, decay=decay, threshold=threshold)
        self.fine = numbers.fine
        self.stem: nn.Module = ConvBN(3, numbers.stem, numbers.stem_kernel, 2, norm=threshold_norm)
        self.stages = nn.ModuleList()
        channels = numbers.stem
        for block, width, stride in numbers.stages:
            self.stages.append(block(channels, width, 3, stride, neuron=neuron))
            channels = width
        top, coarse, lateral, merge = numbers.widths
        self.top = numbers.top(channels, top, 3, 1, neuron=neuron)
        self.coarse = numbers.coarse(top, coarse, 3, 1, neuron=neuron)
        self.lateral = numbers.lateral(top, lateral, 1, 1, neuron=neuron)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge = numbers.merge(lateral + numbers.stages[self.fine][1], merge, 3, 1, neuron=neuron)
        self.head = AnchorDetect(
            num_classes,
            (merge, coarse),
            strides=numbers.strides,
            anchors_per_cell=len(numbers.anchors[0]),
            neuron=neuron,
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(T*B, 3, H, W) -> raw head maps, finest first."""
        x = self.stem(x)
        fine = x
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index == self.fine:
                fine = x
        top = self.top(x)
        merged = self.merge(torch.cat([self.upsample(self.lateral(top)), fine], dim=1))
        return self.head([merged, self.coarse(top)])

    def fuse_(self, *, merge: bool) -> None:
        """Fold the stem's norm, in place."""
        self.stem = self.stem.fuse(merge=merge)  # type: ignore[operator]


def input_spec(size: str) -> InputSpec:
    """The input of a size at which it was made to run."""
    side = SIZES[size].image_size
    return InputSpec(channels=3, image_size=(side, side))


def decode_spec(size: str) -> DecodeSpec:
    """How the raw head maps of a size become boxes."""
    return DecodeSpec(kind="anchors", strides=SIZES[size].strides, anchors=SIZES[size].anchors)
