"""The loop: exact resume, refusals before anything is written, the finite-loss guard, learning, and the model folder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.errors import CheckpointError, ConfigError, DataError, TrainingError, UnknownModelError, ZooError
from zoo.layers.neurons import PLIF
from zoo.training import TrainConfig, checkpoint, loop, make_train_config, train, train_model
from zoo.training.folder import claim


def settings(**changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "arch": "spikeyolo-pico",
        "image_size": 64,
        "train_length": 6,
        "batch_size": 2,
        "steps": 5,
        "warmup_steps": 2,
        "checkpoint_every": 2,
        "log_every": 1,
        "threads": 1,
    }
    return make_train_config(**(fields | changes))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same(one: Any, other: Any) -> bool:
    """Bit by bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def rows(folder: Path) -> list[list[str]]:
    """The table without the time, which differs between runs."""
    return [line.split(",")[:1] + line.split(",")[2:] for line in (folder / "metrics.csv").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(settings(), folder)
    return folder


@pytest.mark.parametrize("stops", [[2], [3], [1, 4]])
def test_resumed_equals_uninterrupted_bit_by_bit(uninterrupted: Path, tmp_path: Path, stops: list[int]) -> None:
    for stop in stops:  # 3 and 1 lie between two checkpoints: those steps are done again
        train(settings(), tmp_path / "run", stop_after=stop)
        torch.rand(3), random.random(), np.random.random()  # noqa: NPY002 what others draw in between must not matter
    train(settings(), tmp_path / "run")
    expected = checkpoint.load_latest(uninterrupted / "checkpoints")
    actual = checkpoint.load_latest(tmp_path / "run" / "checkpoints")
    assert expected is not None
    assert expected["step"] == 5
    assert same(expected, actual)
    assert rows(tmp_path / "run") == rows(uninterrupted)
    assert [row[0] for row in rows(uninterrupted)] == ["step", "1", "2", "3", "4", "5"]


def test_augmented_images_are_the_same_after_a_resume(tmp_path: Path) -> None:
    changes = {"mosaic": 0.5, "mixup": 0.3, "flip_horizontal": 0.5, "degrees": 5.0, "noise": 3.0}
    augmented = settings(augment=changes)
    train(augmented, tmp_path / "whole")
    train(augmented, tmp_path / "run", stop_after=3)
    train(augmented, tmp_path / "run")
    one, other = (checkpoint.load_latest(tmp_path / name / "checkpoints") for name in ("whole", "run"))
    assert same(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"mosiac": 0.5}, "did you mean 'mosaic'"), ({"scale": 1.0}, "scale: Input should be less than 1")],
)
def test_unknown_or_impossible_augmentation_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(augment=changes)


def test_augmentation_changes_the_run_and_nothing_else_does(uninterrupted: Path, tmp_path: Path) -> None:
    train(settings(augment={"flip_horizontal": 1.0}), tmp_path / "flipped", stop_after=1)
    train(settings(augment={"flip_horizontal": 0.0}), tmp_path / "plain", stop_after=1)
    assert rows(tmp_path / "flipped")[1] != rows(uninterrupted)[1]
    assert rows(tmp_path / "plain")[1] == rows(uninterrupted)[1]


def test_another_seed_gives_another_run(uninterrupted: Path, tmp_path: Path) -> None:
    train(settings(seed=1), tmp_path / "run", stop_after=2)
    expected, actual = rows(uninterrupted), rows(tmp_path / "run")
    assert expected[1] != actual[1]


def test_a_torn_last_row_is_repaired(tmp_path: Path) -> None:
    train(settings(), tmp_path, stop_after=3)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,0.1,3.")  # killed while writing
    train(settings(), tmp_path, stop_after=4)
    assert [row[0] for row in rows(tmp_path)] == ["step", "1", "2", "3", "4"]
    assert len({len(row) for row in rows(tmp_path)}) == 1


def test_the_callers_randomness_and_threads_stay_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train(settings(), tmp_path / "run", stop_after=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"arch": "spikeyolo-pixo"}, UnknownModelError, "spikeyolo-pico"),
        ({"data": "nowhere"}, DataError, "nowhere"),
        ({"image_size": 80}, ConfigError, "multiples of 32"),
        ({"image_size": 16}, DataError, "32 pixels"),
        ({"device": "cuda:77"}, ConfigError, "no device"),
        ({"validate_every": 1, "validate_split": "tset"}, DataError, "tset"),
    ],
)
def test_settings_that_cannot_be_met_write_nothing(
    tmp_path: Path, changes: dict[str, Any], error: type[ZooError], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_model(settings(**changes), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_other_settings_is_refused_and_kept(uninterrupted: Path) -> None:
    before = files(uninterrupted)
    with pytest.raises(TrainingError, match=r"another recipe \(lr = 0.003 there, 0.1 here\)"):
        train(settings(lr=0.1), uninterrupted)
    assert files(uninterrupted) == before


def test_other_peoples_folders_and_files_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("everything")
    with pytest.raises(TrainingError, match="holds no run"):
        train(settings(), tmp_path)
    with pytest.raises(TrainingError, match="is a file"):
        train(settings(), tmp_path / "thesis.tex")
    assert files(tmp_path) == {"thesis.tex": b"everything"}


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    config = settings()
    with claim(tmp_path / "run", config) as folder:
        folder.begin(0, checkpoint_bytes=0)
        with pytest.raises(TrainingError, match="another process"):
            train(config, tmp_path / "run")
    train(config, tmp_path / "run", stop_after=1)  # and it is free again


def test_damaged_checkpoints_are_one_clear_error(tmp_path: Path) -> None:
    train(settings(), tmp_path, stop_after=2)
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="is intact"):
        train(settings(), tmp_path)


@pytest.mark.parametrize("part", ["box", "cls", "dfl", "grad_norm"])
def test_a_loss_that_is_not_finite_stops_with_step_and_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    advance = loop.Run.advance

    def sabotaged(self: loop.Run, *batch: Any) -> dict[str, float]:
        if self.step == 3 and part == "grad_norm":
            next(self.detector.parameters()).register_hook(lambda gradient: gradient * float("nan"))
        elif self.step == 3:
            plain = self.loss
            monkeypatch.setattr(
                self, "loss", lambda *a: {k: v * (float("inf") if k == part else 1) for k, v in plain(*a).items()}
            )
        weights = [parameter.detach().clone() for parameter in self.detector.parameters()]
        try:
            return advance(self, *batch)
        except TrainingError:
            assert same(weights, [parameter.detach() for parameter in self.detector.parameters()])
            raise

    monkeypatch.setattr(loop.Run, "advance", sabotaged)
    with pytest.raises(TrainingError, match=rf"step 3 .*{part} = (inf|nan)"):
        train(settings(), tmp_path)
    left = checkpoint.load_latest(tmp_path / "checkpoints")
    assert left is not None
    assert left["step"] == 2
    assert all(tensor.isfinite().all() for tensor in left["model"].values() if tensor.is_floating_point())


def test_it_learns(tmp_path: Path) -> None:
    config = settings(train_length=4, batch_size=4, steps=25, checkpoint_every=1000, lr=3e-3)
    train(config, tmp_path)
    totals = [sum(map(float, row[1:4])) for row in rows(tmp_path)[1:]]
    assert np.mean(totals[-3:]) < 0.6 * np.mean(totals[:3])


def test_validation_is_logged_and_changes_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    train(settings(validate_every=2, validate_length=2), tmp_path)
    table = (tmp_path / "validation.csv").read_text().splitlines()
    assert table[0] == "step,seconds,mAP50,mAP50-95"
    assert [line.split(",")[0] for line in table[1:]] == ["2", "4"]
    assert all(0 <= float(value) <= 1 for line in table[1:] for value in line.split(",")[2:])
    assert rows(tmp_path) == rows(uninterrupted)


def test_decay_spares_biases_and_norms() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    decayed, free = loop.parameter_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [(2, 1, 3, 3)]
    assert len(free["params"]) == 3
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_the_model_folder_holds_the_averaged_detector(uninterrupted: Path) -> None:
    import zoo

    folder = train_model(settings(), uninterrupted, name="my-digits")  # finished already: only the folder is made
    assert folder == uninterrupted / "model"
    card, deployed, trainable = zoo.info(folder), zoo.load(folder), zoo.load(folder, trainable=True)
    assert card.name == "my-digits"
    assert card.dataset == "digits"
    assert card.provenance.command
    last = checkpoint.load_latest(uninterrupted / "checkpoints")
    assert last is not None
    averaged = {k.removeprefix("module."): v for k, v in last["averaged"].items() if k != "n_averaged"}
    assert same(averaged, dict(trainable.state_dict()))
    assert same(trainable.fuse().state_dict(), deployed.state_dict())
    before = files(folder)
    assert train_model(settings(), uninterrupted) == folder
    assert files(folder) == before


def test_event_detectors_learn_from_clips_and_from_recordings_alike(tmp_path: Path) -> None:
    """In memory and as GEN1 files: the same weights; one of the runs is interrupted."""
    from zoo.data.digit_events import write_recordings

    write_recordings(tmp_path / "gen1" / "train", "train", length=4)
    events: dict[str, Any] = {"arch": "eas-snn-pico", "train_length": 4, "steps": 3, "variant": {"ts": 3}}
    memory = settings(**events, data="digits-events")
    train(memory, tmp_path / "run", stop_after=2)
    folder = train_model(memory, tmp_path / "run", name="events")
    files = train(settings(**events, data=str(tmp_path / "gen1")), tmp_path / "files")
    assert same(dict(zoo.load(folder, trainable=True).state_dict()), dict(files.state_dict()))
    assert zoo.load(folder).config.input.events is not None
    assert (folder / "model.nir").exists()
    decays = {module.decay for module in files.modules() if isinstance(module, PLIF)}
    assert len(decays) > 10  # the decays are learned


def test_arguments_of_the_architecture_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes no argument tss"):
        train(settings(arch="eas-snn-pico", data="digits-events", variant={"tss": 3}), tmp_path / "run")
    with pytest.raises(DataError, match="this detector takes images"):
        train(settings(data="digits-events"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
