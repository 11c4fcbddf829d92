"""Spiking-YOLO: object detection by ANN-to-SNN conversion.

Kim, Park, Na, Yoon: "Spiking-YOLO: Spiking Neural Network for Energy-Efficient Object Detection", AAAI 2020. A small YOLO is
trained as an ordinary network with ReLU or LeakyReLU, and then converted: see :mod:`zoo.compression.conversion`.
Written from the paper and from measurements of released models.

``tiny`` is YOLOv3-tiny as it is (LeakyReLU, max-pools); ``tiny-conv`` has strided convolutions in place of pools, a transposed
convolution in place of the upsampling, and ReLU, so that it can be converted; ``pico`` and ``pico-leaky`` are for small
pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.config import Anchors, DecodeSpec, InputSpec
from zoo.heads.anchors import AnchorDetect
from zoo.layers.conv import ConvBN, Layer, TransposedConvBN
from zoo.layers.rate_neurons import SignedIF

LEAK = 0.1
"""Slope of LeakyReLU below zero."""
_COCO = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
_TINY: Anchors = (_COCO[1:4], _COCO[3:])  # the finer scale takes anchors 1 to 3, as the released configuration does
_DIGITS: Anchors = (((10, 16), (13, 20), (17, 25)), ((21, 30), (24, 37), (30, 43)))
_norm = partial(nn.BatchNorm2d, eps=1e-4, momentum=0.03)


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


class EdgePool(nn.Module):
    """The last max-pool of YOLOv3-tiny: 2x2 at stride 1, with a border of zeros right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), same shape."""
        return nn.functional.max_pool2d(nn.functional.pad(x, (0, 1, 0, 1)), 2, 1)


class SpikingYOLO(nn.Module):
    """The network: (T*B, 3, H, W) in [0, 1] -> two raw head maps (T*B, 3 * (5 + num_classes), H/s, W/s), finest first.

    Args:
        size: a key of ``SIZES``.
        num_classes: number of classes.
        time_steps: T of the converted form; 1 for an ANN.
        levels: must be 1.
        spiking: the converted form, with integrate-and-fire neurons (signed ones for LeakyReLU) in place of activations.
    """

    def __init__(
        self, size: str, *, num_classes: int, time_steps: int = 1, levels: int = 1, spiking: bool = False
    ) -> None:
        if levels != 1:
            raise ValueError(f"Spiking-YOLO's neurons are binary: levels must be 1, not {levels}")
        if not spiking and time_steps != 1:
            raise ValueError(f"an ANN has no time steps (time_steps = {time_steps}); convert it: zoo convert")
        super().__init__()
        numbers = self.numbers = SIZES[size]
        if spiking and numbers.down == "pool":
            raise ValueError(
                f"spiking-yolo-{size} pools maxima, which have no exact rate-coded form; use a -conv variant"
            )
        self.spiking, self.time_steps = spiking, time_steps
        self.stages = nn.ModuleList()
        self.downs = nn.ModuleList()
        channels = 3
        for index, width in enumerate(numbers.widths):
            self.stages.append(self._layer(channels, width, 3, numbers.stem_stride if index == 0 else 1))
            self.downs.append(nn.MaxPool2d(2, 2) if numbers.down == "pool" else self._layer(width, width, 3, 2))
            channels = width
        self.deep = nn.ModuleList()
        for width in numbers.deep:
            self.deep.append(self._layer(channels, width, 3))
            channels = width
        self.edge: nn.Module = EdgePool() if numbers.down == "pool" else nn.Identity()
        self.narrow = self._layer(channels, numbers.narrow, 1)
        self.coarse = self._layer(numbers.narrow, numbers.coarse, 3)
        self.lateral = self._layer(numbers.narrow, numbers.lateral, 1)
        self.up: nn.Module = nn.Upsample(scale_factor=2, mode="nearest")
        if numbers.up == "transposed":
            self.up = Layer(TransposedConvBN(numbers.lateral, numbers.lateral, norm=_norm), self._activation())
        self.merge = self._layer(numbers.lateral + numbers.widths[-1], numbers.merge, 3)
        self.head = AnchorDetect(
            num_classes,
            (numbers.merge, numbers.coarse),
            strides=numbers.strides,
            anchors_per_cell=len(numbers.anchors[0]),
            neuron=None,
        )

    def _activation(self) -> nn.Module:
        leaky = self.numbers.activation == "leaky"
        if self.spiking:
            return SignedIF(time_steps=self.time_steps, slope=LEAK if leaky else 0.0)
        return nn.LeakyReLU(LEAK) if leaky else nn.ReLU()

    def _layer(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> Layer:
        return Layer(ConvBN(inputs, outputs, kernel, stride, norm=_norm), self._activation())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(T*B, 3, H, W) -> raw head maps, finest first."""
        fine = x
        for stage, down in zip(self.stages, self.downs, strict=True):
            fine = stage(x)
            x = down(fine)
        for index, layer in enumerate(self.deep):
            x = layer(x)
            if index == 0:
                x = self.edge(x)
        narrow = self.narrow(x)
        merged = self.merge(torch.cat([self.up(self.lateral(narrow)), fine], dim=1))
        return self.head([merged, self.coarse(narrow)])

    def without_nir_form(self) -> dict[str, str]:
        """Modules that have no exact NIR form, and why."""
        if self.spiking:
            return {}
        kinds: dict[type, str] = {
            nn.ReLU: "is analog: convert the ANN to spikes first (zoo convert)",
            nn.LeakyReLU: "is analog: convert the ANN to spikes first (zoo convert)",
            nn.MaxPool2d: "max-pools real values",
            EdgePool: "max-pools real values",
        }
        return {name: kinds[type(module)] for name, module in self.named_modules() if type(module) in kinds}


def input_spec(size: str) -> InputSpec:
    """The input of a size at which it was made to run."""
    side = SIZES[size].image_size
    return InputSpec(channels=3, image_size=(side, side))


def decode_spec(size: str) -> DecodeSpec:
    """How the raw head maps of a size become boxes."""
    numbers = SIZES[size]
    fields: dict[str, Any] = {"kind": numbers.kind, "strides": numbers.strides, "anchors": numbers.anchors}
    return DecodeSpec(**fields)
