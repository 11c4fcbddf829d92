"""EAS-SNN: adaptive sampling of events, and a spiking YOLOX.

Wang, Wang, Li, Qin, Jiang, Ma, Tang: "EAS-SNN: End-to-End Adaptive Sampling and Representation for Event-based Detection with
Recurrent Spiking Neural Networks", ECCV 2024. Written from the paper and from measurements of its released behaviour.

The detector takes micro-slices of events (Tm, B, 2, H, W), oldest first. The encoder (:mod:`zoo.detectors.eas_snn.sampler`),
which lies outside the NIR graph, turns them into frames; the network (T*B, 2, H, W) is a CSP backbone, a path aggregation neck
and a decoupled head with parametric LIF neurons of soft reset.

The released stem is analog: Focus and SiLU. The native form has a spiking 6x6 convolution of stride 2 in its place, which spans
the same pixels.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn

from zoo.cards.card import Paper
from zoo.detectors.eas_snn.importer import OFFICIAL_SIZES, convert, variant_of
from zoo.detectors.eas_snn.sampler import AdaptiveSampler
from zoo.detectors.eas_snn.sizes import SIZES, decode_spec, input_spec
from zoo.detectors.encoder import EventEncoder, FixedWindows
from zoo.detectors.network import NetworkModule
from zoo.detectors.registry import Official, family
from zoo.detectors.yolox.blocks import PAFPN, CSPDarknet, analog_modules, stem
from zoo.heads.yolox import YOLOXHead

Form = Literal["native", "official"]
Spiking = Literal["backbone", "backbone+neck", "all"]
SPIKING: dict[str, tuple[bool, bool, bool]] = {
    "backbone": (True, False, False),
    "backbone+neck": (True, True, False),
    "all": (True, True, True),
}
"""Which of backbone, neck and head are made of neurons."""


def encoder(
    size: str,
    *,
    tm: int = 4,
    ts: int = 1,
    sampler: Literal["adaptive", "fixed"] = "adaptive",
    rpd: bool = True,
    sat: bool = True,
    kernel: int = 5,
    depth: int = 2,
) -> EventEncoder:
    """What makes frames of micro-slices; see :mod:`zoo.detectors.eas_snn.sampler`.

    Args:
        size: a key of ``SIZES``; all have the same encoder.
        tm, ts: micro-slices that come in, frames that come out.
        sampler: ``adaptive``, or ``fixed`` windows.
        rpd, sat, kernel, depth: of the adaptive sampler.

    Raises:
        InvalidInputError: numbers that do not fit.
    """
    del size
    if sampler not in {"adaptive", "fixed"}:
        raise ValueError(f"sampler must be 'adaptive' or 'fixed', not {sampler!r}")
    if sampler == "fixed":
        return FixedWindows(tm=tm, ts=ts)
    return AdaptiveSampler(tm=tm, ts=ts, rpd=rpd, sat=sat, kernel=kernel, depth=depth)


PAPER = Paper(
    title=(
        "EAS-SNN: End-to-End Adaptive Sampling and Representation for Event-based Detection with Recurrent Spiking Neural "
        "Networks"
    ),
    authors="Ziming Wang, Ziling Wang, Huaning Li, Lang Qin, Runhao Jiang, De Ma, Huajin Tang",
    venue="ECCV 2024",
    url="https://arxiv.org/abs/2403.12574",
)


@family(
    "eas-snn",
    sizes=SIZES,
    input_spec=input_spec,
    decode_spec=decode_spec,
    time_steps=3,
    encoder=encoder,
    official=Official(OFFICIAL_SIZES, convert, variant={"form": "official"}, variant_of=variant_of),
    paper=PAPER,
    licence="The authors' code is Apache-2.0; this implementation is written from the paper and from measurements.",
)
class EASSNN(NetworkModule):
    """The network: (T*B, 2, H, W) -> three raw head maps (T*B, 5 + num_classes, H/s, W/s), finest first.

    Where the neck or the head is analog, features are averaged over T in front of it, and the maps are (B, ...).

    Args:
        size: a key of ``SIZES``.
        num_classes: number of classes.
        time_steps: T.
        levels: must be 1.
        spiking: what is made of neurons: ``backbone``, ``backbone+neck`` or ``all``. Only ``all`` has a NIR form.
        form: ``native``, or ``official``, whose stem is analog.
        decay: of the neurons in the beginning; it is learned.
    """

    def __init__(
        self,
        size: str,
        *,
        num_classes: int,
        time_steps: int = 3,
        levels: int = 1,
        spiking: Spiking = "all",
        form: Form = "native",
        decay: float = 0.5,
    ) -> None:
        if spiking not in SPIKING or form not in {"native", "official"}:
            raise ValueError(
                f"spiking must be one of {', '.join(SPIKING)} and form 'native' or 'official', got spiking={spiking!r}, "
                f"form={form!r}"
            )
        if levels != 1:
            raise ValueError(f"EAS-SNN's neurons are binary: levels must be 1, not {levels}")
        from zoo.layers.neurons import PLIF  # snnTorch is needed to build the network, not to know of it

        super().__init__()
        numbers = SIZES[size]
        self.time_steps = time_steps
        neuron = partial(PLIF, time_steps=time_steps, decay=decay)
        backbone, neck, head = (neuron if fires else nn.SiLU for fires in SPIKING[spiking])
        _, self.neck_spikes, self.head_spikes = SPIKING[spiking]
        channels = [4 * numbers.width, 8 * numbers.width, 16 * numbers.width]
        first = stem(2, numbers.width, analog=form == "official", act=backbone)
        self.backbone = CSPDarknet(first, numbers.width, numbers.depth, act=backbone)
        self.neck = PAFPN(channels, numbers.depth, act=neck)
        self.head = YOLOXHead(num_classes, channels, 4 * numbers.width, act=head)

    @property
    def averages_time(self) -> bool:
        """Whether the maps are averaged over T already."""
        return not self.head_spikes

    def forward(self, x: Tensor) -> list[Tensor]:
        """(T*B, 2, H, W) -> raw head maps, finest first."""
        features = self.backbone(x)
        if not self.neck_spikes:
            features = self._mean(features)
        features = self.neck(features)
        if self.neck_spikes and not self.head_spikes:
            features = self._mean(features)
        return self.head(features)

    def _mean(self, features: list[Tensor]) -> list[Tensor]:
        return [feature.unflatten(0, (self.time_steps, -1)).mean(0) for feature in features]

    def without_nir_form(self) -> dict[str, str]:
        """Modules that have no exact NIR form, and why."""
        return analog_modules(self)
