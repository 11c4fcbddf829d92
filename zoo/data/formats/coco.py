"""COCO as it is downloaded, as Roboflow exports it, and as one annotation file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.data.coco import coco_contents
from zoo.data.coco_json import read_coco
from zoo.data.faults import Report
from zoo.data.imageset import Contents
from zoo.data.registry import UNSPLIT, ImageFormat, register

ROBOFLOW = "_annotations.coco.json"
OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")
"""Beginnings of COCO's annotation files that do not hold boxes of all classes."""
HEAD = 65_536


@register
class Coco(ImageFormat):
    """COCO JSON."""

    name = "coco"
    title = "COCO"
    layout = (
        "annotations/instances_SPLIT.json or annotations/SPLIT.json, with images in SPLIT/, images/SPLIT/ or images/; or "
        "SPLIT/_annotations.coco.json beside the images (Roboflow); or one .json file"
    )
    priority = 10

    def splits(self, root: Path) -> Sequence[str]:
        """See :meth:`zoo.data.registry.DataFormat.splits`."""
        return list(_files(root))

    def read(self, root: Path, split: str, report: Report) -> Contents:
        """See :meth:`zoo.data.registry.ImageFormat.read`."""
        path = _files(root)[split]
        top = root if root.is_dir() else root.parent
        folders = [top / split, top / "images" / split, top / "images", top, path.parent]
        if path.name == ROBOFLOW:
            folders.insert(0, path.parent)
        return coco_contents(read_coco(path, report), folders, top, report)


def _files(root: Path) -> dict[str, Path]:
    """The annotation file of each split."""
    if root.is_file():
        return {UNSPLIT: root} if root.suffix.lower() == ".json" else {}
    if inside := _in_annotations(root / "annotations"):
        return inside
    exported = {path.parent.name: path for path in sorted(root.glob(f"*/{ROBOFLOW}"))}
    if exported:
        return exported
    beside = [path for path in sorted(root.glob("*.json")) if _looks_like_coco(path)]
    if len(beside) == 1 and not (root / _split_of(beside[0])).is_dir():
        return {UNSPLIT: beside[0]}
    return {_split_of(path): path for path in beside}


def _in_annotations(folder: Path) -> dict[str, Path]:
    files = sorted(folder.glob("*.json"))
    instances = [path for path in files if path.name.startswith("instances_")]
    return {_split_of(path): path for path in instances or files if not path.name.startswith(OTHER_TASKS)}


def _split_of(path: Path) -> str:
    return path.stem.removeprefix("instances_")


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEAD)
    return any(f'"{key}"'.encode() in head for key in ("images", "annotations", "categories"))
