"""A simulated event camera: brightness over time in, events out.

A pixel fires when the logarithm of its brightness has moved by its threshold since it last fired, once per threshold; times
between two frames are interpolated. Thresholds differ from pixel to pixel, and pixels fire at random now and then.

Source: Rebecq, Gehrig, Scaramuzza, "ESIM: an Open Event Camera Simulator", CoRL 2018, section 3; pixel mismatch and
noise events as in Hu, Liu, Delbruck, "v2e: From Video Frames to Realistic DVS Events", CVPR workshops 2021.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from zoo.data.events import Events, empty_events

Array = npt.NDArray[np.float32]
DARK = 0.02  # brightness below which the logarithm is flattened, as leakage current does


class EventCamera:
    """A camera with its own pixels.

    Args:
        sensor_size: (height, width) in pixels.
        rng: makes its pixels, and its noise.
        threshold: mean of the contrast thresholds, in units of the natural logarithm.
        mismatch: their standard deviation.
        noise_rate: events per pixel and second that nothing causes.
    """

    def __init__(
        self,
        sensor_size: tuple[int, int],
        rng: np.random.Generator,
        *,
        threshold: float = 0.2,
        mismatch: float = 0.03,
        noise_rate: float = 1.0,
    ) -> None:
        self.sensor_size = sensor_size
        self.rng = rng
        self.noise_rate = noise_rate
        least = threshold / 4
        self.on, self.off = (
            np.maximum(rng.normal(threshold, mismatch, sensor_size), least).astype(np.float32) for _ in range(2)
        )

    def record(self, frames: Iterable[tuple[int, Array]]) -> Events:
        """Events of a scene.

        Args:
            frames: (t, brightness): times in microseconds, ascending, and (H, W) in about 0..1. The first one sets what the
                pixels compare with.

        Returns:
            Events in order of time.
        """
        parts: list[Events] = []
        before: tuple[int, Array] | None = None
        for now, brightness in frames:
            level = np.log(np.maximum(brightness, 0) + np.float32(DARK))
            if before is None:
                # pixels last fired at some point in the past, not all at this moment
                phase = self.rng.uniform(-1, 1, self.sensor_size).astype(np.float32)
                reference = level + np.where(phase > 0, phase * self.off, phase * self.on)
            else:
                parts += self._crossings(reference, before, (now, level))
                parts.append(self._noise(before[0], now))
            before = (now, level)
        events = np.concatenate([empty_events(), *parts])
        return events[np.argsort(events["t"], kind="stable")]

    def _crossings(self, reference: Array, before: tuple[int, Array], after: tuple[int, Array]) -> list[Events]:
        """Events between two moments; ``reference``, the level at which each pixel last fired, moves along."""
        (start, old), (stop, new) = before, after
        found = []
        for polarity, threshold in ((1, self.on), (0, self.off)):
            sign = np.float32(2 * polarity - 1)
            rows, columns = np.nonzero(sign * (new - reference) >= threshold)
            if not len(rows):
                continue
            step = threshold[rows, columns]
            moved = sign * (new[rows, columns] - reference[rows, columns])
            counts = np.floor(moved / step).astype(np.int64)
            pixel = np.repeat(np.arange(len(rows)), counts)
            nth = np.arange(len(pixel)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
            rise = sign * (new - old)[rows, columns][pixel]
            wanted = nth * step[pixel] - sign * (old - reference)[rows, columns][pixel]
            share = np.clip(wanted / np.where(rise > 0, rise, 1), 0, 1)
            events = empty_events(len(pixel))
            events["x"], events["y"], events["p"] = columns[pixel], rows[pixel], polarity
            events["t"] = start + np.minimum((share * (stop - start)).astype(np.int64), stop - start - 1)
            reference[rows, columns] += sign * counts.astype(np.float32) * step
            found.append(events)
        return found

    def _noise(self, start: int, stop: int) -> Events:
        height, width = self.sensor_size
        count = int(self.rng.poisson(self.noise_rate * height * width * (stop - start) * 1e-6))
        events = empty_events(count)
        events["x"], events["y"] = self.rng.integers(0, width, count), self.rng.integers(0, height, count)
        events["t"], events["p"] = self.rng.integers(start, stop, count), self.rng.integers(0, 2, count)
        return events
