"""The simulated event camera, and digits as events: what a clip holds, and that files hold the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.config import EventSpec, InputSpec
from zoo.data import open_dataset
from zoo.data.digit_events import DigitEvents, write_recordings
from zoo.data.event_camera import DARK, EventCamera
from zoo.data.events import EventSample, check_events
from zoo.errors import DataError, InvalidInputError

SPEC = EventSpec(sensor_size=(96, 96))
INPUT = InputSpec(channels=2, image_size=(96, 96), events=SPEC)


def camera(**settings: float) -> EventCamera:
    return EventCamera((8, 8), np.random.default_rng(0), **{"mismatch": 0.0, "noise_rate": 0.0, **settings})


@pytest.mark.parametrize("brighter", [True, False])
def test_a_ramp_fires_once_per_threshold(brighter: bool) -> None:
    """The logarithm moves by 2.05: ten thresholds of 0.2, and one more where a pixel was about to fire."""
    levels = np.exp(np.linspace(-2, -2 + 2.05, 42)) - DARK
    levels = levels if brighter else levels[::-1]
    frames = [(1000 * i, np.full((8, 8), level, np.float32)) for i, level in enumerate(levels)]
    events = camera().record(frames)
    assert set(events["p"].tolist()) == {brighter}
    counts = np.zeros((8, 8), int)
    np.add.at(counts, (events["y"], events["x"]), 1)
    assert set(counts.flatten().tolist()) <= {9, 10, 11}
    assert (np.diff(events["t"]) >= 0).all()
    one = events[(events["x"] == 3) & (events["y"] == 4)]
    np.testing.assert_allclose(np.diff(one["t"]), 4000, atol=30)  # 0.2 / 0.05 frames apart


def test_a_jump_is_spread_over_the_time_between_frames() -> None:
    events = camera().record([(0, np.full((8, 8), 0.05, np.float32)), (1000, np.full((8, 8), 0.9, np.float32))])
    assert len(events) > 64 * 8
    assert events["t"].min() < 150
    assert 850 < events["t"].max() < 1000


def test_a_still_scene_gives_noise_at_its_rate() -> None:
    still = [(t, np.full((8, 8), 0.5, np.float32)) for t in range(0, 10_000_001, 100_000)]
    assert len(camera().record(still)) == 0
    events = camera(noise_rate=2.0).record(still)
    assert 0.8 < len(events) / (2.0 * 64 * 10) < 1.2
    assert 0.4 < events["p"].mean() < 0.6


def test_pixels_differ() -> None:
    on = camera(mismatch=0.03).on
    assert 0.01 < on.std() < 0.06
    assert on.min() >= 0.05


def test_clips_are_reproducible_and_hold_what_is_promised() -> None:
    clips, again = DigitEvents("test", length=12), DigitEvents("test", length=500)
    for index in range(12):
        events, boxes, labels = clips.clip(index)
        check_events(events, (96, 96))
        assert events["t"].min() >= 0
        assert events["t"].max() < 200_000
        assert 1 <= len(labels) <= 3
        assert (boxes >= 0).all()
        assert (boxes <= 96).all()
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides > 3).all()
        sample = again[index]
        np.testing.assert_array_equal(sample.boxes, boxes)
        assert sample.counts.sum() == len(events)
        # the newest slice fires more within the boxes than elsewhere
        inside = np.zeros((96, 96), bool)
        for x1, y1, x2, y2 in boxes.astype(int):
            inside[y1 : y2 + 1, x1 : x2 + 1] = True
        newest = sample.counts[-1].sum(0)
        assert newest[inside].mean() > 3 * newest[~inside].mean()


def test_splits_and_seeds_differ() -> None:
    one, other, third = (
        DigitEvents("test", length=1),
        DigitEvents("train", length=1),
        DigitEvents("test", length=1, seed=1),
    )
    assert one[0].counts.tobytes() != other[0].counts.tobytes()
    assert one[0].counts.tobytes() != third[0].counts.tobytes()
    assert not set(one._indices) & set(other._indices)
    assert not set(one._textures) & set(other._textures)


def test_files_are_gen1s_hold_the_clips_and_are_the_same_each_time(tmp_path: Path) -> None:
    folders = [write_recordings(tmp_path / name / "test", "test", length=3) for name in "ab"]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert len(files[0]) == 7
    dataset = open_dataset(tmp_path / "a", "test", spec=INPUT)
    memory = open_dataset("digits-events", "test", length=3, spec=INPUT)
    assert list(dataset.class_names) == list(memory.class_names)
    assert len(dataset) == 3
    for index in range(3):
        one, other = dataset[index], memory[index]
        assert isinstance(one, EventSample)
        assert isinstance(other, EventSample)
        np.testing.assert_array_equal(one.counts, other.counts)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-4)
        np.testing.assert_array_equal(one.labels, other.labels)
    with pytest.raises(InvalidInputError, match="exists"):
        write_recordings(tmp_path / "a" / "test", "test", length=1)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="the splits 'train' and 'test'"):
        DigitEvents("val", length=1)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least 48 pixels"):
        DigitEvents("test", length=1, events=EventSpec(sensor_size=(32, 32)))
    with pytest.raises(DataError, match="this detector takes images"):
        open_dataset("digits-events", "test")
    with pytest.raises(DataError, match="this detector takes events"):
        open_dataset("digits", "test", spec=INPUT)
    with pytest.raises(IndexError):
        DigitEvents("test", length=1)[1]
