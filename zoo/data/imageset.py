"""A data set of image files: where its images are and what is on them. Images are read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.faults import Report, Skipped
from zoo.data.image_files import read_pixels, read_size, shown
from zoo.data.sample import Sample
from zoo.data.truth import ImageId, Truth, TruthBuilder
from zoo.errors import CorruptFileError, FileMissingError
from zoo.support.progress import progress_bar

OUTSIDE = 0.01
"""Share of the image's side by which a box may reach over its border before that is an error: tools round differently."""


@dataclass(slots=True)
class ImageEntry:
    """One image as the annotations of a format describe it.

    Attributes:
        image_id: identifies the image within its set: all numbers, or all text.
        path: of its file.
        xywh: left, top, width and height of each object in pixels, or as a share of the image where ``relative``.
        labels: class index of each object.
        size: (height, width) where the annotations state it.
        crowd: for each object, whether it is not to be counted.
        areas: of each object in square pixels; by default of its box.
        relative: boxes are shares of the image's sides, 0..1.
        where: names the entry in messages; by default its path.
    """

    image_id: ImageId
    path: Path
    xywh: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    size: tuple[int, int] | None = None
    crowd: list[bool] | None = None
    areas: list[float] | None = None
    relative: bool = False
    where: str = ""


@dataclass(frozen=True)
class Contents:
    """What the annotations of a set say.

    Attributes:
        class_names: one name per class.
        entries: one for each image, in the order of the set; taken once, one at a time.
        count: how many there are, for the progress bar.
        category_ids: the annotations' own id of each class; by default 1, 2, ...
    """

    class_names: Sequence[str]
    entries: Iterable[ImageEntry]
    count: int
    category_ids: Sequence[ImageId] | None = None


class ImageSet:
    """Images and boxes described by annotation files.

    Opening reads the header of every image once: files that cannot be read are left out, and images whose size is not the one
    that their annotation states are wrong entries.

    Args:
        contents: what the annotations say.
        root: folder of the set, for messages.
        report: receives wrong entries and what is left out.
        split: name of the split.
        limit: use the first so many images.

    Attributes:
        class_names: one name per class.
        paths: of the images.
        truth: objects as the annotations give them, crowds included.
        report: what was noticed.
    """

    def __init__(
        self, contents: Contents, *, root: Path, report: Report, split: str = "", limit: int | None = None
    ) -> None:
        self.root = root
        self.split = split
        self.class_names = tuple(contents.class_names)
        self.report = report
        self.paths: list[Path] = []
        builder = TruthBuilder()
        total = contents.count if limit is None else min(contents.count, limit)
        with progress_bar("reading the headers of images", total=total) as bar:
            for entry in islice(contents.entries, limit):
                self._take(entry, builder)
                bar.advance()
        self.truth: Truth = builder.build(contents.category_ids or range(1, len(self.class_names) + 1))
        if not self.paths and not report.faults.count:
            report.faults.add(f"{shown(root)} holds no image that can be read. {report.warning()}".strip())

    def _take(self, entry: ImageEntry, builder: TruthBuilder) -> None:
        try:
            size = read_size(entry.path)
        except FileMissingError:
            self.report.faults.add(f"{entry.where or shown(entry.path)}: there is no image {shown(entry.path)}")
            return
        except CorruptFileError as error:
            self.report.skip(entry.path, error)
            return
        if entry.size is not None and entry.size != size:
            self.report.faults.add(_other_size(entry, entry.size, size))
            return
        self.paths.append(entry.path)
        boxes = entry.xywh
        if entry.relative:
            height, width = size
            boxes = [(x * width, y * height, w * width, h * height) for x, y, w, h in boxes]
        builder.add(entry.image_id, size, boxes, entry.labels, crowd=entry.crowd, areas=entry.areas)

    @property
    def skipped(self) -> Sequence[Skipped]:
        """Files that are left out."""
        return self.report.skipped

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` with its objects: without crowds and boxes that have no area, and clipped to the image.

        Raises:
            FileMissingError, CorruptFileError: the file is gone or damaged, or has another size than when the set was opened.
        """
        index = range(len(self))[index]
        image = read_pixels(self.paths[index])
        height, width = (int(side) for side in self.truth.sizes[index])
        if image.shape[:2] != (height, width):
            raise CorruptFileError(f"{shown(self.paths[index])} has changed since the data set was opened")
        boxes, labels = self.objects(index)
        return Sample(image, boxes, labels, self.truth.image_ids[index])

    def objects(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Boxes (N, 4) as x1, y1, x2, y2 and labels (N,) of image ``index``, as :meth:`__getitem__` gives them."""
        rows = self.truth.rows(index)
        xywh, (height, width) = self.truth.xywh[rows], self.truth.sizes[index]
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        corners = corners.clip(0, [width, height, width, height])
        there = ((corners[:, 2:] - corners[:, :2]) > 0).all(1) & ~self.truth.crowd[rows]
        return corners[there].astype(np.float32), self.truth.labels[rows][there]

    def entries(self) -> Iterator[tuple[str, int, npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """For each image its path in the set, the size of its file in bytes (-1 where it is gone), boxes and labels."""
        for index, path in enumerate(self.paths):
            name = os.path.relpath(path, self.root)
            yield name, path.stat().st_size if path.is_file() else -1, *self.objects(index)


def _other_size(entry: ImageEntry, stated: tuple[int, int], size: tuple[int, int]) -> str:
    message = (
        f"{entry.where or shown(entry.path)}: the annotations say {stated[1]}x{stated[0]} pixels (width x height), and "
        f"{shown(entry.path)} has {size[1]}x{size[0]}"
    )
    if stated == size[::-1]:
        message += (
            "; the two differ by a quarter turn, so the boxes may be meant for the image before its EXIF rotation"
        )
    return message
