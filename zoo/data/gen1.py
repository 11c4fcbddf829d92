"""Recordings in the layout of the GEN1 automotive detection set: ``NAME_td.dat`` beside ``NAME_bbox.npy``.

Every moment at which boxes are given is one sample: the events of the window before it, and its boxes.

Boxes may reach over the border of the sensor: they are clipped to it, and those wholly outside are left out. For the camera of
GEN1, boxes of the first half second, with a diagonal below 30 pixels or a side below 10 pixels are left out, too, as in the
published evaluation (Perot et al., "Learning to Detect Objects with a 1 Megapixel Event Camera", NeurIPS 2020, section 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.config import EventSpec
from zoo.data.events import EventSample, micro_slices
from zoo.data.prophesee import GEN1_SIZE, DatFile, read_boxes, windows
from zoo.errors import DataError

GEN1_CLASSES = ("car", "pedestrian")


@dataclass(frozen=True)
class BoxFilter:
    """Which boxes count.

    Attributes:
        skip_us: boxes up to this time are left out: too little was seen before them.
        diagonal, side: least diagonal, and least width and height, in pixels.
    """

    skip_us: int = 0
    diagonal: float = 0.0
    side: float = 0.0

    def keep(self, boxes: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Which of N boxes count: (N,)."""
        long = np.hypot(boxes["w"], boxes["h"]) >= self.diagonal
        wide = (boxes["w"] >= self.side) & (boxes["h"] >= self.side)
        return (boxes["t"] > self.skip_us) & long & wide


GEN1_FILTER = BoxFilter(skip_us=500_000, diagonal=30.0, side=10.0)
NO_FILTER = BoxFilter()


@dataclass(frozen=True)
class _Moment:
    recording: int
    time: int
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def clipped(boxes: npt.NDArray[np.void], sensor_size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Corners (N, 4) as x1, y1, x2, y2, clipped to the sensor."""
    height, width = sensor_size
    corners = np.stack([boxes["x"], boxes["y"], boxes["x"] + boxes["w"], boxes["y"] + boxes["h"]], 1)
    return corners.clip(0, np.array([width, height, width, height], np.float32)).astype(np.float32)


class Gen1Detection:
    """Moments of recordings, each with the micro-slices before it and its boxes.

    Args:
        folder: with ``NAME_td.dat`` and ``NAME_bbox.npy``; ``classes.txt`` names the classes, one per line, where they are not
            those of GEN1.
        events: window, micro-slices and sensor.
        limit: only the first so many moments.
        keep: which boxes count; by default GEN1's rule for GEN1's camera, and all boxes for others.

    Raises:
        DataError: no recordings, a recording without boxes or boxes without a recording, another sensor, unknown classes.
        CorruptFileError: a damaged file.
    """

    def __init__(
        self, folder: str | Path, events: EventSpec, *, limit: int | None = None, keep: BoxFilter | None = None
    ) -> None:
        self.folder = Path(folder)
        self.split = self.folder.name
        self.events = events
        self.class_names = self._classes()
        self._filter = keep or (GEN1_FILTER if events.sensor_size == GEN1_SIZE else NO_FILTER)
        self._files = self._recordings()
        self._moments: list[_Moment] = []
        for index, path in enumerate(self._files):
            self._moments += self._moments_of(index, path)
            if limit is not None and len(self._moments) >= limit:
                self._moments = self._moments[:limit]
                break
        if not self._moments:
            raise DataError(f"{self.folder} holds no moment with a box that counts")
        self._window = lru_cache(maxsize=64)(self._counts)

    @classmethod
    def from_folder(cls, folder: Path, split: str, events: EventSpec, *, limit: int | None = None) -> Gen1Detection:
        """Open ``FOLDER/SPLIT``, or ``FOLDER`` itself where it holds recordings.

        Raises:
            DataError: no such split.
        """
        inner = folder / split
        if inner.is_dir():
            return cls(inner, events, limit=limit)
        if next(folder.glob("*_td.dat"), None) is None:
            raise DataError(f"{folder} has no folder {split!r} with recordings (NAME_td.dat and NAME_bbox.npy)")
        return cls(folder, events, limit=limit)

    def _classes(self) -> tuple[str, ...]:
        path = next((p for p in (self.folder / "classes.txt", self.folder.parent / "classes.txt") if p.is_file()), None)
        if path is None:
            return GEN1_CLASSES
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        if not names:
            raise DataError(f"{path} names no classes")
        return names

    def _recordings(self) -> list[Path]:
        events = {path.name.removesuffix("_td.dat"): path for path in sorted(self.folder.glob("*_td.dat"))}
        boxes = {path.name.removesuffix("_bbox.npy") for path in self.folder.glob("*_bbox.npy")}
        for missing, what in ((sorted(events.keys() - boxes), "_bbox.npy"), (sorted(boxes - events.keys()), "_td.dat")):
            if missing:
                raise DataError(
                    f"{self.folder} holds {len(missing)} recordings without their {what}, first {missing[0]}{what}"
                )
        if not events:
            raise DataError(f"{self.folder} holds no recordings (NAME_td.dat and NAME_bbox.npy)")
        return list(events.values())

    def _moments_of(self, index: int, path: Path) -> list[_Moment]:
        boxes_path = path.with_name(path.name.removesuffix("_td.dat") + "_bbox.npy")
        boxes = read_boxes(boxes_path)
        boxes = boxes[self._filter.keep(boxes)]
        if len(boxes) and int(boxes["class_id"].max()) >= len(self.class_names):
            raise DataError(
                f"{boxes_path} has the class {int(boxes['class_id'].max())}, but there are only {len(self.class_names)}: "
                f"{', '.join(self.class_names)}; name them in {self.folder / 'classes.txt'}"
            )
        corners = clipped(boxes, self.events.sensor_size)
        there = ((corners[:, 2:] - corners[:, :2]) > 0).all(1)
        boxes, corners = boxes[there], corners[there]
        return [
            _Moment(
                index, int(time), corners[boxes["t"] == time], boxes["class_id"][boxes["t"] == time].astype(np.int64)
            )
            for time in np.unique(boxes["t"])
        ]

    def _open(self, recording: int) -> DatFile:
        file = DatFile(self._files[recording])
        if problem := file.mismatch(self.events.sensor_size):
            raise DataError(problem)
        return file

    def _counts(self, recording: int) -> dict[int, npt.NDArray[np.unsignedinteger]]:
        """Micro-slices of all moments of a recording, in one pass over its file."""
        times = sorted(moment.time for moment in self._moments if moment.recording == recording)
        found = windows(self._open(recording), np.array(times), self.events.window_us)
        return {end: micro_slices(events, self.events, end=end) for end, events in found}

    def __len__(self) -> int:
        return len(self._moments)

    def entries(self) -> Iterator[tuple[str, int, npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """For each moment its recording and time, the size of that file in bytes (-1 where it is gone), boxes and labels."""
        for moment in self._moments:
            path = self._files[moment.recording]
            size = path.stat().st_size if path.is_file() else -1
            yield f"{path.name} at {moment.time} us", size, moment.boxes, moment.labels

    def __getitem__(self, index: int) -> EventSample:
        """Moment ``index``.

        Raises:
            InvalidInputError, CorruptFileError: the recording is damaged.
        """
        moment = self._moments[index]
        return EventSample(self._window(moment.recording)[moment.time], moment.boxes, moment.labels, index)


__all__ = ["GEN1_CLASSES", "GEN1_FILTER", "NO_FILTER", "BoxFilter", "Gen1Detection", "clipped"]
