"""Official SpikeYOLO checkpoints: which of their keys is which of ours.

The official model is a list of layers, ``model.1`` (stem) to ``model.26`` (head). A layer that is repeated more than once
has one more number in its keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from zoo.detectors.spikeyolo.sizes import SIZES
from zoo.errors import CheckpointError

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_SEPARABLE = {
    "Conv.pwconv1": "separable.expand.conv",
    "Conv.bn1": "separable.expand.bn",
    "Conv.dwconv2": "separable.depthwise.conv",
    "Conv.bn2": "separable.depthwise.bn",
    "Conv.pwconv3.body.0.bn": "separable.project.pad.bn",
    "Conv.pwconv3.body.1.0": "separable.project.project",
    "Conv.pwconv3.body.1.1": "separable.project.depthwise",
    "Conv.bn3": "separable.bn",
}
_ALL_CONV = _SEPARABLE | {f"conv{i}.{part}": f"conv{i}.{part}" for i in (1, 2) for part in ("conv", "bn")}
_REP = {
    "body.0": "0.expand",
    "body.1.bn": "0.pad.bn",
    "body.2.0": "0.depthwise",
    "body.2.1": "0.project",
    "body.2.2": "0.bn",
}
_CONV = (
    _SEPARABLE
    | {f"conv{i}.{theirs}": f"conv{i}.{ours}" for i in (1, 2) for theirs, ours in _REP.items()}
    | {f"bn{i}": f"conv{i}.1" for i in (1, 2)}
)
_DOWN = {"encode_conv": "conv.conv", "encode_bn": "conv.bn"}
_STANDARD = {"conv": "conv.conv", "bn": "conv.bn"}
_STEM = {"encode_conv": "conv", "encode_bn": "bn"}
_SPPF = {"cv1.conv": "reduce.conv.conv", "cv1.bn": "reduce.conv.bn", "cv2.conv": "expand.conv", "cv2.bn": "expand.bn"}
_HEAD = {
    f"{theirs}.{scale}.{depth}.{part}": f"{ours}.{scale}.{depth}.conv" + (f".{part}" if depth < 2 else "")
    for theirs, ours in (("cv2", "box"), ("cv3", "cls"))
    for scale in range(3)
    for depth, part in ((0, "conv"), (0, "bn"), (1, "conv"), (1, "bn"), (2, "conv"))
}
# official layer -> (our module, its parts, index of its stage where it is repeated)
_LAYERS: dict[int, tuple[str, dict[str, str], int | None]] = {
    1: ("backbone.stem", _STEM, None),
    2: ("backbone.stage2", _ALL_CONV, 0),
    3: ("backbone.down3", _DOWN, None),
    4: ("backbone.stage3", _ALL_CONV, 1),
    5: ("backbone.down4", _DOWN, None),
    6: ("backbone.stage4", _CONV, 2),
    7: ("backbone.down5", _DOWN, None),
    8: ("backbone.stage5", _CONV, 3),
    9: ("backbone.sppf", _SPPF, None),
    10: ("neck.reduce5", _STANDARD, None),
    12: ("neck.top_down4", _CONV, None),
    14: ("neck.reduce4", _STANDARD, None),
    16: ("neck.top_down3", _ALL_CONV, None),
    18: ("neck.reduce3", _STANDARD, None),
    19: ("neck.out3", _ALL_CONV, None),
    20: ("neck.down3", _STANDARD, None),
    22: ("neck.out4", _CONV, None),
    23: ("neck.down4", _STANDARD, None),
    25: ("neck.out5", _CONV, None),
    26: ("head", _HEAD, None),
}
DFL = "model.26.dfl.conv.weight"
OFFICIAL_SIZES = ("n", "s", "m", "l")


def module_names(size: str) -> Iterator[tuple[str, str]]:
    """Pairs (official module, our module) of a size, for every module that holds weights."""
    for index, (ours, parts, stage) in _LAYERS.items():
        depth = SIZES[size].depths[stage] if stage is not None else 1
        for repeat in range(depth):
            theirs = f"model.{index}" + (f".{repeat}" if depth > 1 else "")
            inner = ours if stage is None else f"{ours}.{repeat}"
            for official, own in parts.items():
                yield f"{theirs}.{official}", f"{inner}.{own}"


def convert(state: Mapping[str, Tensor], size: str) -> dict[str, Tensor]:
    """Rename the keys of an official state dict to those of :class:`zoo.detectors.spikeyolo.model.SpikeYOLO`.

    The frozen weight 0..15 of the official DFL layer is checked and left out. Keys that belong to no module of this size
    are kept under their official names, so that the caller can report them.

    Raises:
        CheckpointError: the DFL weight is not 0, 1, 2, ...
    """
    ours_of = dict(module_names(size))
    converted = {}
    for key, value in state.items():
        if key == DFL:
            if not torch.equal(value.flatten().double(), torch.arange(value.numel(), dtype=torch.float64)):
                raise CheckpointError(f"the constant {DFL} is not 0, 1, 2, ...: this is no SpikeYOLO checkpoint")
            continue
        module, _, leaf = key.rpartition(".")
        converted[f"{ours_of[module]}.{leaf}" if module in ours_of else key] = value
    return converted
