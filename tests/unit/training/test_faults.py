"""What can go wrong while training: before the first step one clear error, and later no step is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.conftest import rows, same, small_settings, write_set
from zoo.errors import ConfigError, DataError, DataWarning, TrainingError
from zoo.training import checkpoint, loop, train, train_model


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 2},
        {"log_every": 2},
        {"keep": 5},
        {"checkpoint_every": 1},
        {"validate_every": 2, "validate_length": 3},
        {"threads": 2},
        {"name": "another-name"},
    ],
)
def test_a_run_continues_with_other_run_fields(tmp_path: Path, changes: dict[str, Any]) -> None:
    train(small_settings(), tmp_path, stop_after=2)
    train(small_settings(**changes), tmp_path, stop_after=3)
    there = json.loads((tmp_path / "train.json").read_text())
    assert all(there[name] == value for name, value in changes.items())


@pytest.mark.parametrize(
    ("field", "value", "before"),
    [
        ("lr", 0.1, "0.003"),
        ("steps", 6, "5"),
        ("batch_size", 3, "2"),
        ("levels", 2, "None"),
        ("seed", 1, "0"),
        ("split", "test", "None"),
        ("train_length", 5, "6"),
        ("ema_decay", 0.5, "0.998"),
        ("variant", {"decay": 0.5}, "{}"),
        ("start", "spikeyolo-digits", "None"),
        ("class_agnostic", True, "None"),
    ],
)
def test_a_run_is_refused_with_another_recipe(tmp_path: Path, field: str, value: Any, before: str) -> None:
    from zoo.training.folder import claim

    with claim(tmp_path / "run", small_settings()) as folder:
        folder.begin(0, checkpoint_bytes=0)
    kept = files(tmp_path)
    with pytest.raises(TrainingError) as caught:
        train(small_settings(**{field: value}), tmp_path / "run")
    assert f"another recipe ({field} = {before} there, {value!r} here)" in str(caught.value)
    assert "zoo train --resume" in str(caught.value)
    assert files(tmp_path) == kept


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(train(small_settings(steps=2), tmp_path_factory.mktemp("plain") / "run").state_dict())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0.01),
        ("steps", 3),
        ("batch_size", 3),
        ("seed", 1),
        ("warmup_steps", 1),
        ("weight_decay", 1.0),
        ("clip", 1e-3),
        ("ema_decay", 0.0),
    ],
)
def test_recipe_fields_decide_the_weights(
    tmp_path: Path, plain_weights: dict[str, Any], field: str, value: Any
) -> None:
    """Each of them changes the weights after a few steps: that is why a run does not continue with another."""
    other = train(small_settings(**{"steps": 2, field: value}), tmp_path / "run")
    assert not same(plain_weights, dict(other.state_dict()))


def test_one_image_of_one_pixel_per_map_cannot_train_batch_norm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="raise batch_size or image_size"):
        train(small_settings(batch_size=1, image_size=32), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trying_the_first_batch_leaves_no_trace() -> None:
    from zoo.training.sets import open_training_set
    from zoo.training.start import model_config

    config = small_settings()
    model = model_config(config, tuple("0123456789"))
    run = loop.Run(config, model, open_training_set(config, model.input))
    torch.manual_seed(7)
    before = {name: tensor.clone() for name, tensor in run.detector.state_dict().items()}
    random = torch.get_rng_state()
    run.try_first_batch()
    assert same(before, dict(run.detector.state_dict()))
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in run.detector.parameters())
    assert run.step == 0
    assert run.optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")])  # fmt: skip
def test_too_little_memory_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Greedy:
        def __call__(self, *_: Any) -> Any:
            raise error

    monkeypatch.setattr(loop, "make_loss", lambda *_: Greedy())
    with pytest.raises(
        TrainingError, match=r"shape \(2, 3, 64, 64\) does not fit into the memory of cpu: lower batch_size"
    ):
        train(small_settings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_damaged_images_are_warnings_and_the_run_goes_on(tmp_path: Path) -> None:
    """One truncated is left out at opening, one vanishes while training: each is warned of once, and a repetition gives the
    same weights."""
    results = []
    for attempt in ("one", "two"):
        data = write_set(tmp_path / attempt / "set")
        paths = sorted((data / "train").iterdir())
        paths[1].write_bytes(paths[1].read_bytes()[:-200])
        advance = loop.Run.advance

        def vanish(self: loop.Run, batch: Any, path: Path = paths[4]) -> Any:
            path.unlink(missing_ok=True)
            self.batches._cache.clear()
            return advance(self, batch)  # noqa: B023

        with pytest.MonkeyPatch.context() as patch, pytest.warns(DataWarning) as seen:  # noqa: PT031
            patch.setattr(loop.Run, "advance", vanish)
            results.append(train(small_settings(data=str(data), steps=9), tmp_path / attempt / "run"))
        messages = [str(warning.message) for warning in seen if issubclass(warning.category, DataWarning)]
        assert len(messages) == 2
        assert any(paths[1].name in message and "left out" in message for message in messages)
        assert any(paths[4].name in message and "another image takes its place" in message for message in messages)
    assert same(dict(results[0].state_dict()), dict(results[1].state_dict()))


def test_a_disk_that_is_gone_leaves_a_checkpoint(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    advance = loop.Run.advance

    def unplug(self: loop.Run, batch: Any) -> Any:
        if self.step == 2:
            for path in (data / "train").iterdir():
                path.unlink()
            self.batches._cache.clear()
        return advance(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Run, "advance", unplug)
        with pytest.raises(DataError, match="images in a row cannot be read"):
            train(small_settings(data=str(data), checkpoint_every=100), tmp_path / "run")
    state = checkpoint.load_latest(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state["step"] == 3


def test_a_validation_split_of_other_classes_is_refused(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    path = data / "annotations" / "test.json"
    content = json.loads(path.read_text())
    content["categories"][3]["name"] = "three"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"the split 'test' .* only the split has 'three': choose another --val-split"):
        train(small_settings(data=str(data), validate_every=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(small_settings(data=str(data), steps=1), tmp_path / "run")


def test_a_measurement_that_fails_is_a_warning(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    path = data / "annotations" / "test.json"
    content = json.loads(path.read_text())
    content["annotations"] = []
    path.write_text(json.dumps(content))
    with pytest.warns(DataWarning, match="mAP could not be measured after step 2"):
        train(small_settings(data=str(data), validate_every=2, steps=3), tmp_path / "run")
    assert not (tmp_path / "run" / "validation.csv").exists()
    assert len(rows(tmp_path / "run")) == 4


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fills_while_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    train(small_settings(), tmp_path, stop_after=2)
    before = files(tmp_path / "checkpoints")
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "step-" in path.name:
            write(path, data[:100])
            raise OSError(number, os.strerror(number))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(TrainingError, match=r"cannot write .*checkpoints: .*The last checkpoint is intact"):
            train(small_settings(), tmp_path)
    assert files(tmp_path / "checkpoints") == before
    train(small_settings(), tmp_path)  # and on it goes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.name != "posix" or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(small_disk: Path) -> None:
    with pytest.raises(TrainingError, match=r"3\.1 MB free, and this run needs .* MB for 2 checkpoints and the model"):
        train(small_settings(), small_disk / "run")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_training(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is written at each step: one line too many ends the run with one clear error."""
    monkeypatch.setattr(loop.Run, "nbytes", 0)
    advance = loop.Run.advance

    def fill(self: loop.Run, batch: Any) -> Any:
        if self.step == 1:
            with (small_disk / "other.bin").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
        return advance(self, batch)

    monkeypatch.setattr(loop.Run, "advance", fill)
    with pytest.raises(TrainingError, match=r"metrics\.csv: the disk is full"):
        train(small_settings(log_every=2), small_disk / "run")


def test_a_disk_that_turns_out_too_small(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate was wrong: the checkpoint of the end does not fit, and the error says so."""
    monkeypatch.setattr(loop.Run, "nbytes", 0)
    with pytest.raises(TrainingError, match="the disk is full"):
        train(small_settings(), small_disk / "run")
    assert not list((small_disk / "run" / "checkpoints").glob("step-*"))


@pytest.fixture
def read_only_disk(small_disk: Path) -> Iterator[Path]:
    """The same file system, read-only: also root cannot write there."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    yield small_disk
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


def test_a_read_only_place_is_refused_before_the_data_are_read(
    read_only_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "open_training_set", lambda *_: pytest.fail("the data were read"))
    with pytest.raises(TrainingError, match=r"cannot write .*disk is not writable"):
        train(small_settings(), read_only_disk / "new" / "run")


@pytest.mark.parametrize("place", ["x" * 300, "file/run"])
def test_places_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("something")
    with pytest.raises((TrainingError, ConfigError)):
        train(small_settings(), tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_model_that_cannot_be_written_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.hub import bundle

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "save_weights", full)
        with pytest.raises(TrainingError, match=r"the training is finished .* `zoo train --resume"):
            train_model(small_settings(), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    import zoo

    assert zoo.info(train_model(small_settings(), tmp_path / "run")).name == "spikeyolo-pico-digits"


def test_a_network_without_an_exact_graph_is_not_lost(tmp_path: Path) -> None:
    import zoo

    with pytest.warns(DataWarning, match="loads in snnTorch only"):
        model = train_model(small_settings(arch="spiking-yolo-pico", steps=1), tmp_path / "run")
    assert not (model / "model.nir").exists()
    assert zoo.load(model).class_names == tuple("0123456789")
