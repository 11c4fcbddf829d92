"""Events: what is refused, micro-slices against a plain loop, the network's input, and drawings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zoo.config import EventSpec, InputSpec
from zoo.data.events import EVENT_DTYPE, Events, check_events, draw_events, empty_events, micro_slices, prepare_events
from zoo.errors import ConfigError, InvalidInputError


def events_of(*rows: tuple[int, int, int, int]) -> Events:
    """From (x, y, t, p)."""
    return np.array(list(rows), EVENT_DTYPE)


def some_events(count: int = 500, *, size: tuple[int, int] = (6, 9), last: int = 1000, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    events = empty_events(count)
    events["x"], events["y"] = rng.integers(0, size[1], count), rng.integers(0, size[0], count)
    events["p"], events["t"] = rng.integers(0, 2, count), np.sort(rng.integers(0, last, count))
    return events


def test_fields_of_other_types_and_orders_become_tonics() -> None:
    given = np.array([(5, 1, 2, 3)], [("t", "<u8"), ("p", "u1"), ("x", "<u2"), ("y", "<u2")])
    assert check_events(given, (4, 4)).tolist() == [(2, 3, 5, True)]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (np.zeros(3), "structured array with the fields x, y, t and p, got float64"),
        ("recording", "structured array .* got str"),
        (np.zeros(3, [("x", int), ("y", int), ("t", int)]), "structured array"),
        (empty_events(), "stream of events is empty"),
        (empty_events(4).reshape(2, 2), "stream of events is empty"),
        (events_of((0, 0, 0, 0), (9, 2, 0, 0)), "event 1 lies at x = 9, y = 2, outside the sensor of 9x6 pixels"),
        (events_of((0, 6, 0, 0)), "event 0 lies at x = 0, y = 6"),
        (events_of((-1, 0, 0, 0)), "event 0 lies at x = -1"),
        (
            events_of((0, 0, 5, 0), (0, 0, 7, 0), (0, 0, 6, 0)),
            "out of order: event 2 has t = 6 us after 7 us; sort them",
        ),
        (np.array([(0, 0, 0, -1)], [(name, int) for name in "xytp"]), "polarities must be 0 .* or 1"),
    ],
)
def test_what_is_no_stream_is_refused(events: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_events(events, (6, 9))


def test_micro_slices_count_events_as_a_plain_loop_does() -> None:
    spec = EventSpec(micro_slices=3, window_us=700, sensor_size=(6, 9))
    events, end = some_events(), 900
    expected = np.zeros((3, 2, 6, 9), int)
    for x, y, t, p in events.tolist():
        if end - 700 <= t < end:
            expected[int((t - (end - 700)) / (700 / 3)), int(p), y, x] += 1
    found = micro_slices(events, spec, end=end)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    assert 0 < found.sum() < len(events)


def test_windows_hold_their_first_microsecond_and_not_their_end() -> None:
    spec = EventSpec(micro_slices=2, window_us=10, sensor_size=(1, 4))
    events = events_of((0, 0, 9, 1), (1, 0, 10, 1), (2, 0, 15, 0), (3, 0, 19, 1), (0, 0, 20, 1))
    found = micro_slices(events, spec, end=20)
    assert found[0, 1, 0].tolist() == [0, 1, 0, 0]
    assert found[1, 0, 0].tolist() == [0, 0, 1, 0]
    assert found[1, 1, 0].tolist() == [0, 0, 0, 1]
    assert micro_slices(events, spec)[1, 1, 0].tolist() == [1, 0, 0, 1]  # by default the last event is in it
    assert micro_slices(events, spec, end=500).sum() == 0  # nothing moved
    assert micro_slices(events_of(*[(0, 0, 5, 1)] * 300), spec).max() == 300  # beyond 8 bits


def test_the_input_is_the_counts_or_their_interpolation_at_the_top_left() -> None:
    spec = InputSpec(channels=2, image_size=(32, 32), events=EventSpec(sensor_size=(32, 32)))
    counts = np.arange(4 * 2 * 32 * 32, dtype=np.uint16).reshape(4, 2, 32, 32)
    tensor, placement = prepare_events(counts, spec)
    np.testing.assert_array_equal(tensor.numpy(), counts)
    assert placement.scale == (1, 1)
    gen1 = InputSpec(channels=2, image_size=(640, 640), events=EventSpec())
    tensor, placement = prepare_events(np.ones((4, 2, 240, 304), np.uint8), gen1)
    assert tensor.shape == (4, 2, 640, 640)
    assert (tensor[:, :, :505] == 1).all()  # 240 * 640 / 304 = 505.3, as the released code has it
    assert (tensor[:, :, 505:] == 0).all()
    corners = np.array([[0.0, 0.0, 304.0, 240.0]], np.float32)
    np.testing.assert_allclose(placement.apply(corners), [[0, 0, 640, 505]], rtol=1e-6)
    np.testing.assert_allclose(placement.undo(placement.apply(corners)), corners, rtol=1e-6)
    with pytest.raises(InvalidInputError, match="does not take micro-slices"):
        prepare_events(np.ones((3, 2, 240, 304), np.uint8), gen1)


def test_drawings_show_polarity_and_age() -> None:
    counts = np.zeros((4, 2, 2, 2), np.uint8)
    counts[3, 1, 0, 0], counts[3, 0, 0, 1], counts[0, 1, 1, 0] = 3, 3, 3
    picture = draw_events(counts).astype(int)
    assert picture[1, 1].tolist() == [255, 255, 255]
    assert picture[0, 0, 2] > picture[0, 0, 0]  # brighter is blue
    assert picture[0, 1, 0] > picture[0, 1, 2]  # darker is red
    assert picture[1, 0].sum() > picture[0, 0].sum()  # older is paler


def test_events_need_two_channels() -> None:
    import zoo
    from zoo.config import make_config

    config = zoo.create("eas-snn-pico", num_classes=2).config.model_dump()
    with pytest.raises(ConfigError, match="2 channels, one per polarity"):
        make_config(**config | {"input": config["input"] | {"channels": 3}})
