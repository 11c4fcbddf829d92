"""Spiking-YOLO: object detection by ANN-to-SNN conversion.

Kim, Park, Na, Yoon: "Spiking-YOLO: Spiking Neural Network for Energy-Efficient Object Detection", AAAI 2020. A small YOLO is
trained as an ordinary network with ReLU or LeakyReLU, and then converted: see :mod:`zoo.compression.conversion`.
Written from the paper and from measurements of released models.

``tiny`` is YOLOv3-tiny as it is (LeakyReLU, max-pools); ``tiny-conv`` has strided convolutions in place of pools, a transposed
convolution in place of the upsampling, and ReLU, so that it can be converted; ``pico`` and ``pico-leaky`` are for small
pictures.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from zoo.cards.card import Paper
from zoo.detectors.network import NetworkModule
from zoo.detectors.registry import Official, family
from zoo.detectors.spiking_yolo.importer import OFFICIAL_SIZES, convert
from zoo.detectors.spiking_yolo.sizes import SIZES, decode_spec, input_spec
from zoo.heads.anchors import AnchorDetect
from zoo.layers.conv import ConvBN, Layer, TransposedConvBN

LEAK = 0.1
"""Slope of LeakyReLU below zero."""
_norm = partial(nn.BatchNorm2d, eps=1e-4, momentum=0.03)


class EdgePool(nn.Module):
    """The last max-pool of YOLOv3-tiny: 2x2 at stride 1, with a border of zeros right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), same shape."""
        return nn.functional.max_pool2d(nn.functional.pad(x, (0, 1, 0, 1)), 2, 1)


PAPER = Paper(
    title="Spiking-YOLO: Spiking Neural Network for Energy-Efficient Object Detection",
    authors="Seijoon Kim, Seongsik Park, Byunggook Na, Sungroh Yoon",
    venue="AAAI 2020",
    url="https://arxiv.org/abs/1903.06530",
)


@family(
    "spiking-yolo",
    sizes=SIZES,
    input_spec=input_spec,
    decode_spec=decode_spec,
    official=Official(OFFICIAL_SIZES, convert, is_ann=True),
    paper=PAPER,
    licence="A published implementation is GPL-3.0; this one is written from the paper and from measurements.",
)
class SpikingYOLO(NetworkModule):
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
            from zoo.layers.rate_neurons import SignedIF  # snnTorch is needed to build the network, not to know of it

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

    @property
    def is_ann(self) -> bool:
        """Whether this is the ANN before its conversion."""
        return not self.spiking

    @property
    def streams(self) -> bool:
        """Whether an image may be fed step by step: a rate code of many steps."""
        return self.spiking

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
