"""Official EMS-YOLO checkpoints: which of their keys is which of ours.

The official model is a list of layers: the stem, the stages (blocks that are repeated at one resolution are one layer with one
more number in their keys), then top, coarse, lateral, two layers without weights, merge, and the head with its anchors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from zoo.config import Anchors
from zoo.detectors.ems_yolo.sizes import SIZES, Kind
from zoo.errors import CheckpointError

OFFICIAL_SIZES = tuple(size for size in SIZES if size != "pico")
_RESIDUAL = {
    "residual_function.1": "conv1.conv",
    "residual_function.2.bn": "conv1.bn",
    "residual_function.4": "conv2.conv",
    "residual_function.5.bn": "conv2.bn",
}
_CONV = {"conv": "conv.conv", "bn.bn": "conv.bn"}


def _parts(kind: Kind) -> dict[str, str]:
    """Official and own names within a block. A shortcut that starts with pool and neuron has its convolution third."""
    if kind.block == "conv":
        return _CONV
    first = 2 if kind.block == "block1" and kind.share == 1 else 1
    return _RESIDUAL | {f"shortcut.{first}": "shortcut.conv", f"shortcut.{first + 1}.bn": "shortcut.bn"}


def layers(size: str) -> Iterator[tuple[str, str, Kind]]:
    """(official layer, our module, kind) of every block of a size."""
    numbers = SIZES[size]
    index = 0
    strides = [stride for _, _, stride in numbers.stages]
    repeat = 0
    for position, (kind, _, stride) in enumerate(numbers.stages):
        starts = stride != 1 or strides[position - 1] != 1
        repeat = 0 if starts else repeat + 1
        index += starts
        following = next((i for i in range(position + 1, len(strides)) if strides[i] != 1), len(strides))
        several = stride == 1 and (repeat > 0 or following - position > 1)
        yield f"model.{index}" + (f".{repeat}" if several else ""), f"stages.{position}", kind
    for offset, name in ((1, "top"), (2, "coarse"), (3, "lateral"), (6, "merge")):
        yield f"model.{index + offset}", name, getattr(numbers, name)


def head_index(size: str) -> int:
    """Index of the official head."""
    last = next(layer for layer, name, _ in layers(size) if name == "merge")
    return int(last.split(".")[1]) + 1


def module_names(size: str) -> Iterator[tuple[str, str]]:
    """Pairs (official module, our module) of a size, for every module that holds weights."""
    yield from (("model.0.conv", "stem.conv"), ("model.0.bn.bn", "stem.bn"))
    for theirs, ours, kind in layers(size):
        for official, own in _parts(kind).items():
            yield f"{theirs}.{official}", f"{ours}.{own}"
    for scale in range(2):
        yield f"model.{head_index(size)}.m.{scale}", f"head.scales.{scale}.conv"


def decoding_of(state: Mapping[str, Tensor], size: str) -> dict[str, Anchors]:
    """Anchors in pixels, which training may have changed, as a field of ``DecodeSpec``; none where the checkpoint has none.

    Raises:
        CheckpointError: not two scales of three positive pairs.
    """
    found = state.get(f"model.{head_index(size)}.anchors")
    if found is None:
        return {}
    if tuple(found.shape) != (2, 3, 2) or not bool((found > 0).all()):
        raise CheckpointError(
            f"the anchors of the checkpoint do not fit ems-yolo-{size}: expected (2, 3, 2) positive numbers"
        )
    pixels = found.double() * torch.tensor(SIZES[size].strides, dtype=torch.float64).view(2, 1, 1)
    return {"anchors": tuple(tuple((float(w), float(h)) for w, h in scale) for scale in pixels.tolist())}


def convert(state: Mapping[str, Tensor], size: str) -> dict[str, Tensor]:
    """Rename the keys of an official state dict to those of :class:`~zoo.detectors.ems_yolo.model.EMSYOLO`, without anchors.

    Keys that belong to no module of this size keep their official names, so that the caller can report them.
    """
    ours_of = dict(module_names(size))
    anchors = f"model.{head_index(size)}.anchors"
    converted = {}
    for key, value in state.items():
        if key == anchors:
            continue
        module, _, leaf = key.rpartition(".")
        converted[f"{ours_of[module]}.{leaf}" if module in ours_of else key] = value
    return converted
