"""Moving handwritten digits, seen by a simulated event camera.

The digits and backgrounds are those of :mod:`zoo.data.digits`: real scans, and textures that training and test do not share.
One to three digits move steadily, with a small tremor, in front of a texture that stands still.

Clip ``i`` of a split depends on
(split, seed, i, size, window) alone.

:func:`write_recordings` writes the same clips as files in the layout of GEN1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.config import EventSpec
from zoo.data import prophesee
from zoo.data.digits import CLASS_NAMES, Split, _render, _scans, _tight_box, scan_indices
from zoo.data.event_camera import EventCamera
from zoo.data.events import Events, EventSample, micro_slices
from zoo.data.textures import TEST_TEXTURES, TRAIN_TEXTURES
from zoo.errors import DataError
from zoo.support.files import new_directory
from zoo.support.progress import progress_bar

Array = npt.NDArray[np.float32]
_SPLIT_CODE = {"train": 3, "test": 4}
MAX_DIGITS = 3
STEP_US = 2500
"""Time between two simulated frames."""


class _Mover:
    """One digit with its path.

    Attributes:
        label: its class.
        opacity: (h, w) within its tight box and one pixel around.
        brightness: of its ink.
    """

    def __init__(
        self, scan: Array, label: int, size: tuple[int, int], duration: float, rng: np.random.Generator
    ) -> None:
        self.label = label
        scale = min(size) / 96
        opacity = _render(scan, float(np.exp(rng.uniform(np.log(16.0), np.log(40.0)))) * scale, rng)
        x1, y1, x2, y2 = _tight_box(opacity) or (0, 0, *opacity.shape[::-1])
        self.box = (x2 - x1, y2 - y1)
        self.opacity = np.pad(opacity[y1:y2, x1:x2], 1).astype(np.float32)
        self.brightness = np.float32(0)
        limits = np.array(size[::-1]) - np.array(self.box) - 2.0
        self.end = rng.uniform(1.0, np.maximum(limits, 1.5))
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(20.0, 90.0) * scale
        self.velocity = speed * np.array([np.cos(angle), np.sin(angle)])
        self.tremor = rng.uniform(0.4, 1.2) * scale
        self.turns, self.phase = rng.uniform(5.0, 12.0), rng.uniform(0, 2 * np.pi)
        self.duration = duration

    def place(self, seconds: float) -> npt.NDArray[np.float64]:
        """Top left corner (x, y) of the tight box; at the end of the clip it is ``self.end``."""
        before = seconds - self.duration
        angle = 2 * np.pi * self.turns * before + self.phase
        start = np.array([np.cos(self.phase), np.sin(self.phase)])
        return self.end + self.velocity * before + self.tremor * (np.array([np.cos(angle), np.sin(angle)]) - start)

    def draw(self, canvas: Array, seconds: float) -> None:
        """Blend into the brightness (H, W), with the corner between pixels."""
        x, y = self.place(seconds) - 1.0
        left, top = int(np.floor(x)), int(np.floor(y))
        fx, fy = np.float32(x - left), np.float32(y - top)
        shifted = np.pad(self.opacity, ((0, 1), (0, 1))) * (1 - fx) + np.pad(self.opacity, ((0, 1), (1, 0))) * fx
        shifted = shifted * (1 - fy) + np.pad(shifted, ((1, 0), (0, 0)))[:-1] * fy
        height, width = canvas.shape
        rows = slice(max(top, 0), min(top + shifted.shape[0], height))
        columns = slice(max(left, 0), min(left + shifted.shape[1], width))
        if rows.start < rows.stop and columns.start < columns.stop:
            alpha = shifted[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            region = canvas[rows, columns]
            region += alpha * (self.brightness - region)

    def meets(self, other: _Mover) -> bool:
        """Whether the two come closer than two pixels at any of nine moments."""
        for moment in np.linspace(0, self.duration, 9):
            one, two = self.place(moment), other.place(moment)
            if all(
                one[axis] < two[axis] + other.box[axis] + 2 and two[axis] < one[axis] + self.box[axis] + 2
                for axis in (0, 1)
            ):
                return True
        return False


class DigitEvents:
    """Clips of moving digits; their objects are where they are at the end of the clip.

    Args:
        split: ``train`` or ``test``.
        length: number of clips.
        seed: another seed gives other clips of the same split.
        events: window, micro-slices and sensor; a clip is one window long.

    Raises:
        DataError: unknown split, or sizes that cannot be.
        MissingFrameworkError: scikit-learn is not installed.
    """

    class_names = CLASS_NAMES

    def __init__(self, split: Split, *, length: int, seed: int = 0, events: EventSpec | None = None) -> None:
        spec = EventSpec(sensor_size=(96, 96)) if events is None else events
        if split not in _SPLIT_CODE:
            raise DataError(f"the digits as events have the splits 'train' and 'test', not {split!r}")
        if length < 1 or seed < 0 or min(spec.sensor_size) < 48 or spec.window_us < 4 * STEP_US:
            raise DataError(
                f"the digits as events need length >= 1, seed >= 0, a sensor of at least 48 pixels and windows of at least "
                f"{4 * STEP_US} us"
            )
        self.split: Split = split
        self.length = length
        self.seed = seed
        self.events = spec
        self._indices = scan_indices(split)
        self._textures = TEST_TEXTURES if split == "test" else TRAIN_TEXTURES

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> EventSample:
        """Clip ``index`` as micro-slices, with its boxes and labels."""
        events, boxes, labels = self.clip(index)
        return EventSample(micro_slices(events, self.events, end=self.events.window_us), boxes, labels, index)

    def clip(self, index: int) -> tuple[Events, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Events of clip ``index`` from 0 to the window's end, boxes (N, 4) and labels (N,) at that end."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        size, window = self.events.sensor_size, self.events.window_us
        rng = np.random.default_rng([_SPLIT_CODE[self.split], self.seed, index, *size, window])
        background = self._textures[int(rng.integers(len(self._textures)))](size, rng).mean(2, dtype=np.float32)
        background = np.clip(background, 0.03, 0.97)
        movers = self._movers(background, rng)
        camera = EventCamera(size, rng, noise_rate=float(rng.uniform(0.2, 2.0)))
        events = camera.record(self._frames(background, movers))
        boxes = [[*mover.end, *(mover.end + mover.box)] for mover in movers]
        limit = np.array([size[1], size[0]] * 2, np.float32)
        corners = np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, limit)
        return events, corners, np.array([mover.label for mover in movers], np.int64)

    def _movers(self, background: Array, rng: np.random.Generator) -> list[_Mover]:
        scans, labels = _scans()
        movers: list[_Mover] = []
        for _ in range(int(rng.integers(1, MAX_DIGITS + 1))):
            for _attempt in range(10):
                index = int(self._indices[rng.integers(len(self._indices))])
                mover = _Mover(
                    scans[index], int(labels[index]), self.events.sensor_size, self.events.window_us * 1e-6, rng
                )
                if not any(mover.meets(other) for other in movers):
                    movers.append(mover)
                    break
        for mover in movers:
            x, y = mover.end.astype(int)
            here = float(background[y : y + mover.box[1], x : x + mover.box[0]].mean())
            distance = rng.uniform(0.3, 0.7)
            darker, lighter = here - distance >= 0.03, here + distance <= 0.97
            sign = -1 if darker and (not lighter or rng.random() < 0.5) else 1 if lighter or here < 0.5 else -1
            mover.brightness = np.float32(np.clip(here + sign * distance, 0.03, 0.97))
        return movers

    def _frames(self, background: Array, movers: list[_Mover]) -> Iterator[tuple[int, Array]]:
        window = self.events.window_us
        for now in [*range(0, window, STEP_US), window]:
            canvas = background.copy()
            for mover in movers:
                mover.draw(canvas, now * 1e-6)
            yield now, canvas


def write_recordings(
    folder: str | Path,
    split: Split,
    *,
    length: int,
    seed: int = 0,
    events: EventSpec | None = None,
    overwrite: bool = False,
) -> Path:
    """Write clips as ``FOLDER/clip_00000_td.dat``, ``clip_00000_bbox.npy``, ..., byte for byte the same each time.

    Args:
        folder: for this split; it appears only when complete.
        split, length, seed, events: see :class:`DigitEvents`.
        overwrite: replace a folder that is there.

    Raises:
        DataError: see :class:`DigitEvents`.
        InvalidInputError: the folder exists.
    """
    clips = DigitEvents(split, length=length, seed=seed, events=events)
    with new_directory(folder, overwrite=overwrite) as target, progress_bar("recording", total=length) as bar:
        (target / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n", encoding="utf-8")
        for index in range(length):
            stream, corners, labels = clips.clip(index)
            boxes = np.zeros(len(labels), prophesee.BOX_DTYPE)
            boxes["t"], boxes["class_id"], boxes["class_confidence"] = clips.events.window_us, labels, 1.0
            boxes["track_id"] = np.arange(len(labels))
            boxes["x"], boxes["y"] = corners[:, 0], corners[:, 1]
            boxes["w"], boxes["h"] = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
            prophesee.write_dat(target / f"clip_{index:05d}_td.dat", stream, clips.events.sensor_size)
            prophesee.write_boxes(target / f"clip_{index:05d}_bbox.npy", boxes)
            bar.advance()
    return Path(folder)
