"""Detections as files that other tools read: COCO's results, YOLO's text files, and a table.

Each writer takes one image at a time, so that any number of images needs little memory, and nothing is kept back until the end.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from zoo.data.truth import ImageId
from zoo.errors import FileMissingError, InvalidInputError
from zoo.support.files import replace_atomically


@dataclass(frozen=True)
class FoundObjects:
    """Detections in one image.

    Attributes:
        image_id: of the image in its data set.
        path: of its file; None where it came from none.
        size: (height, width) in pixels.
        xyxy: (N, 4) corners in pixels.
        scores: (N,) 0..1.
        labels: (N,) class indices.
    """

    image_id: ImageId
    path: Path | None
    size: tuple[int, int]
    xyxy: npt.NDArray[np.floating]
    scores: npt.NDArray[np.floating]
    labels: npt.NDArray[np.integer]


class PredictionWriter(Protocol):
    """Receives the detections of one image after the other."""

    def add(self, found: FoundObjects) -> None:
        """Write the detections of an image."""
        ...


class _FileWriter:
    """A file that appears under its name only when all was written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._replacing = replace_atomically(self.path)
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self._file = self._replacing.__enter__().open("w", encoding="utf-8", newline="")
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.end()
        self.file.close()
        self._replacing.__exit__(kind, error, trace)

    @property
    def file(self) -> IO[str]:
        """What is written to.

        Raises:
            InvalidInputError: outside the ``with`` block.
        """
        if self._file is None:
            raise InvalidInputError(f"write to {self.path} inside a with block")
        return self._file

    def begin(self) -> None:
        """Write what comes first."""

    def end(self) -> None:
        """Write what comes last."""


class CocoResults(_FileWriter):
    """COCO's results format: a JSON list of ``image_id``, ``category_id``, ``bbox`` (left, top, width, height) and ``score``.

    Use it in a ``with`` block. The file appears when the block ends well.

    Args:
        path: of the file.
        category_ids: the annotations' own id of each class; by default 1, 2, ...
    """

    def __init__(self, path: str | Path, category_ids: Sequence[ImageId] | None = None) -> None:
        super().__init__(path)
        self._ids = category_ids
        self._separator = "["

    def add(self, found: FoundObjects) -> None:
        """Write the detections of an image."""
        for (x1, y1, x2, y2), strength, label in zip(
            found.xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            row = {
                "image_id": found.image_id,
                "category_id": label + 1 if self._ids is None else self._ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": strength,
            }
            self.file.write(f"{self._separator}\n{json.dumps(row)}")
            self._separator = ","

    def end(self) -> None:
        """Close the list."""
        self.file.write("[]\n" if self._separator == "[" else "\n]\n")


class CsvTable(_FileWriter):
    """A table with a row for each detection: image, class, name, confidence, x1, y1, x2, y2 in pixels.

    Use it in a ``with`` block. The file appears when the block ends well.

    Args:
        path: of the file.
        class_names: one per class.
    """

    COLUMNS = ("image", "class", "name", "confidence", "x1", "y1", "x2", "y2")

    def __init__(self, path: str | Path, class_names: Sequence[str]) -> None:
        super().__init__(path)
        self._names = class_names
        self._table: Any = None

    def begin(self) -> None:
        """Write the names of the columns."""
        self._table = csv.writer(self.file, lineterminator="\n")
        self._table.writerow(self.COLUMNS)

    def add(self, found: FoundObjects) -> None:
        """Write the detections of an image."""
        image = found.image_id if found.path is None else found.path
        for corners, strength, label in zip(
            found.xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            self._table.writerow(
                [image, label, self._names[label], f"{strength:.6f}", *(f"{side:.3f}" for side in corners)]
            )


class YoloText:
    """A text file for each image with a line for each detection: CLASS CX CY W H CONFIDENCE, in shares of the image, 0..1.

    Files are named as their images; images in which nothing was found get an empty file.

    Args:
        folder: of the files; made if it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._taken: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileMissingError(f"cannot make the folder {self.folder}: {error.strerror}") from None

    def add(self, found: FoundObjects) -> None:
        """Write the file of an image.

        Raises:
            FileMissingError: it cannot be written.
        """
        height, width = found.size
        lines = []
        for (x1, y1, x2, y2), strength, label in zip(
            found.xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(f"{label} {' '.join(f'{share:.6f}' for share in shares)} {strength:.6f}\n")
        path = self.folder / f"{self._name(found)}.txt"
        try:
            path.write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            raise FileMissingError(f"cannot write {path}: {error.strerror}") from None

    def _name(self, found: FoundObjects) -> str:
        """Name of the file: the image's without its ending, numbered where two images share it."""
        stem = found.path.stem if found.path is not None else str(found.image_id).replace("/", "_")
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return name
