"""Fine-tuning: what is taken over of another model, and what is new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import lively_detector
from tests.unit.training.conftest import same, small_settings, write_set
from zoo.detectors.detector import Detector
from zoo.errors import ConfigError, UnknownModelError
from zoo.training import checkpoint, make_train_config, train, train_model
from zoo.training.start import build, model_config

DIGITS = tuple("0123456789")
ARCHITECTURES = ["spikeyolo-pico", "ems-yolo-pico", "spiking-yolo-pico", "spikingyolox-pico", "eas-snn-pico"]


def prepared(start: Detector, class_names: Any, **settings: Any) -> tuple[Detector, Any]:
    config = make_train_config(arch=start.config.arch, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return build(model_config(config, class_names, start.config), start)


OTHERS = [
    (("cat", "dog", "bird"), "other classes: 3 in place of 10"),
    (tuple(f"c{i}" for i in range(10)), "other classes: 10 in place of 10"),
    (DIGITS[::-1], "the classes are in another order"),
]


@pytest.mark.parametrize(
    ("arch", "class_names", "why"),
    [("spikeyolo-pico", *OTHERS[1]), ("spikeyolo-pico", *OTHERS[2]), *((arch, *OTHERS[0]) for arch in ARCHITECTURES)],
)
def test_other_classes_keep_all_but_the_head(arch: str, class_names: tuple[str, ...], why: str) -> None:
    start = lively_detector(arch, class_names=list(DIGITS))
    detector, taken = prepared(start, class_names)
    assert detector.class_names == class_names
    before, after = dict(start.state_dict()), dict(detector.state_dict())
    for name, tensor in after.items():
        is_head = ".head." in name
        assert (name in taken.new) == is_head
        assert (name in taken.kept) != is_head
        if not is_head:
            assert same(tensor, before[name])
    weights = [name for name in taken.new if name.endswith("weight") and after[name].dim() == 4]
    assert weights
    assert not any(after[name].shape == before[name].shape and same(after[name], before[name]) for name in weights)
    said = taken.summary()
    assert f"taken over: {len(taken.kept)} tensors" in said
    assert f"new: {len(taken.new)} tensors (head {len(taken.new)}) ({why})" in said
    events = detector.config.input.events
    shape = (1, 3, 64, 64) if events is None else (events.micro_slices, 1, 2, 64, 64)
    assert all(raw.isfinite().all() for raw in detector(torch.rand(shape)))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_same_classes_take_over_everything(arch: str) -> None:
    start = lively_detector(arch, class_names=list(DIGITS))
    detector, taken = prepared(start, DIGITS)
    assert same(dict(detector.state_dict()), dict(start.state_dict()))
    assert taken.new == ()
    assert "nothing is new" in taken.summary()


def test_settings_that_are_given_change_the_model_and_others_do_not() -> None:
    start = lively_detector(time_steps=2, levels=2, image_size=(64, 96), class_names=list(DIGITS), class_agnostic=True)
    plain, _ = prepared(start, ("a",))
    assert (plain.time_steps, plain.config.levels, plain.image_size) == (2, 2, (64, 96))
    assert plain.config.decode.class_agnostic
    changed, taken = prepared(start, DIGITS, time_steps=4, levels=1, image_size=128, class_agnostic=False)
    assert (changed.time_steps, changed.config.levels, changed.image_size) == (4, 1, (128, 128))
    assert not changed.config.decode.class_agnostic
    assert taken.new == ()
    assert same(dict(changed.state_dict()), dict(start.state_dict()))


def test_events_keep_their_window_unless_another_is_given() -> None:
    start = lively_detector(
        "eas-snn-pico", tm=6, ts=3, window_us=100_000, sensor_size=(96, 128), class_names=list(DIGITS)
    )
    kept, _ = prepared(start, ("a",))
    assert kept.config.input == start.config.input
    changed, _ = prepared(start, ("a",), variant={"window_us": 50_000})
    assert start.config.input.events is not None
    assert changed.config.input.events == start.config.input.events.model_copy(update={"window_us": 50_000})
    assert changed.config.variant["ts"] == 3


def test_what_does_not_fit_is_refused() -> None:
    start = lively_detector(class_names=list(DIGITS))
    with pytest.raises(ConfigError, match="of the architecture spikeyolo-pico, not ems-yolo-pico"):
        model_config(make_train_config(arch="ems-yolo-pico"), DIGITS, start.config)
    with pytest.raises(UnknownModelError):
        model_config(make_train_config(arch="spikeyolo-pixo"), DIGITS, start.config)
    with pytest.raises(ConfigError, match="this one is fused"):
        prepared(start.fuse(), ("a",))


def test_a_fine_tuned_run_continues_without_the_model_it_came_from(tmp_path: Path) -> None:
    """Interrupted after the second step, with the first model gone: the same weights as in one go, bit by bit."""
    data = str(write_set(tmp_path / "shapes", classes=("round", "square", "star")))
    start = lively_detector(class_names=list(DIGITS))
    settings = small_settings(data=data, start="digits-model")
    said: list[str] = []
    whole = train(settings, tmp_path / "whole", start=lively_detector(class_names=list(DIGITS)), say=said.append)
    assert any("from digits-model, taken over" in line and "head" in line for line in said)
    train(settings, tmp_path / "run", start=start, stop_after=2)
    finished = train(settings, tmp_path / "run")
    assert same(dict(whole.state_dict()), dict(finished.state_dict()))
    assert finished.class_names == ("round", "square", "star")
    states = [checkpoint.load_latest(tmp_path / name / "checkpoints") for name in ("whole", "run")]
    assert same(*states)
    model = train_model(settings, tmp_path / "run")
    import zoo

    assert zoo.load(model).class_names == ("round", "square", "star")
    assert "the weights of digits-model" in zoo.info(model).description
    with pytest.raises(ConfigError, match="load digits-model and pass it"):
        train(settings, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_learning_begins_at_the_model_and_not_at_random(tmp_path: Path) -> None:
    """After no steps to speak of, the averaged weights of the backbone are still those of the model."""
    start = lively_detector(class_names=list(DIGITS))
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    data = str(write_set(tmp_path / "shapes", classes=("round", "square")))
    tuned = train(small_settings(data=data, start="m", steps=1, lr=1e-9, warmup_steps=0), tmp_path / "run", start=start)
    for name, tensor in tuned.state_dict().items():
        if name.endswith("conv.weight") and ".head." not in name:
            torch.testing.assert_close(tensor, before[name])
