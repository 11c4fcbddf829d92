"""Official YOLOv3-tiny checkpoints in their PyTorch form: which of their keys is which of ours.

Layers are numbered as in the darknet configuration, those without weights included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

OFFICIAL_SIZES = ("tiny", "tiny-conv")
_LAYERS = {
    "tiny": {
        **{2 * index: f"stages.{index}" for index in range(5)},
        10: "deep.0", 12: "deep.1", 13: "narrow", 14: "coarse", 18: "lateral", 21: "merge",
    },
    "tiny-conv": {
        **{2 * index: f"stages.{index}" for index in range(5)},
        **{2 * index + 1: f"downs.{index}" for index in range(5)},
        10: "deep.0", 11: "deep.1", 12: "narrow", 13: "coarse", 17: "lateral", 18: "up", 20: "merge",
    },
}  # fmt: skip
_HEADS = {"tiny": (22, 15), "tiny-conv": (21, 14)}


def module_names(size: str) -> Iterator[tuple[str, str]]:
    """Pairs (official module, our module) of a size, for every module that holds weights."""
    for index, ours in _LAYERS[size].items():
        kind = "ConvTranspose2d" if ours == "up" else "Conv2d"
        yield f"module_list.{index}.{kind}", f"{ours}.conv.conv"
        yield f"module_list.{index}.BatchNorm2d", f"{ours}.conv.bn"
    for scale, index in enumerate(_HEADS[size]):
        yield f"module_list.{index}.Conv2d", f"head.scales.{scale}.conv"


def convert(state: Mapping[str, Tensor], size: str) -> dict[str, Tensor]:
    """Rename the keys of an official state dict to those of :class:`zoo.detectors.spiking_yolo.model.SpikingYOLO`.

    Keys that belong to no module of this size keep their official names, so that the caller can report them.
    """
    ours_of = dict(module_names(size))
    parts = ((key, *key.rpartition(".")[::2], value) for key, value in state.items())
    return {f"{ours_of[module]}.{leaf}" if module in ours_of else key: value for key, module, leaf, value in parts}
