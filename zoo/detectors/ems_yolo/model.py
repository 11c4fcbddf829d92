"""EMS-YOLO: deep directly-trained spiking neural networks for object detection.

Su, Chou, Hu, Li, Mei, Zhang, Li: "Deep Directly-Trained Spiking Neural Networks for Object Detection", ICCV 2023. Written from
the paper and from measurements of its released behaviour. In the NIR-native form (see :mod:`zoo.detectors.ems_yolo.blocks`)
hard-reset leaky integrate-and-fire neurons are in front of every pool and of the head's convolutions too; the official form
(see :mod:`zoo.detectors.ems_yolo.official`) computes what the authors' checkpoints were trained for.

The input (T*B, 3, H, W) is the image repeated T times. A residual backbone ends at the coarse stride; the neck brings its
features back to the fine one; each of the two scales has an anchor-based head of one convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.config import Anchors, DecodeSpec, InputSpec
from zoo.detectors.ems_yolo.blocks import EMSBlock1, EMSBlock2, NeuronFactory, SpikeConv
from zoo.detectors.ems_yolo.official import LeakySiLU, OfficialBlock1, OfficialBlock2, OfficialConv
from zoo.heads.anchors import AnchorDetect
from zoo.layers.conv import ConvBN, threshold_norm
from zoo.layers.neurons import LIF

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

    def make(self, form: Form, in_channels: int, out_channels: int, *args: int, neuron: NeuronFactory) -> nn.Module:
        """The block."""
        if self.block == "conv":
            return BLOCKS[form][self.block](in_channels, out_channels, *args, neuron=neuron)
        hidden = self.hidden or int(out_channels * self.share)
        return BLOCKS[form][self.block](in_channels, out_channels, *args, hidden=hidden, neuron=neuron)


Form = Literal["native", "official"]
BLOCKS: dict[Form, dict[str, Callable[..., nn.Module]]] = {
    "native": {"block1": EMSBlock1, "block2": EMSBlock2, "conv": SpikeConv},
    "official": {"block1": OfficialBlock1, "block2": OfficialBlock2, "conv": OfficialConv},
}
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


class EMSYOLO(nn.Module):
    """The network: (T*B, 3, H, W) in [0, 1] -> two raw head maps (T*B, 3 * (5 + num_classes), H/s, W/s).

    H and W are multiples of the coarse stride. Without neurons with more than one level, D is always 1.

    Args:
        size: a key of ``SIZES``.
        num_classes: number of classes.
        time_steps: T.
        levels: must be 1.
        decay: of the neurons; natively 0.5, which can be certified for float32; EMS-YOLO's own is 0.25.
        threshold: of the neurons.
        form: ``native``, or ``official``: what the released models compute, quirks included. It has no NIR form.
    """

    def __init__(
        self,
        size: str,
        *,
        num_classes: int,
        time_steps: int = 4,
        levels: int = 1,
        decay: float | None = None,
        threshold: float = 0.5,
        form: Form = "native",
    ) -> None:
        if form not in BLOCKS:
            raise ValueError(f"form must be 'native' or 'official', not {form!r}")
        if levels != 1:
            raise ValueError(f"EMS-YOLO's neurons are binary: levels must be 1, not {levels}")
        super().__init__()
        numbers = SIZES[size]
        self.form = form
        neuron = partial(
            LIF,
            time_steps=time_steps,
            decay={"native": 0.5, "official": 0.25}[form] if decay is None else decay,
            threshold=threshold,
            scales_input=form == "native",
        )
        self.fine = numbers.fine
        self.stem: nn.Module = ConvBN(3, numbers.stem, numbers.stem_kernel, 2, norm=threshold_norm)
        self.stages = nn.ModuleList()
        channels = numbers.stem
        for kind, width, stride in numbers.stages:
            self.stages.append(kind.make(form, channels, width, 3, stride, neuron=neuron))
            channels = width
        top, coarse, lateral, merge = numbers.widths
        self.top = numbers.top.make(form, channels, top, 3, 1, neuron=neuron)
        self.coarse = numbers.coarse.make(form, top, coarse, 3, 1, neuron=neuron)
        self.lateral = numbers.lateral.make(form, top, lateral, 1, 1, neuron=neuron)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        features = lateral + numbers.stages[self.fine][1]
        self.merge = numbers.merge.make(form, features, merge, 3, 1, neuron=neuron)
        self.head = AnchorDetect(
            num_classes,
            (merge, coarse),
            strides=numbers.strides,
            anchors_per_cell=len(numbers.anchors[0]),
            neuron=neuron if form == "native" else None,
        )

    def without_nir_form(self) -> dict[str, str]:
        """Modules that have no exact NIR form, and why."""
        if self.form == "native":
            return {}
        reasons = {}
        for name, module in self.named_modules():
            if isinstance(module, nn.MaxPool2d):
                reasons[name] = "max-pools real values"
            elif isinstance(module, LeakySiLU):
                reasons[name] = "is a SiLU unit, not a spiking neuron"
        return reasons

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
