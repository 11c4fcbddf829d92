"""Data sets, images, and how they become tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.config import EventSpec, InputSpec
from zoo.data.faults import Report
from zoo.data.image_files import shown
from zoo.data.sample import DetectionDataset, Sample
from zoo.errors import DataError, InvalidInputError

__all__ = ["DIGITS", "DIGIT_EVENTS", "DetectionDataset", "Sample", "is_generated", "open_dataset", "split_of"]
DIGITS, DIGIT_EVENTS = "digits", "digits-events"
MEASURED = ("test", "val")
"""Splits that are used where none is named, in order."""


def is_generated(source: str | Path) -> bool:
    """Whether a data set is made by this package instead of read from files."""
    return str(source) in {DIGITS, DIGIT_EVENTS}


def open_dataset(
    source: str | Path,
    split: str | None,
    *,
    length: int | None = None,
    seed: int = 0,
    image_size: int | None = None,
    spec: InputSpec | None = None,
    format: str | None = None,  # noqa: A002 - the word that people look for
    annotated: bool = True,
    prefer: Sequence[str] = MEASURED,
) -> DetectionDataset:
    """A data set by name or folder. Its images are read when they are asked for, one at a time.

    Args:
        source: ``digits``; ``digits-events``, for detectors of events; or a folder, or a file that describes a set
            (``data.yaml``, a COCO annotation file). The format is told from what the folder holds: see :mod:`zoo.data.formats`.
        split: its name: ``train``, ``val``, ``test``. A year behind it may be left out (``val2017``), and ``valid`` is ``val``.
            None for the first of ``prefer`` that there is, or for the only one.
        length: images of a generated set, by default 500; no more than the first so many of a folder, by default all of it.
        seed: of a generated set.
        image_size: side of generated images in pixels.
        spec: of the detector's input; what it says of events decides between images and events.
        format: of a folder that has several, for example ``yolo``.
        annotated: refuse folders of images without annotations.
        prefer: splits in order of preference where ``split`` is None.

    Raises:
        DataError: no such data set or split, an unknown layout, wrong entries (the first are named), or a set of another kind
            than the detector takes.

    Warns:
        DataWarning: files or entries were left out.
    """
    events = spec.events if spec is not None else None
    if length is not None and length < 1:
        raise InvalidInputError(f"length must be at least 1, got {length}")
    if is_generated(source):
        return _generated(str(source), split or MEASURED[0], length or 500, seed, image_size, events)
    from zoo.data.registry import find_format

    found = find_format(source, format)
    if found.format.kind == "images" and events is not None:
        raise DataError(f"{shown(found.root)} holds images, and this detector takes events")
    if found.format.kind == "events" and events is None:
        raise DataError(f"{shown(found.root)} holds recordings of events, and this detector takes images")
    if annotated and found.format.name == "images":
        raise DataError(f"{shown(found.root)} holds images without annotations. {_layouts()}")
    report = Report()
    dataset = found.format.open(found.root, found.split(split, prefer=prefer), report, limit=length, events=events)
    report.settle(found.root)
    return dataset


def split_of(dataset: DetectionDataset) -> str:
    """Name of the split that a data set was opened with."""
    return str(getattr(dataset, "split", ""))


def _layouts() -> str:
    from zoo.data.registry import expected_layouts

    return expected_layouts()


def _generated(
    source: str, split: str, length: int, seed: int, image_size: int | None, events: EventSpec | None
) -> DetectionDataset:
    if source == DIGIT_EVENTS:
        if events is None:
            raise DataError(
                f"{DIGIT_EVENTS} are events, and this detector takes images; use an event detector such as eas-snn"
            )
        from zoo.data.digit_events import DigitEvents

        return DigitEvents(split, length=length, seed=seed, events=events)  # type: ignore[arg-type]
    if events is not None:
        raise DataError(f"{DIGITS} are images, and this detector takes events; use {DIGIT_EVENTS!r}")
    from zoo.data.digits import DigitsDetection

    return DigitsDetection(split, length=length, seed=seed, image_size=image_size or 96)  # type: ignore[arg-type]
