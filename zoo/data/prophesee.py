"""Prophesee's files: events in ``.dat`` and boxes in ``_bbox.npy``, the layout of the GEN1 automotive detection set.

A ``.dat`` file has header lines that begin with ``%``, two bytes (type and size of an event), and events of eight bytes, little
endian: 32 bits of time in microseconds, then x in bits 0 to 13, y in bits 14 to 27 and polarity in bit 28. The clock wraps
after 71.6 minutes.

Source: de Tournemire et al., "A Large Scale Event-based Detection Dataset for Automotive", arXiv 2001.08499, and its public
toolbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from zoo.data.events import Events, check_events, empty_events
from zoo.errors import CorruptFileError, FileMissingError, InvalidInputError
from zoo.support.files import replace_atomically, write_atomically

WRAP = 2**32
CD_EVENTS = (0, 12)
"""Types of change detection events."""
_RAW = np.dtype([("t", "<u4"), ("word", "<u4")])
_X_MAX = _Y_MAX = 2**14 - 1
CHUNK = 2**18
"""Events that are read at once."""

BOX_DTYPE = np.dtype(
    [
        ("t", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"),
        ("class_id", "u1"), ("track_id", "<u4"), ("class_confidence", "<f4"),
    ]
)  # fmt: skip
_OLD_NAMES = {"ts": "t", "confidence": "class_confidence"}
GEN1_SIZE = (240, 304)
"""(height, width) where a header does not say: the camera of GEN1."""


class DatFile:
    """A ``.dat`` file, read in pieces of any length. Times are 64-bit: each wrap of the clock adds 2**32.

    Args:
        path: of the file.

    Attributes:
        sensor_size: (height, width) as the header says; GEN1's where it does not.
        count: events in the file.

    Raises:
        FileMissingError: no such file.
        CorruptFileError: not a ``.dat`` file, events of another kind, or cut inside an event.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                header = self._header(file)
                self._start = file.tell()
                length = file.seek(0, 2) - self._start
        except OSError as error:
            raise FileMissingError(f"cannot read {self.path}: {error.strerror}") from None
        self.sensor_size = self._size(header)
        if length % _RAW.itemsize:
            raise CorruptFileError(
                f"{self.path} is cut inside an event: {length} bytes are {length // _RAW.itemsize} events of {_RAW.itemsize} "
                f"bytes and {length % _RAW.itemsize} more. Copy it again"
            )
        self.count = length // _RAW.itemsize

    def _header(self, file: IO[bytes]) -> dict[str, str]:
        fields: dict[str, str] = {}
        while file.peek(1)[:1] == b"%":  # type: ignore[attr-defined]
            line = file.readline(4096)
            words = line[1:].decode("latin-1").split(maxsplit=1)
            if len(words) == 2:
                fields.setdefault(words[0].lower(), words[1].strip())
        kind = file.read(2)
        if not fields or len(kind) < 2 or kind[0] not in CD_EVENTS or kind[1] != _RAW.itemsize:
            raise CorruptFileError(
                f"{self.path} is not a .dat file of change detection events: after its header lines come the bytes "
                f"{list(kind)} instead of type 0 or 12 and size 8"
            )
        if fields.get("version", "2") != "2":
            raise CorruptFileError(f"{self.path} is a .dat file of version {fields['version']}; only version 2 is read")
        return fields

    def _size(self, header: dict[str, str]) -> tuple[int, int]:
        try:
            height, width = (
                int(header.get(key, known)) for key, known in zip(("height", "width"), GEN1_SIZE, strict=True)
            )
        except ValueError:
            height = width = 0
        if not (1 <= height <= _Y_MAX + 1 and 1 <= width <= _X_MAX + 1):
            raise CorruptFileError(f"the header of {self.path} gives no height and width in pixels")
        return height, width

    def mismatch(self, sensor_size: tuple[int, int]) -> str:
        """Why a detector for a camera of (height, width) cannot take it; empty where it can."""
        if self.sensor_size == sensor_size:
            return ""
        return (
            f"{self.path} was recorded on {self.sensor_size[0]}x{self.sensor_size[1]} pixels (height x width), the detector is "
            f"for a camera of {sensor_size[0]}x{sensor_size[1]}: create it with sensor_size={self.sensor_size}"
        )

    def chunks(self, size: int = CHUNK) -> Iterator[Events]:
        """All events, at most ``size`` at a time.

        Raises:
            InvalidInputError: events out of order, or outside the sensor.
        """
        last, wraps, done = 0, 0, 0
        with self.path.open("rb") as file:
            file.seek(self._start)
            while len(raw := np.fromfile(file, _RAW, size)):
                times = raw["t"].astype(np.int64)
                # a clock that falls by more than half of its range has wrapped; less is disorder, which is reported
                steps = np.diff(times, prepend=last % WRAP) < -(WRAP // 2)
                times += (wraps + np.cumsum(steps)) * WRAP
                wraps += int(steps.sum())
                yield self._checked(raw, times, last, done)
                last, done = int(times[-1]), done + len(raw)

    def _checked(self, raw: npt.NDArray[np.void], times: npt.NDArray[np.int64], last: int, done: int) -> Events:
        events = empty_events(len(raw))
        word = raw["word"]
        events["x"], events["y"] = word & _X_MAX, (word >> 14) & _Y_MAX
        events["p"], events["t"] = (word >> 28) & 1, times
        where = f"{self.path}, events from number {done} on"
        if times[0] < last:
            raise InvalidInputError(f"{where}: the events are out of order: t = {times[0]} us comes after {last} us")
        try:
            return check_events(events, self.sensor_size)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}") from None

    def read(self) -> Events:
        """All events at once.

        Raises:
            InvalidInputError: no events, events out of order, or outside the sensor.
        """
        parts = list(self.chunks())
        if not parts:
            raise InvalidInputError(f"{self.path} holds no events")
        return np.concatenate(parts)


def windows(file: DatFile, ends: npt.NDArray[np.int64], window_us: int) -> Iterator[tuple[int, Events]]:
    """For each moment the events of the window before it, in one pass over the file.

    Args:
        file: with events in order.
        ends: moments in microseconds, ascending.
        window_us: duration of a window.

    Yields:
        The moment, and the events with ``end - window_us <= t < end``.
    """
    kept, chunks, more = empty_events(), file.chunks(), True
    for end in ends:
        while more and (not len(kept) or kept["t"][-1] < end):
            chunk = next(chunks, None)
            more = chunk is not None
            if chunk is not None:
                recent = kept[np.searchsorted(kept["t"], end - window_us) :]
                kept = np.concatenate([recent, chunk])
        first, last = np.searchsorted(kept["t"], [end - window_us, end])
        yield int(end), kept[first:last]


def stream_windows(file: DatFile, step_us: int, window_us: int) -> Iterator[tuple[int, Events]]:
    """The windows that end every ``step_us`` after the first event, and at the last event, in one pass over the file.

    Memory holds one window and one chunk, whatever the length of the file.

    Yields:
        The moment at which the window ends, and its events: ``end - window_us <= t < end``.
    """
    kept, end, done = empty_events(), 0, 0
    for chunk in file.chunks():
        if not len(kept):
            end = int(chunk["t"][0]) + step_us
        kept = np.concatenate([kept, chunk])
        while kept["t"][-1] >= end:
            first, last = np.searchsorted(kept["t"], [end - window_us, end])
            yield end, kept[first:last]
            kept, done, end = kept[first:], end, end + step_us
    if len(kept) and (end := int(kept["t"][-1]) + 1) > done:
        yield end, kept[np.searchsorted(kept["t"], end - window_us) :]


def write_dat(path: str | Path, events: Events | Iterable[Events], sensor_size: tuple[int, int]) -> Path:
    """Write events as a ``.dat`` file of version 2, whole or not at all. Times above 32 bits wrap, as the camera's do.

    Args:
        path: of the file.
        events: all of them, or one part after the other, for streams that do not fit into memory.
        sensor_size: (height, width) in pixels.

    Raises:
        InvalidInputError: see :func:`zoo.data.events.check_events`; also where a part goes back in time.
    """
    path = Path(path)
    height, width = sensor_size
    if max(sensor_size) > _X_MAX + 1:
        raise InvalidInputError("a .dat file holds sensors of up to 16384 pixels")
    header = f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n"
    last = 0
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(header.encode() + bytes([12, _RAW.itemsize]))
        for part in [events] if isinstance(events, np.ndarray) else events:
            checked = check_events(part, sensor_size)
            if int(checked["t"][0]) < last:
                what = f"{checked['t'][0]} us come after {last} us" if last else "a .dat file holds times from 0 on"
                raise InvalidInputError(f"the events are out of order: {what}")
            last = int(checked["t"][-1])
            file.write(_encoded(checked).tobytes())
    return path


def _encoded(events: Events) -> npt.NDArray[np.void]:
    raw = np.empty(len(events), _RAW)
    raw["t"] = events["t"] % WRAP
    x, y, p = (events[field].astype(np.uint32) for field in "xyp")
    raw["word"] = x | y << 14 | p << 28
    return raw


def read_boxes(path: str | Path) -> npt.NDArray[np.void]:
    """Boxes of a ``_bbox.npy`` file, with the field names of today: t, x, y, w, h, class_id, track_id, class_confidence.

    Raises:
        FileMissingError: no such file.
        CorruptFileError: not an array of boxes, or numbers that are not finite.
    """
    path = Path(path)
    try:
        # mapped: a header may claim any length, but not more than the file has
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise FileMissingError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - numpy evaluates the header as Python text, with whatever errors that has
        raise CorruptFileError(f"{path} is not a .npy file of boxes: {error or type(error).__name__}") from None
    if not isinstance(found, np.ndarray):
        raise CorruptFileError(f"{path} is an archive of arrays, not a .npy file of boxes")
    names = found.dtype.names
    renamed = {_OLD_NAMES.get(name, name): name for name in names or ()}
    needed = ("t", "x", "y", "w", "h", "class_id")
    if found.ndim != 1 or not set(needed) <= renamed.keys():
        raise CorruptFileError(f"{path} holds no boxes: it needs the fields {', '.join(needed)}, and has {names}")
    boxes = np.zeros(len(found), BOX_DTYPE)
    try:
        for name in set(BOX_DTYPE.names or ()) & renamed.keys():
            boxes[name] = found[renamed[name]]
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptFileError(f"{path} holds boxes whose numbers have other types: {error}") from None
    if not all(np.isfinite(boxes[name]).all() for name in "xywh"):
        raise CorruptFileError(f"{path} holds boxes that are not finite")
    return boxes


def write_boxes(path: str | Path, boxes: npt.NDArray[np.void]) -> Path:
    """Write boxes of ``BOX_DTYPE`` as a ``.npy`` file."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, boxes.astype(BOX_DTYPE), allow_pickle=False)
    write_atomically(Path(path), buffer.getvalue())
    return Path(path)
