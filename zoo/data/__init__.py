"""Data sets, pictures, and how they become tensors."""

from __future__ import annotations

from pathlib import Path

from zoo.data.sample import DetectionDataset, Sample
from zoo.errors import DataError

__all__ = ["DetectionDataset", "Sample", "open_dataset"]


def open_dataset(
    source: str | Path, split: str, *, length: int | None = None, seed: int = 0, image_size: int | None = None
) -> DetectionDataset:
    """A data set by name or folder.

    Args:
        source: ``digits``, or a folder in COCO layout (``annotations/SPLIT.json`` or ``annotations/instances_SPLIT.json``, and
            the pictures in ``SPLIT/`` or ``images/``).
        split: ``train`` or ``test`` for the digits; for a folder, part of its file names.
        length: pictures of a generated set, by default 500; the first so many of a folder.
        seed: of a generated set.
        image_size: side of generated pictures in pixels.

    Raises:
        DataError: no such data set or split.
    """
    if str(source) == "digits":
        from zoo.data.digits import DigitsDetection

        return DigitsDetection(split, length=length or 500, seed=seed, image_size=image_size or 96)  # type: ignore[arg-type]
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"there is no data set {str(source)!r}: give 'digits' or a folder in COCO layout")
    from zoo.data.coco import CocoDetection

    return CocoDetection.from_folder(folder, split, limit=length)
