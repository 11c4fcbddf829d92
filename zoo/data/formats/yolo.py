"""YOLO: a text file of boxes for each image, in the layouts of ultralytics, Roboflow and Darknet.

Layouts: https://docs.ultralytics.com/datasets/detect/ (``data.yaml``; images/SPLIT with labels/SPLIT; lists of images in .txt
files) and Roboflow's exports (SPLIT/images with SPLIT/labels).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.data.faults import Report, counted
from zoo.data.folders import has_images, list_images
from zoo.data.formats._yolo_labels import class_count, looks_like_labels, read_labels
from zoo.data.formats._yolo_yaml import DataYaml, find_yaml
from zoo.data.image_files import shown
from zoo.data.imageset import Contents, ImageEntry
from zoo.data.registry import UNSPLIT, ImageFormat, register
from zoo.data.truth import ImageId

NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")


@register
class Yolo(ImageFormat):
    """YOLO txt."""

    name = "yolo"
    title = "YOLO"
    layout = (
        "data.yaml with names and the folder or list of images of each split; or images/SPLIT/ with labels/SPLIT/, "
        "SPLIT/images/ with SPLIT/labels/, or .txt files beside the images; a line is: CLASS CX CY W H, all in 0..1"
    )
    priority = 20

    def splits(self, root: Path) -> Sequence[str]:
        """See :meth:`zoo.data.registry.DataFormat.splits`."""
        described = find_yaml(root)
        if described is not None:
            return list(described.splits)
        return list(_folders(root)) if root.is_dir() else []

    def read(self, root: Path, split: str, report: Report) -> Contents:
        """See :meth:`zoo.data.registry.ImageFormat.read`."""
        described = find_yaml(root)
        top = root if root.is_dir() else root.parent
        found = _Images(top, report)
        if described is None:
            found.add_folder(_folders(top)[split], split)
        else:
            top = described.folder
            for source in described.splits[split]:
                found.add(described, source, split)
        names = described.names if described is not None else _names(top, report)
        skip_keypoints = described is not None and described.keypoints
        return Contents(names, found.entries(len(names), skip_keypoints), len(found.pairs), range(len(names)))


def _folders(root: Path) -> dict[str, Path]:
    """The folder of images of each split, where no data.yaml says it."""
    images = root / "images"
    if images.is_dir() and _label_folders(root):
        inner = {folder.name: folder for folder in sorted(images.iterdir()) if folder.is_dir() and has_images(folder)}
        return inner or ({UNSPLIT: images} if has_images(images) else {})
    exported = {
        folder.parent.name: folder
        for folder in sorted(root.glob("*/images"))
        if (folder.parent / "labels").is_dir() and has_images(folder)
    }
    if exported:
        return exported
    return {UNSPLIT: root} if _beside(root) else {}


def _label_folders(root: Path) -> list[Path]:
    """Folders called ``labels``, at most two levels down, that hold text files."""
    levels = ("labels", "*/labels", "*/*/labels")
    found = [folder for pattern in levels for folder in sorted(root.glob(pattern)) if folder.is_dir()]
    return [folder for folder in found if next(folder.rglob("*.txt"), None) is not None]


def _beside(root: Path) -> bool:
    """Whether text files lie beside images, as Darknet has them."""
    labels = (path for path in sorted(root.glob("*.txt")) if path.name not in NAME_FILES)
    first = next((path for path in labels if looks_like_labels(path)), None)
    return first is not None and has_images(root)


def _names(root: Path, report: Report) -> list[str]:
    """Class names from a file of names; otherwise numbers, as many as the labels of all splits need."""
    for folder in [root, *_label_folders(root)]:
        for name in NAME_FILES:
            if (folder / name).is_file():
                lines = (folder / name).read_text(encoding="utf-8-sig").splitlines()
                return [line.strip() for line in lines if line.strip()]
    folders = _label_folders(root) or [root]
    count = class_count(path for folder in folders for path in folder.rglob("*.txt"))
    report.notes.append(
        f"no file names the classes (data.yaml or classes.txt), so they are called 0 to {count - 1} after their numbers"
    )
    return [str(index) for index in range(count)]


@dataclass(frozen=True)
class _Pair:
    image: Path
    labels: Path
    key: str


class _Images:
    """Images of a split, each with the place of its labels."""

    def __init__(self, top: Path, report: Report) -> None:
        self.top = top
        self.report = report
        self.pairs: list[_Pair] = []

    def add(self, described: DataYaml, source: str, split: str) -> None:
        """Add what data.yaml names: a folder or a list of images."""
        path = described.resolve(source)
        if path is None:
            self.report.faults.add(
                f"{shown(described.path)}: the split {split} is {source!r}, and there is no such folder or list of images; "
                f"paths are relative to {shown(described.folder)}"
            )
        elif path.is_dir():
            self.add_folder(path, split)
        else:
            self._add_list(path, described.folder)

    def add_folder(self, folder: Path, split: str) -> None:
        """Add the images of a folder, and of its folders."""
        images = list_images(folder, self.report)
        labels = self._labels_of(folder, split)
        for image in images:
            inner = image.relative_to(folder)
            place = image.with_suffix(".txt") if labels is None else (labels / inner).with_suffix(".txt")
            self.pairs.append(_Pair(image, place, inner.with_suffix("").as_posix()))

    def _labels_of(self, folder: Path, split: str) -> Path | None:
        """The folder of labels for a folder of images; None where they lie beside the images."""
        usual = _swapped(folder)
        candidates = [usual] if usual is not None else []
        for labels in _label_folders(self.top):
            candidates += [labels / split, labels / folder.name, labels]
        return next((place for place in candidates if place.is_dir() and next(place.rglob("*.txt"), None)), None)

    def _add_list(self, listing: Path, folder: Path) -> None:
        """Add the images of a list: a path per line, relative to the list's folder, to the set's, or absolute."""
        for number, line in enumerate(listing.read_text(encoding="utf-8-sig").splitlines(), 1):
            name = line.strip().replace("\\", "/")
            if not name:
                continue
            places = [listing.parent / name, folder / name]
            image = next((place for place in places if place.is_file()), None)
            if image is None:
                self.report.faults.add(f"{shown(listing)}, line {number}: there is no image {name!r}")
                continue
            labels = _swapped(image) or image
            self.pairs.append(
                _Pair(image, labels.with_suffix(".txt"), Path(name).with_suffix("").as_posix().lstrip("./"))
            )

    def entries(self, classes: int, keypoints: bool) -> Iterator[ImageEntry]:
        """One for each image, with its boxes. Images without a file of labels are background."""
        missing = 0
        keys = _keys(self.pairs)
        for key, pair in zip(keys, self.pairs, strict=True):
            entry = ImageEntry(key, pair.image, relative=True)
            if pair.labels.is_file():
                read_labels(pair.labels, entry, self.report, classes=classes, keypoints=keypoints)
            else:
                missing += 1
            yield entry
        if missing and missing == len(self.pairs):
            self.report.faults.add(
                f"{shown(self.top)}: no image has a file of labels; the first was expected at {shown(self.pairs[0].labels)}"
            )
        elif missing:
            self.report.notes.append(f"{counted(missing, 'image')} without a file of labels: taken as background")


def _keys(pairs: Sequence[_Pair]) -> list[ImageId]:
    """An id for each image: its name without ending, unless two images share that."""
    seen: dict[str, int] = {}
    for pair in pairs:
        seen[pair.key] = seen.get(pair.key, 0) + 1
    return [pair.key if seen[pair.key] == 1 else f"{pair.key}{pair.image.suffix}" for pair in pairs]


def _swapped(path: Path) -> Path | None:
    """The same path with its last part ``images`` replaced by ``labels``, as ultralytics finds labels."""
    parts = list(path.parts)
    for index in reversed(range(len(parts))):
        if parts[index] == "images":
            parts[index] = "labels"
            return Path(os.path.join(*parts))  # noqa: PTH118 - parts of a path, absolute or not
    return None
