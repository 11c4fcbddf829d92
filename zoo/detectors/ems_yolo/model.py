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
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.cards.card import Paper
from zoo.detectors.ems_yolo.blocks import EMSBlock1, EMSBlock2, SpikeConv
from zoo.detectors.ems_yolo.importer import OFFICIAL_SIZES, convert, decoding_of
from zoo.detectors.ems_yolo.official import LeakySiLU, OfficialBlock1, OfficialBlock2, OfficialConv
from zoo.detectors.ems_yolo.sizes import SIZES, Kind, decode_spec, input_spec
from zoo.detectors.network import NetworkModule
from zoo.detectors.registry import Official, family
from zoo.heads.anchors import AnchorDetect
from zoo.layers.conv import ConvBN, NeuronFactory, threshold_norm

Form = Literal["native", "official"]
BLOCKS: dict[Form, dict[str, Callable[..., nn.Module]]] = {
    "native": {"block1": EMSBlock1, "block2": EMSBlock2, "conv": SpikeConv},
    "official": {"block1": OfficialBlock1, "block2": OfficialBlock2, "conv": OfficialConv},
}


def _block(kind: Kind, form: Form, in_channels: int, out_channels: int, *args: int, neuron: NeuronFactory) -> nn.Module:
    make = BLOCKS[form][kind.block]
    if kind.block == "conv":
        return make(in_channels, out_channels, *args, neuron=neuron)
    hidden = kind.hidden or int(out_channels * kind.share)
    return make(in_channels, out_channels, *args, hidden=hidden, neuron=neuron)


PAPER = Paper(
    title="Deep Directly-Trained Spiking Neural Networks for Object Detection",
    authors="Qiaoyi Su, Yuhong Chou, Yifan Hu, Jianing Li, Shijie Mei, Ziyang Zhang, Guoqi Li",
    venue="ICCV 2023",
    url="https://arxiv.org/abs/2307.11411",
)


@family(
    "ems-yolo",
    sizes=SIZES,
    input_spec=input_spec,
    decode_spec=decode_spec,
    time_steps=4,
    official=Official(OFFICIAL_SIZES, convert, variant={"form": "official"}, decoding_of=decoding_of),
    paper=PAPER,
    licence="The authors' code is GPL-3.0; this implementation is written from the paper and from measurements.",
)
class EMSYOLO(NetworkModule):
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
        from zoo.layers.neurons import LIF  # snnTorch is needed to build the network, not to know of it

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
            self.stages.append(_block(kind, form, channels, width, 3, stride, neuron=neuron))
            channels = width
        top, coarse, lateral, merge = numbers.widths
        self.top = _block(numbers.top, form, channels, top, 3, 1, neuron=neuron)
        self.coarse = _block(numbers.coarse, form, top, coarse, 3, 1, neuron=neuron)
        self.lateral = _block(numbers.lateral, form, top, lateral, 1, 1, neuron=neuron)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        features = lateral + numbers.stages[self.fine][1]
        self.merge = _block(numbers.merge, form, features, merge, 3, 1, neuron=neuron)
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
