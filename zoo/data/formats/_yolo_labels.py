"""Files of labels in YOLO's form: a line for each object, in shares of the image's width and height."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from zoo.data.faults import Report
from zoo.data.image_files import shown
from zoo.data.imageset import OUTSIDE, ImageEntry
from zoo.errors import DataError


def read_labels(path: Path, entry: ImageEntry, report: Report, *, classes: int, keypoints: bool) -> None:
    """Add the boxes of a file to an entry. Outlines (CLASS X1 Y1 X2 Y2 X3 Y3 ...) become the boxes around them."""
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        where = f"{shown(path)}, line {number}"
        try:
            label, box = _parsed(words[:5] if keypoints else words)
        except ValueError as error:
            report.faults.add(f"{where}: {error}")
            continue
        if not 0 <= label < classes:
            report.faults.add(f"{where}: the class is {label}, and there are only {classes}, counted from 0")
            continue
        entry.xywh.append(box)
        entry.labels.append(label)


def class_count(paths: Iterable[Path]) -> int:
    """One more than the largest class number in files of labels."""
    largest = 0
    for path in paths:
        for line in _lines(path):
            word = line.split(maxsplit=1)[0] if line.strip() else ""
            if word.isdecimal():
                largest = max(largest, int(word))
    return largest + 1


def looks_like_labels(path: Path) -> bool:
    """Whether the first line of a text file is an object in YOLO's form."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        words = file.readline(4096).split()
    try:
        _parsed(words)
    except ValueError:
        return False
    return True


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the labels {shown(path)}: {error}") from None


def _parsed(words: list[str]) -> tuple[int, tuple[float, float, float, float]]:
    """Class and box (left, top, width, height) of a line.

    Raises:
        ValueError: says what is wrong.
    """
    expected = "expected CLASS CX CY W H"
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{expected}, five numbers, found {' '.join(words)[:80]!r}") from None
    if len(numbers) < 5 or (len(numbers) > 5 and len(numbers) % 2 == 0):
        raise ValueError(f"{expected}, or CLASS and the corners of an outline, found {len(numbers)} numbers")
    if not all(map(math.isfinite, numbers)) or numbers[0] != int(numbers[0]):
        raise ValueError(f"{expected}, finite numbers with a whole number in front, found {' '.join(words)[:80]!r}")
    if len(numbers) == 5:
        _, cx, cy, width, height = numbers
        left, top, right, bottom = cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
    else:
        xs, ys = numbers[1::2], numbers[2::2]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        width, height = right - left, bottom - top
    if width < 0 or height < 0 or min(left, top) < -OUTSIDE or max(right, bottom) > 1 + OUTSIDE:
        raise ValueError(
            f"the box {' '.join(words[1:5])} reaches out of the image; numbers are shares of its sides, 0..1"
        )
    return int(numbers[0]), (left, top, width, height)
