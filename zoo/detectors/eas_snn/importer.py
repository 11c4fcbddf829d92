"""Official EAS-SNN checkpoints: which of their keys is which of ours.

The official model wraps what it does not convert to spikes, and every convolution of what it does, in a container, which adds
one more ``.0`` to the key. So the keys tell which parts are spiking.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.detectors.eas_snn.sizes import SIZES
from zoo.detectors.yolox.names import HEAD, NECK, STAGES, Rule, renamed, translate

OFFICIAL_SIZES = tuple(size for size in SIZES if size != "pico")
_SAMPLER = {"input_conv": "input_net", "gate_conv": "gate_net"}


def _inside(rest: str) -> str:
    """Names within a stage: a CSP layer's blocks, and ``conv``, ``bn`` and ``act`` of a convolution unit."""
    rest = re.sub(r"^m\.", "blocks.", rest)
    rest = re.sub(r"(^|\.)conv\.(0\.)?(?=weight$)", r"\1conv.conv.", rest)
    return re.sub(r"(^|\.)bn\.", r"\1conv.bn.", rest)


_RULES: list[Rule] = [
    (r"embedding\.(?P<part>input_conv|gate_conv)\.(?P<rest>.+)", _SAMPLER, "encoder.{part}"),
    (r"backbone\.backbone\.stem\.(?:0\.)?(?P<part>conv)\.(?P<rest>.+)", None, "network.backbone.stem.{part}"),
    (r"backbone\.backbone\.(?P<part>dark\d\.\d)\.(?P<rest>.+)", STAGES, "network.backbone.{part}"),
    (r"backbone\.(?P<part>\w+)\.(?P<rest>.+)", NECK, "network.neck.{part}"),
    (r"head\.(?P<part>\w+_preds)\.(?P<scale>\d)\.(?:0\.)?(?P<rest>weight|bias)", HEAD, "network.head.{part}.{scale}"),
    (
        r"head\.(?P<part>stems|cls_convs|reg_convs)\.(?P<scale>\d(?:\.\d)?)\.(?P<rest>(?:conv|bn|act)\..+)",
        HEAD,
        "network.head.{part}.{scale}",
    ),
]


def our_name(key: str) -> str | None:
    """Our name of an official weight, or None for one that belongs to no part of the architecture."""
    return translate(key, _RULES, _inside)


def convert(state: Mapping[str, Tensor], size: str) -> dict[str, Tensor]:
    """Rename official keys to those of the whole detector, network and encoder.

    Keys that belong to nothing keep their official names, so that the caller can report them.
    """
    del size
    return renamed(state, our_name)


def variant_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of the architecture that the keys tell: what is spiking, and the sampler's convolutions."""
    neck, head = (any(key.startswith(prefix) for key in state) for prefix in
                  ("backbone.lateral_conv0.act.", "head.stems.0.act."))  # fmt: skip
    found: dict[str, Any] = {"spiking": "all" if head else "backbone+neck" if neck else "backbone"}
    convs = [value for key, value in state.items() if re.fullmatch(r"embedding\.input_conv\.\d+\.weight", key)]
    if convs and convs[0].dim() == 4:
        found |= {"kernel": convs[0].shape[-1], "depth": len(convs)}
    return found
