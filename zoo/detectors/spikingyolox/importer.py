"""Checkpoints of the published SpikingYOLOX code: which of their keys is which of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from zoo.detectors.spikingyolox.sizes import SIZES
from zoo.detectors.yolox.names import HEAD, NECK, STAGES, Rule, renamed, translate

OFFICIAL_SIZES = tuple(size for size in SIZES if size != "pico")
_FFC = {
    "ffc.convl2l": "local_to_local", "ffc.convl2g": "local_to_global", "ffc.convg2l": "global_to_local",
    "ffc.convg2g.conv1.0": "global_to_global.reduce.conv", "ffc.convg2g.conv1.1": "global_to_global.reduce.bn",
    "ffc.convg2g.fu.conv_layer": "global_to_global.unit.conv.conv",
    "ffc.convg2g.fu.bn": "global_to_global.unit.conv.bn", "ffc.convg2g.conv2": "global_to_global.expand",
    "bn_l": "norm_local", "bn_g": "norm_global",
}  # fmt: skip
_RULES: list[Rule] = [
    (r"backbone\.backbone\.stem\.(?P<part>conv)\.(?P<rest>.+)", None, "backbone.stem.{part}"),
    (r"backbone\.backbone\.(?P<part>dark\d\.\d)\.(?P<rest>.+)", STAGES, "backbone.{part}"),
    (r"backbone\.(?P<part>\w+)\.(?P<rest>.+)", NECK, "neck.{part}"),
    (r"head\.(?P<part>\w+_preds)\.(?P<scale>\d)\.(?P<rest>weight|bias)", HEAD, "head.{part}.{scale}"),
    (
        r"head\.(?P<part>stems|cls_convs|reg_convs)\.(?P<scale>\d(?:\.\d)?)\.(?P<rest>(?:\wconv\.)?(?:conv|bn)\..+)",
        HEAD,
        "head.{part}.{scale}",
    ),
]


def block_name(rest: str) -> str:
    """Our name of a weight within a Fourier block, such as ``ffc1.bn_l.weight``."""
    match = re.fullmatch(r"(ffc[12])\.(.+)\.(\w+)", rest)
    if match is None or match[2] not in _FFC:
        return rest
    return f"{match[1]}.{_FFC[match[2]]}.{match[3]}"


def _inside(rest: str) -> str:
    """Names within a stage: a CSP layer's blocks, depthwise and pointwise parts, and units of convolution and norm."""
    if match := re.fullmatch(r"m\.(\d+)\.(ffc[12]\..+)", rest):
        return f"blocks.{match[1]}.{block_name(match[2])}"
    rest = re.sub(r"^m\.", "blocks.", rest)
    rest = re.sub(r"\bdconv\b", "depthwise", re.sub(r"\bpconv\b", "pointwise", rest))
    return re.sub(r"(^|\.)(conv|bn)\.(?=\w+$)", r"\1conv.\2.", rest)


def our_name(key: str) -> str | None:
    """Our name of an official weight, or None for one that belongs to no part of the architecture."""
    return translate(key, _RULES, _inside)


def convert(state: Mapping[str, Tensor], size: str) -> dict[str, Tensor]:
    """Rename official keys to those of :class:`zoo.detectors.spikingyolox.model.SpikingYOLOX`.

    Keys that belong to nothing keep their official names, so that the caller can report them.
    """
    del size
    return renamed(state, our_name)
