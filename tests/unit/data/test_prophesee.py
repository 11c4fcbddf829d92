"""Prophesee's files: bytes written by hand, the 32-bit clock, damage, windows in one pass, and GEN1 folders."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.data.test_events import events_of, some_events
from zoo.config import EventSpec, InputSpec
from zoo.data import open_dataset
from zoo.data.events import EventSample, micro_slices
from zoo.data.gen1 import GEN1_CLASSES, BoxFilter, Gen1Detection
from zoo.data.prophesee import (
    BOX_DTYPE,
    WRAP,
    DatFile,
    read_boxes,
    stream_windows,
    windows,
    write_boxes,
    write_dat,
)
from zoo.errors import CorruptFileError, DataError, FileMissingError, InvalidInputError

SIZE = (6, 9)
HEADER = b"% Data file containing CD events.\n% Version 2\n% Date 2018-5-4\n% Height 240\n% Width 304\n"


def dat(path: Path, *rows: tuple[int, int, int, int], header: bytes = HEADER, kind: bytes = b"\x0c\x08") -> Path:
    """A file of (x, y, t, p), byte by byte."""
    body = b"".join(struct.pack("<II", t, x | y << 14 | p << 28) for x, y, t, p in rows)
    path.write_bytes(header + kind + body)
    return path


def boxes_of(*rows: tuple[int, float, float, float, float, int]) -> npt.NDArray[np.void]:
    """From (t, x, y, w, h, class)."""
    return np.array([(*row, 0, 1.0) for row in rows], BOX_DTYPE)


def test_a_file_by_hand_is_read(tmp_path: Path) -> None:
    file = DatFile(dat(tmp_path / "a.dat", (303, 239, 7, 1), (0, 5, 2**31, 0), kind=b"\x00\x08"))
    assert file.sensor_size == (240, 304)
    assert file.count == 2
    assert file.read().tolist() == [(303, 239, 7, True), (0, 5, 2**31, False)]


def test_headers_without_size_are_gen1s(tmp_path: Path) -> None:
    assert DatFile(dat(tmp_path / "a.dat", (0, 0, 0, 0), header=b"% Version 2\n")).sensor_size == (240, 304)


def test_what_is_written_is_read_and_written_again_the_same(tmp_path: Path) -> None:
    events = some_events()
    path = write_dat(tmp_path / "a.dat", events, SIZE)
    file = DatFile(path)
    assert file.sensor_size == SIZE
    np.testing.assert_array_equal(file.read(), events)
    assert write_dat(tmp_path / "b.dat", file.read(), SIZE).read_bytes() == path.read_bytes()


def test_parts_are_written_one_after_the_other(tmp_path: Path) -> None:
    events = some_events()
    whole = write_dat(tmp_path / "a.dat", events, SIZE).read_bytes()
    parts = (events[start : start + 70] for start in range(0, len(events), 70))
    assert write_dat(tmp_path / "b.dat", parts, SIZE).read_bytes() == whole
    with pytest.raises(InvalidInputError, match=r"out of order: .* come after"):
        write_dat(tmp_path / "c.dat", [events[300:], events[:300]], SIZE)
    assert not (tmp_path / "c.dat").exists()


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_clock_wraps_wherever_a_chunk_ends(tmp_path: Path, size: int) -> None:
    times = [WRAP - 5, WRAP - 1, WRAP, WRAP + 9, 2 * WRAP - 1, 2 * WRAP + 3]
    events = events_of(*[(1, 2, t, 1) for t in times])
    file = DatFile(write_dat(tmp_path / "a.dat", events, SIZE))
    assert np.concatenate(list(file.chunks(size)))["t"].tolist() == times


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_disorder_is_no_wrap(tmp_path: Path, size: int) -> None:
    file = DatFile(dat(tmp_path / "a.dat", (0, 0, 100, 1), (0, 0, 200, 1), (0, 0, 150, 1)))
    with pytest.raises(
        InvalidInputError, match=r"a\.dat, events from number \d on: the events are out of order: .*150 us"
    ):
        list(file.chunks(size))


def test_damage_is_named(tmp_path: Path) -> None:
    whole = dat(tmp_path / "a.dat", (0, 0, 1, 1), (1, 1, 2, 1)).read_bytes()
    path = tmp_path / "b.dat"
    path.write_bytes(whole[:-3])
    with pytest.raises(CorruptFileError, match=r"cut inside an event: 13 bytes are 1 events of 8 bytes and 5 more"):
        DatFile(path)
    for content, message in (
        (b"", "not a .dat file"),
        (b"\x89PNG\r\n", "not a .dat file"),
        (HEADER, r"come the bytes \[\]"),
        (HEADER + b"\x0e\x08", "not a .dat file of change detection"),
        (HEADER + b"\x0c\x10", "not a .dat file of change detection"),
        (b"% Version 1\n\x0c\x08", "version 1; only version 2"),
        (b"% Version 2\n% Height x\n\x0c\x08", "gives no height and width"),
        (b"% Version 2\n% Height 0\n\x0c\x08", "gives no height and width"),
    ):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=message):
            DatFile(path)
    with pytest.raises(FileMissingError, match="cannot read"):
        DatFile(tmp_path / "none.dat")
    empty = DatFile(dat(tmp_path / "c.dat"))
    with pytest.raises(InvalidInputError, match="holds no events"):
        empty.read()
    with pytest.raises(InvalidInputError, match=r"d\.dat, events from number 0 on: event 0 lies at x = 304"):
        DatFile(dat(tmp_path / "d.dat", (304, 0, 0, 1))).read()


def test_nothing_is_written_of_bad_events(tmp_path: Path) -> None:
    for events, message in ((some_events()[::-1], "out of order"), (events_of((9, 0, 0, 0)), "outside the sensor")):
        with pytest.raises(InvalidInputError, match=message):
            write_dat(tmp_path / "a.dat", events, SIZE)
    with pytest.raises(InvalidInputError, match="times from 0 on"):
        write_dat(tmp_path / "a.dat", events_of((0, 0, -1, 0)), SIZE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_windows_come_in_one_pass(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events = some_events(300)
    file = DatFile(write_dat(tmp_path / "a.dat", events, SIZE))
    whole = file.chunks
    monkeypatch.setattr(file, "chunks", lambda: whole(chunk))
    ends = np.array([50, 400, 410, 999, 5000])
    found = list(windows(file, ends, 120))
    assert [end for end, _ in found] == ends.tolist()
    for end, part in found:
        np.testing.assert_array_equal(part, events[(events["t"] >= end - 120) & (events["t"] < end)])
    streamed = list(stream_windows(file, 150, 120))
    first, last = int(events["t"][0]), int(events["t"][-1])
    assert [end for end, _ in streamed] == [*range(first + 150, last + 1, 150), last + 1]
    for end, part in streamed:
        np.testing.assert_array_equal(part, events[(events["t"] >= end - 120) & (events["t"] < end)])


def test_boxes_of_today_and_of_2019_are_read(tmp_path: Path) -> None:
    boxes = boxes_of((5, 1.5, 2, 3, 4, 1))
    np.testing.assert_array_equal(read_boxes(write_boxes(tmp_path / "a.npy", boxes)), boxes)
    old = np.array(
        [(5, 1.5, 2, 3, 4, 1, 0.5, 9)],
        [("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1"),
         ("confidence", "<f4"), ("track_id", "<u4")],
    )  # fmt: skip
    np.save(tmp_path / "b.npy", old)
    found = read_boxes(tmp_path / "b.npy")
    assert found["t"].tolist() == [5]
    assert found["class_confidence"].tolist() == [0.5]
    np.save(tmp_path / "c.npy", np.zeros(3))
    for name, message in (("c.npy", "needs the fields t, x, y, w, h, class_id"), ("d.npy", "not a .npy file")):
        (tmp_path / "d.npy").write_bytes(b"boxes")
        with pytest.raises(CorruptFileError, match=message):
            read_boxes(tmp_path / name)
    bad = boxes.copy()
    bad["w"] = np.nan
    with pytest.raises(CorruptFileError, match="not finite"):
        read_boxes(write_boxes(tmp_path / "e.npy", bad))


# Folders.


def recording(folder: Path, name: str, boxes: npt.NDArray[np.void], *, last: int = 1_000_000) -> npt.NDArray[np.void]:
    folder.mkdir(parents=True, exist_ok=True)
    events = some_events(2000, size=(240, 304), last=last, seed=len(name))
    write_dat(folder / f"{name}_td.dat", events, (240, 304))
    write_boxes(folder / f"{name}_bbox.npy", boxes)
    return events


def test_every_moment_with_boxes_is_a_sample(tmp_path: Path) -> None:
    first = recording(
        tmp_path / "test",
        "a",
        boxes_of((900_000, 10, 20, 40, 30, 0), (600_000, 0, 0, 50, 50, 1), (600_000, 9, 9, 60, 50, 0)),
    )
    recording(tmp_path / "test", "bb", boxes_of((700_000, 100, 100, 30, 30, 1)))
    dataset = open_dataset(tmp_path, "test", spec=InputSpec(channels=2, events=EventSpec()))
    assert tuple(dataset.class_names) == GEN1_CLASSES
    assert len(dataset) == 3
    sample = dataset[0]
    assert isinstance(sample, EventSample)
    assert sample.boxes.tolist() == [[0, 0, 50, 50], [9, 9, 69, 59]]
    assert sample.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(sample.counts, micro_slices(first, EventSpec(), end=600_000))
    assert dataset[1].boxes.tolist() == [[10, 20, 50, 50]]
    assert [dataset[i].image_id for i in range(3)] == [0, 1, 2]
    assert len(open_dataset(tmp_path, "test", length=2, spec=InputSpec(channels=2, events=EventSpec()))) == 2


def test_boxes_at_the_border_are_clipped_and_gen1s_rule_is_applied(tmp_path: Path) -> None:
    rows = [
        (500_000, 0, 0, 50, 50, 0),  # in the first half second
        (600_000, -20, 220, 50, 50, 0),  # over two borders
        (600_000, 290, 10, 60, 40, 1),
        (600_000, 400, 10, 60, 40, 1),  # outside altogether
        (600_000, 10, 10, 20, 20, 0),  # diagonal of 28.3
        (600_000, 10, 10, 9, 60, 0),  # too narrow
    ]
    recording(tmp_path, "a", boxes_of(*rows))
    (sample,) = list(Gen1Detection(tmp_path, EventSpec()))  # type: ignore[call-overload]
    assert sample.boxes.tolist() == [[0, 220, 30, 240], [290, 10, 304, 50]]
    everything = Gen1Detection(tmp_path, EventSpec(), keep=BoxFilter())
    assert [len(everything[i].labels) for i in range(len(everything))] == [1, 4]


def test_incomplete_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"layout .* is not known"):
        open_dataset(tmp_path, "test", spec=InputSpec(channels=2, events=EventSpec()))
    boxes = boxes_of((600_000, 0, 0, 50, 50, 0))
    recording(tmp_path, "a", boxes)
    with pytest.raises(DataError, match="holds recordings of events, and this detector takes images"):
        open_dataset(tmp_path, "test")
    (tmp_path / "b_bbox.npy").write_bytes((tmp_path / "a_bbox.npy").read_bytes())
    with pytest.raises(DataError, match=r"1 recordings without their _td\.dat, first b_td\.dat"):
        Gen1Detection(tmp_path, EventSpec())
    (tmp_path / "b_bbox.npy").rename(tmp_path / "a_bbox.npy.old")
    (tmp_path / "a_bbox.npy").rename(tmp_path / "kept")
    with pytest.raises(DataError, match=r"1 recordings without their _bbox\.npy, first a_bbox\.npy"):
        Gen1Detection(tmp_path, EventSpec())
    write_boxes(tmp_path / "a_bbox.npy", boxes_of((600_000, 0, 0, 50, 50, 2)))
    with pytest.raises(DataError, match="has the class 2, but there are only 2: car, pedestrian"):
        Gen1Detection(tmp_path, EventSpec())
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert Gen1Detection(tmp_path, EventSpec()).class_names == ("a", "b", "c")
    other = Gen1Detection(tmp_path, EventSpec(sensor_size=(96, 96)))
    with pytest.raises(DataError, match=r"recorded on 240x304 pixels .* create it with sensor_size=\(240, 304\)"):
        other[0]
    write_boxes(tmp_path / "a_bbox.npy", boxes_of((1, 0, 0, 50, 50, 0)))
    with pytest.raises(DataError, match="no moment with a box that counts"):
        Gen1Detection(tmp_path, EventSpec())
