"""SpikeYOLO: integer-valued training and spike-driven inference for object detection.

Luo, Yao, Chou, Xu, Li: "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and
Energy-efficient Object Detection", ECCV 2024. Written from the paper and from measurements of its released behaviour.

The input (T*B, 3, H, W) is the image repeated T times. The backbone has four stages at strides 4, 8, 16 and 32, then
spatial pyramid pooling; the neck is a path aggregation network (top-down, then bottom-up); the head is decoupled and
anchor-free with strides 8, 16 and 32.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.cards.card import Paper
from zoo.detectors.network import NetworkModule
from zoo.detectors.registry import Official, family
from zoo.detectors.spikeyolo.blocks import MSAllConvBlock, MSConvBlock, SpikeSPPF
from zoo.detectors.spikeyolo.importer import OFFICIAL_SIZES, convert
from zoo.detectors.spikeyolo.sizes import SIZES, STRIDES, Size, decode_spec, input_spec
from zoo.heads.dfl import SpikeDetect
from zoo.layers.conv import ConvBN, NeuronFactory, SpikeConv


def _stage(block: type[nn.Module], channels: int, ratio: int, depth: int, neuron: NeuronFactory) -> nn.Sequential:
    return nn.Sequential(*(block(channels, ratio, neuron=neuron) for _ in range(depth)))


class Backbone(nn.Module):
    """(N, 3, H, W) -> features at strides 8, 16 and 32."""

    def __init__(self, size: Size, *, form: str, neuron: NeuronFactory) -> None:
        super().__init__()
        stem_width, kernel, stride, padding = size.stem
        c2, c3, c4, c5 = size.widths
        n2, n3, n4, n5 = size.depths
        r2, r3, r4, r5 = size.ratios
        down = partial(SpikeConv, kernel_size=3, stride=2, neuron=neuron, conv_bias=True)
        self.stem: nn.Module = ConvBN(3, stem_width, kernel, stride, padding=padding, bias=True)
        self.down2 = down(stem_width, c2) if stride == 2 else nn.Identity()
        self.stage2 = _stage(MSAllConvBlock, c2, r2, n2, neuron)
        self.down3 = down(c2, c3)
        self.stage3 = _stage(MSAllConvBlock, c3, r3, n3, neuron)
        self.down4 = down(c3, c4)
        self.stage4 = _stage(MSConvBlock, c4, r4, n4, neuron)
        self.down5 = down(c4, c5)
        self.stage5 = _stage(MSConvBlock, c5, r5, n5, neuron)
        self.sppf = SpikeSPPF(c5, form=form, neuron=neuron)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> strides 8, 16, 32."""
        p2 = self.stage2(self.down2(self.stem(x)))
        p3 = self.stage3(self.down3(p2))
        p4 = self.stage4(self.down4(p3))
        p5 = self.sppf(self.stage5(self.down5(p4)))
        return p3, p4, p5

    def fuse_(self, *, merge: bool) -> None:
        """Fold the stem's batch norm, in place."""
        self.stem = self.stem.fuse(merge=merge)  # type: ignore[operator]


class Neck(nn.Module):
    """Path aggregation: features at strides 8, 16, 32 -> features at strides 8, 16, 32."""

    def __init__(self, size: Size, *, neuron: NeuronFactory) -> None:
        super().__init__()
        _, p3, p4, p5 = size.widths
        c3, c4 = size.neck
        r3, r4, r5 = size.neck_ratios
        conv = partial(SpikeConv, neuron=neuron)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.reduce5 = conv(p5, c4, 1)
        self.top_down4 = MSConvBlock(c4, r4, neuron=neuron)
        self.reduce4 = conv(c4 + p4, c3, 1)
        self.top_down3 = MSAllConvBlock(c3, r3, neuron=neuron)
        self.reduce3 = conv(c3 + p3, c3, 1)
        self.out3 = MSAllConvBlock(c3, r3, neuron=neuron)
        self.down3 = conv(c3, c3, 3, 2)
        self.out4 = MSConvBlock(2 * c3, r4, neuron=neuron)
        self.down4 = conv(2 * c3, c4, 3, 2)
        self.out5 = MSConvBlock(2 * c4, r5, neuron=neuron)
        self.out_channels = (c3, 2 * c3, 2 * c4)

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """Features at strides 8, 16, 32 -> the same, aggregated."""
        p3, p4, p5 = features
        lateral5 = self.reduce5(p5)
        top4 = self.top_down4(self.upsample(lateral5))
        lateral4 = self.reduce4(torch.cat([top4, p4], dim=1))
        top3 = self.top_down3(self.upsample(lateral4))
        n3 = self.out3(self.reduce3(torch.cat([top3, p3], dim=1)))
        n4 = self.out4(torch.cat([self.down3(n3), lateral4], dim=1))
        n5 = self.out5(torch.cat([self.down4(n4), lateral5], dim=1))
        return [n3, n4, n5]


PAPER = Paper(
    title=(
        "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and "
        "Energy-efficient Object Detection"
    ),
    authors="Xinhao Luo, Man Yao, Yuhong Chou, Bo Xu, Guoqi Li",
    venue="ECCV 2024",
    url="https://arxiv.org/abs/2407.20708",
)


@family(
    "spikeyolo",
    sizes=SIZES,
    input_spec=input_spec,
    decode_spec=decode_spec,
    levels=4,
    official=Official(OFFICIAL_SIZES, convert, variant={"form": "official", "rounding": "half_even"}, time_steps=1),
    paper=PAPER,
    licence="The authors' code is AGPL-3.0; this implementation is written from the paper and from measurements.",
)
class SpikeYOLO(NetworkModule):
    """The network: (T*B, 3, H, W) in [0, 1] -> three raw head maps (T*B, 4 * reg_max + num_classes, H/s, W/s).

    H and W are multiples of 32.

    Args:
        size: ``pico``, ``n``, ``s``, ``m`` or ``l``.
        num_classes: number of classes.
        time_steps: T.
        levels: D of the I-LIF neurons.
        decay: of the I-LIF neurons.
        form: ``native`` or ``official``, see :class:`zoo.detectors.spikeyolo.blocks.SpikeSPPF`.
        rounding: of the I-LIF neurons; the official form rounds half to even.
    """

    def __init__(
        self,
        size: str,
        *,
        num_classes: int,
        time_steps: int = 1,
        levels: int = 4,
        decay: float = 0.25,
        form: str = "native",
        rounding: Literal["strict", "half_even"] = "strict",
    ) -> None:
        if form not in {"native", "official"} or rounding not in {"strict", "half_even"} or not 0 <= decay <= 1:
            raise ValueError(
                "form must be 'native' or 'official', rounding 'strict' or 'half_even', and decay in 0..1; "
                f"got form={form!r}, rounding={rounding!r}, decay={decay!r}"
            )
        from zoo.layers.neurons import ILIF  # snnTorch is needed to build the network, not to know of it

        super().__init__()
        numbers = SIZES[size]
        neuron = partial(ILIF, levels, time_steps=time_steps, decay=decay, rounding=rounding)
        self.backbone = Backbone(numbers, form=form, neuron=neuron)
        self.neck = Neck(numbers, neuron=neuron)
        self.head = SpikeDetect(
            num_classes, self.neck.out_channels, strides=STRIDES, reg_max=numbers.reg_max, neuron=neuron
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(T*B, 3, H, W) -> raw head maps, finest first."""
        return self.head(self.neck(self.backbone(x)))
