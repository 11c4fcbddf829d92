"""What the official checkpoints of EAS-SNN and SpikingYOLOX share: the names of YOLOX's parts, and how rules rename keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

Rule = tuple[str, Mapping[str, str] | None, str]
"""Official pattern with the groups ``part`` and ``rest``, our names of the part (None: the same), and our path."""

STAGES = {
    "dark2.0": "down2", "dark2.1": "stage2",
    "dark3.0": "down3", "dark3.1": "stage3",
    "dark4.0": "down4", "dark4.1": "stage4",
    "dark5.0": "down5", "dark5.1": "pyramid", "dark5.2": "stage5",
}  # fmt: skip
NECK = {
    "lateral_conv0": "lateral5", "C3_p4": "top_down4", "reduce_conv1": "lateral4", "C3_p3": "top_down3",
    "bu_conv2": "down3", "C3_n3": "bottom_up4", "bu_conv1": "down4", "C3_n4": "bottom_up5",
}  # fmt: skip
HEAD = {
    "stems": "stems", "cls_convs": "class_branches", "reg_convs": "box_branches",
    "cls_preds": "classes", "reg_preds": "boxes", "obj_preds": "objectness",
}  # fmt: skip


def translate(key: str, rules: Sequence[Rule], inside: Callable[[str], str]) -> str | None:
    """Our name of an official weight by the first rule that fits, or None where none does or it knows no such part.

    Args:
        key: official name.
        rules: in order.
        inside: our name of what lies within a part.
    """
    for pattern, names, path in rules:
        match = re.fullmatch(pattern, key)
        if match is None:
            continue
        groups = match.groupdict()
        if names is not None and groups["part"] not in names:
            return None
        groups["part"] = groups["part"] if names is None else names[groups["part"]]
        return f"{path.format(**groups)}.{inside(groups['rest'])}"
    return None


def renamed(state: Mapping[str, Tensor], our_name: Callable[[str], str | None]) -> dict[str, Tensor]:
    """A state dict under our names; what belongs to nothing keeps its official one, so that the caller can report it."""
    return {our_name(key) or key: value for key, value in state.items()}
