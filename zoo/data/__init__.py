"""Data sets, pictures, and how they become tensors."""

from __future__ import annotations

from pathlib import Path

from zoo.config import EventSpec, InputSpec
from zoo.data.sample import DetectionDataset, Sample
from zoo.errors import DataError

__all__ = ["DetectionDataset", "Sample", "open_dataset"]
DIGITS, DIGIT_EVENTS = "digits", "digits-events"


def open_dataset(
    source: str | Path,
    split: str,
    *,
    length: int | None = None,
    seed: int = 0,
    image_size: int | None = None,
    spec: InputSpec | None = None,
) -> DetectionDataset:
    """A data set by name or folder.

    Args:
        source: ``digits``; ``digits-events``, for detectors of events; a folder in COCO layout (``annotations/SPLIT.json`` or
            ``annotations/instances_SPLIT.json``, and the pictures in ``SPLIT/`` or ``images/``); or, for detectors of events, a
            folder in GEN1 layout (``SPLIT/NAME_td.dat`` and ``SPLIT/NAME_bbox.npy``).
        split: ``train`` or ``test`` for the digits; for a folder, part of its file names.
        length: pictures of a generated set, by default 500; the first so many of a folder.
        seed: of a generated set.
        image_size: side of generated pictures in pixels.
        spec: of the detector's input; what it says of events decides between pictures and events.

    Raises:
        DataError: no such data set or split, or one of another kind than the detector takes.
    """
    if spec is not None and spec.events is not None:
        return _events(source, split, length, seed, spec.events)
    if str(source) == DIGIT_EVENTS:
        raise DataError(
            f"{DIGIT_EVENTS} are events, and this detector takes pictures; use an event detector such as eas-snn"
        )
    if str(source) == DIGITS:
        from zoo.data.digits import DigitsDetection

        return DigitsDetection(split, length=length or 500, seed=seed, image_size=image_size or 96)  # type: ignore[arg-type]
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"there is no data set {str(source)!r}: give 'digits' or a folder in COCO layout")
    if next(folder.glob("*_td.dat"), None) or next(folder.glob(f"{split}/*_td.dat"), None):
        raise DataError(f"{folder} holds recordings of events, and this detector takes pictures")
    from zoo.data.coco import CocoDetection

    return CocoDetection.from_folder(folder, split, limit=length)


def _events(source: str | Path, split: str, length: int | None, seed: int, events: EventSpec) -> DetectionDataset:
    if str(source) == DIGIT_EVENTS:
        from zoo.data.digit_events import DigitEvents

        return DigitEvents(split, length=length or 500, seed=seed, events=events)  # type: ignore[arg-type]
    if str(source) == DIGITS or not Path(source).is_dir():
        raise DataError(
            f"this detector takes events, and there is no such data set {str(source)!r}: give {DIGIT_EVENTS!r} or a folder in "
            "GEN1 layout"
        )
    from zoo.data.gen1 import Gen1Detection

    return Gen1Detection.from_folder(Path(source), split, events, limit=length)
