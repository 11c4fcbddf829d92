"""A folder of images without annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.data.faults import Report
from zoo.data.folders import has_images, list_images
from zoo.data.imageset import Contents, ImageEntry
from zoo.data.registry import UNSPLIT, ImageFormat, found_in, register


@register
class ImageFolder(ImageFormat):
    """Images alone: to look at, to predict on, and to calibrate with, but without objects to train on or to measure with."""

    name = "images"
    title = "Folder of images"
    layout = "images without annotations, in the folder or in folders of it"
    priority = 90

    def splits(self, root: Path) -> Sequence[str]:
        """See :meth:`zoo.data.registry.DataFormat.splits`."""
        if not root.is_dir():
            return []
        inner = [folder.name for folder in sorted(root.iterdir()) if folder.is_dir() and has_images(folder)]
        known = {"train", "val", "valid", "test"}
        if inner and set(inner) <= known:
            return inner
        return [UNSPLIT] if has_images(root) else []

    def read(self, root: Path, split: str, report: Report) -> Contents:
        """See :meth:`zoo.data.registry.ImageFormat.read`."""
        folder = root if split == UNSPLIT else root / split
        paths = list_images(folder, report)
        report.notes.append(
            f"there are no annotations that are known here, so the set has no classes and no objects; found: {found_in(root)}"
        )
        entries = (ImageEntry(path.relative_to(folder).as_posix(), path) for path in paths)
        return Contents((), entries, len(paths))
