"""Events of event cameras: checking them, cutting them into micro-slices, and drawing them.

A stream of events is a structured array with the fields x, y (pixels), t (microseconds) and p (1 where it grew brighter), the
convention of tonic (https://tonic.readthedocs.io).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.config import EventSpec, InputSpec
from zoo.data.images import Placement
from zoo.errors import DataError, InvalidInputError

Events = npt.NDArray[np.void]
Counts = npt.NDArray[np.unsignedinteger]
Pixels = npt.NDArray[np.uint8]

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)])
"""As tonic has it."""
_BRIGHTER, _DARKER = (38, 96, 214), (214, 58, 38)


def empty_events(count: int = 0) -> Events:
    """An array of ``count`` events, all zero."""
    return np.zeros(count, EVENT_DTYPE)


def check_events(events: Any, sensor_size: tuple[int, int]) -> Events:
    """Events in tonic's form, after they were found to be in order and on the sensor.

    Args:
        events: structured array with the fields x, y, t and p.
        sensor_size: (height, width) in pixels.

    Raises:
        InvalidInputError: other fields, no events at all, an event outside the sensor, a polarity other than 0 and 1, or times
            that go back; the message says which event.
    """
    if not isinstance(events, np.ndarray) or events.dtype.names is None or not set("xytp") <= set(events.dtype.names):
        given = getattr(events, "dtype", type(events).__name__)
        raise InvalidInputError(f"expected events as a structured array with the fields x, y, t and p, got {given}")
    if events.ndim != 1 or len(events) == 0:
        raise InvalidInputError(f"the stream of events is empty: its shape is {events.shape}")
    height, width = sensor_size
    outside = (events["x"] < 0) | (events["x"] >= width) | (events["y"] < 0) | (events["y"] >= height)
    if outside.any():
        first = int(outside.argmax())
        raise InvalidInputError(
            f"event {first} lies at x = {events['x'][first]}, y = {events['y'][first]}, outside the sensor of {width}x{height} "
            "pixels; is it another camera? Then crop the events, or say sensor_size=(height, width)"
        )
    if not np.isin(events["p"], (0, 1)).all():
        raise InvalidInputError("polarities must be 0 (darker) or 1 (brighter); map -1 to 0")
    times = events["t"].astype(np.int64)
    back = np.diff(times) < 0
    if back.any():
        first = int(back.argmax()) + 1
        raise InvalidInputError(
            f"the events are out of order: event {first} has t = {times[first]} us after {times[first - 1]} us; sort them by t "
            "(where a 32-bit clock wrapped, add 2**32 first)"
        )
    out = empty_events(len(events))
    for field in "xytp":
        out[field] = events[field]
    return out


def micro_slices(events: Events, spec: EventSpec, *, end: int | None = None) -> Counts:
    """Events per pixel and polarity in each of Tm slices of equal duration.

    Args:
        events: in order; see :func:`check_events`.
        spec: window, slices and sensor.
        end: of the window in microseconds, which reaches from ``end - window_us`` up to but not including it; by default the
            last event is the last in it. A window without events is all zero: nothing moved.

    Returns:
        (Tm, 2, H, W), oldest slice first; darker, then brighter. The smallest unsigned type that holds the counts.
    """
    height, width = spec.sensor_size
    if end is None:
        end = int(events["t"][-1]) + 1
    start = end - spec.window_us
    first, last = np.searchsorted(events["t"], [start, end])
    chosen = events[first:last]
    index = (chosen["t"] - start) * spec.micro_slices // spec.window_us
    flat = ((index * 2 + chosen["p"]) * height + chosen["y"]) * width + chosen["x"]
    counts = np.bincount(flat, minlength=spec.micro_slices * 2 * height * width)
    smallest = np.min_scalar_type(int(counts.max(initial=0)))
    return counts.astype(smallest).reshape(spec.micro_slices, 2, height, width)


def prepare_events(counts: Counts, spec: InputSpec, size: tuple[int, int] | None = None) -> tuple[Tensor, Placement]:
    """Micro-slices -> network input (Tm, 2, h, w), float32 counts, and where the sensor lies in it.

    For another size than the sensor's: bilinear interpolation, with the aspect ratio kept, at the top left, as in EAS-SNN.

    Args:
        counts: (Tm, 2, H, W).
        spec: of an event detector.
        size: (h, w) of the input; by default the specification's.

    Raises:
        InvalidInputError: another number of slices than the detector's.
    """
    events = spec.events
    if events is None or counts.shape[:2] != (events.micro_slices, 2):
        raise InvalidInputError(f"this detector does not take micro-slices of shape {counts.shape}")
    target = spec.image_size if size is None else size
    height, width = counts.shape[-2:]
    tensor = torch.from_numpy(counts.astype(np.float32))
    scale = min(target[0] / height, target[1] / width)
    inner = (max(1, int(height * scale)), max(1, int(width * scale)))
    if inner != (height, width):
        tensor = F.interpolate(tensor, size=inner, mode="bilinear", align_corners=False)
    if inner != target:
        tensor = F.pad(tensor, (0, target[1] - inner[1], 0, target[0] - inner[0]))
    return tensor, Placement((inner[1] / width, inner[0] / height), (0, 0), (height, width))


def draw_events(counts: Counts) -> Pixels:
    """A picture (H, W, 3) of micro-slices (Tm, 2, H, W): brighter blue, darker red, on white; newer slices stronger."""
    age = np.linspace(0.35, 1.0, len(counts))[:, None, None]
    darker, brighter = ((np.minimum(counts[:, p], 3) / 3 * age).max(0) for p in (0, 1))
    strength = np.maximum(darker, brighter)[..., None]
    colour = np.where((brighter >= darker)[..., None], np.array(_BRIGHTER), np.array(_DARKER))
    return (255 - strength * (255 - colour) + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class EventSample:
    """What an event camera saw before a moment, and the objects at that moment.

    Attributes:
        counts: micro-slices (Tm, 2, H, W), oldest first.
        boxes: (N, 4) as x1, y1, x2, y2 in pixels of the sensor.
        labels: (N,) index into the set's class names.
        image_id: identifies the moment within its set.
    """

    counts: Counts
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    image_id: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the sensor."""
        return self.counts.shape[-2], self.counts.shape[-1]

    @property
    def nbytes(self) -> int:
        """Memory of what was seen."""
        return self.counts.nbytes


def require_events(spec: InputSpec, source: object) -> EventSpec:
    """How a detector takes events.

    Raises:
        DataError: it takes pictures.
    """
    if spec.events is None:
        raise DataError(f"{source} holds events, and this detector takes pictures")
    return spec.events
