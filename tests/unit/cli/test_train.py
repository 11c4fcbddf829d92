"""``zoo train``: every setting is reachable in three ways, and mistakes are one line before anything is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import zoo
from tests.unit.training.conftest import RECEIVES_INTERRUPTS, write_set
from zoo.cli import main
from zoo.training import TrainConfig, product
from zoo.training.config import setting_of, type_of

SMALL = [
    "--image-size", "64", "--train-length", "4", "--batch-size", "2", "--steps", "2", "--warmup-steps", "1", "--threads", "1",
]  # fmt: skip
VALUES: dict[str, Any] = {
    "start": "some/model", "time_steps": 3, "levels": 2, "image_size": 96, "class_agnostic": True, "variant": {"ts": 3},
    "data": "digits-events", "split": "train2017", "train_length": 7, "steps": 11, "batch_size": 5, "lr": 0.01,
    "final_lr": 0.5, "warmup_steps": 0, "weight_decay": 0.0, "clip": 1.5, "ema_decay": 0.9, "seed": 5, "box_gain": 1.0,
    "class_gain": 2.0, "dfl_gain": 3.0, "objectness_gain": 4.0, "name": "mine", "checkpoint_every": 9, "keep": 4,
    "log_every": 3, "validate_every": 8, "validate_split": "val2017", "validate_length": 6, "threads": 1, "workers": 2,
    "device": "cuda:1", "augment": {"flip_horizontal": 0.5},
}  # fmt: skip


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run ``zoo train`` in an empty working directory."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "100")

    def command(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main(["train", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    return command


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, Path]]:
    """Settings and folders that would have been trained."""
    found: list[tuple[TrainConfig, Path]] = []

    def remember(config: TrainConfig, folder: Path, **_: Any) -> Path:
        found.append((config, folder))
        return folder / "model"

    monkeypatch.setattr(product, "train_model", remember)
    monkeypatch.setattr(zoo, "load", lambda *_, **__: None)
    return found


def option(field: str, value: Any) -> list[str]:
    flags = setting_of(field).flags or (f"--{field.replace('_', '-')}",)
    if type_of(field) is bool:
        return [flags[0]] if value else [f"--no-{flags[0].removeprefix('--')}"]
    if isinstance(value, dict):
        return [word for key, one in value.items() for word in (flags[0], f"{key}={one}")]
    return [flags[0], str(value)]


def test_there_is_a_value_for_each_field() -> None:
    assert VALUES.keys() | {"arch"} == TrainConfig.model_fields.keys()
    assert all(value != TrainConfig.model_fields[name].default for name, value in VALUES.items())


@pytest.mark.parametrize("field", VALUES)
@pytest.mark.parametrize("way", ["option", "word", "file"])
def test_every_setting_is_reachable(run: Run, asked: list[tuple[TrainConfig, Path]], field: str, way: str) -> None:
    value = VALUES[field]
    if way == "option":
        words = option(field, value)
    elif way == "word":
        words = (
            [f"{field}.{key}={one}" for key, one in value.items()] if isinstance(value, dict) else [f"{field}={value}"]
        )
    else:
        Path("recipe.yaml").write_text(f"{field}: {json.dumps(value)}\n")
        words = ["--config", "recipe.yaml"]
    done = run("spikeyolo-pico", *words)
    assert done.code == 0, done.err
    ((config, _),) = asked
    assert getattr(config, field) == value
    assert config == TrainConfig(arch="spikeyolo-pico").model_copy(update={field: value})


def test_help_has_a_sentence_for_every_option(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    text = " ".join(done.out.replace("│", " ").split())
    for name, field in TrainConfig.model_fields.items():
        if name != "arch":
            assert field.description is not None
            assert f"{option(name, VALUES[name])[0]}" in text
            assert field.description.split(".")[0][:30] in text


def test_the_command_line_is_stronger_than_the_file(run: Run, asked: list[tuple[TrainConfig, Path]]) -> None:
    Path("recipe.yaml").write_text("arch: ems-yolo-pico\nlr: 1e-3\nsteps: 7\nset: {ts: 3, tm: 4}\n")
    assert run("--config", "recipe.yaml", "--lr", "0.5", "seed=3", "variant.ts=5", "--out", "here").code == 0
    ((config, folder),) = asked
    assert (config.arch, config.lr, config.steps, config.seed) == ("ems-yolo-pico", 0.5, 7, 3)
    assert config.variant == {"ts": 5, "tm": 4}
    assert folder == Path("here")
    assert run("spikeyolo-pico", "--config", "recipe.yaml").code == 0
    assert asked[1][0].arch == "spikeyolo-pico"
    assert asked[1][1] == Path("runs/spikeyolo-pico-digits")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which architecture is to be trained"),
        (["spikeyolo-pico", "ems-yolo-pico"], "one architecture is trained at a time"),
        (["spikeyolo-pico", "stepz=3"], "did you mean steps"),
        (["spikeyolo-pico", "epochs=3"], "steps = epochs"),
        (["spikeyolo-pico", "lr=0.1", "--lr", "0.2"], "lr is given twice"),
        (["spikeyolo-pico", "lr=fast"], "lr: Input should be a valid number"),
        (["spikeyolo-pico", "--steps", "0"], "steps"),
        (["spikeyolo-pico", "--set", "ts"], "NAME=VALUE"),
        (["spikeyolo-pico", "--config", "nothing.yaml"], "cannot read the settings"),
        (["spikeyolo-pico", "--name", "My_Model"], "for example 'my-model'"),
        (["spikeyolo-pico", "--device", "gpu"], "device"),
        (["spikeyolo-pico", "--device", "cuda:77"], "no device"),
        (["spikeyolo-pico", "--learning-rate", "1"], "No such option"),
        (["--resume", "nowhere"], "holds no run"),
        (["--resume", "nowhere", "--out", "somewhere"], "leave out --out"),
        (["--from", "spikeyolo-digitz"], "did you mean spikeyolo-digits"),
        (["ems-yolo-pico", "--from", "MODEL"], "of the architecture spikeyolo-pico, not ems-yolo-pico"),
        (["spikeyolo-pico", "--data", os.fsdecode(b"d\xff")], "not valid Unicode"),
        (["spikeyolo-pico", "--out", "x" * 300], "cannot write"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    run: Run, model_folder: Path, arguments: list[str], message: str
) -> None:
    done = run(*(str(model_folder) if word == "MODEL" else word for word in arguments), *SMALL[:2])
    assert done.code == 2
    assert message in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err
    if "No such option" not in message:
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_a_run_from_start_to_end_and_its_name(run: Run, tmp_path: Path) -> None:
    data = write_set(tmp_path / "My Blood_Cells", length=4, classes=("[/x]", "[red]b"))
    done = run("spikeyolo-pico", "--data", data, *SMALL, "--validate-every", "1")
    assert done.code == 0, done.err
    assert done.err == ""
    assert "the model will be called spikeyolo-pico-my-blood-cells" in done.out
    assert "spikeyolo-pico on 4 images (split train) of 2 classes ([/x], [red]b)" in done.out
    folder = Path("runs/spikeyolo-pico-my-blood-cells")
    assert f"trained model: {folder / 'model'}" in done.out
    card = zoo.info(folder / "model")
    assert card.name == "spikeyolo-pico-my-blood-cells"
    assert card.class_names == ("[/x]", "[red]b")
    assert card.provenance.command.startswith("zoo train spikeyolo-pico --data")
    assert "--steps 2" in card.provenance.command
    assert len((folder / "validation.csv").read_text().splitlines()) == 3
    again = run("spikeyolo-pico", "--data", data, *SMALL)
    assert again.code == 0
    assert "step 2 of 2" in again.out


def test_resume_takes_the_settings_of_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import functools

    from zoo.training import loop

    with monkeypatch.context() as patch:
        patch.setattr(product, "train", functools.partial(loop.train, stop_after=1))
        assert run("spikeyolo-pico", *SMALL, "--lr", "0.01", "--out", "[/x] run").code == 0
    shutil.rmtree("[/x] run/model")
    refused = run("--resume", "[/x] run", "lr=0.02")
    assert refused.code == 2
    assert "lr = 0.01 there, 0.02 here" in refused.err
    assert run("ems-yolo-pico", "--resume", "[/x] run").code == 2
    done = run("--resume", "[/x] run", "--log-every", "1", "--name", "other")
    assert done.code == 0, done.err
    assert "continuing at step 1 of 2" not in done.err
    assert zoo.info(Path("[/x] run/model")).name == "other"
    assert "--lr 0.01" in zoo.info(Path("[/x] run/model")).provenance.command


def test_fine_tuning_says_what_is_taken_over(run: Run, model_folder: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "shapes", length=4, classes=("round", "square", "star"))
    done = run("--from", model_folder, "--data", data, *SMALL, "--out", "tuned")
    assert done.code == 0, done.err
    assert "taken over: 521 tensors (backbone 239, neck 282); new: 84 tensors (head 84)" in done.out
    assert "(other classes: 3 in place of 10)" in done.out
    assert zoo.load("tuned/model").class_names == ("round", "square", "star")
    same = run("--from", model_folder, *SMALL, "--out", "same")
    assert same.code == 0, same.err
    assert "taken over: 605 tensors (backbone 239, neck 282, head 84); nothing is new" in same.out


def test_damaged_images_are_lines_on_stderr(run: Run, tmp_path: Path) -> None:
    data = write_set(tmp_path / "set", length=4)
    path = sorted((data / "train").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-300])
    done = run("spikeyolo-pico", "--data", data, *SMALL)
    assert done.code == 0
    assert done.err.startswith("warning: ")
    assert path.name in done.err
    assert "left out" in done.err
    assert done.err.count("\n") == 1


def test_folders_whose_names_are_no_text(run: Run) -> None:
    name = os.fsdecode(b"r\xff[/x]")
    done = run("spikeyolo-pico", *SMALL, "--out", name)
    assert done.code == 0, done.err
    assert "r\\udcff[/x]" in done.out
    assert zoo.info(Path(name) / "model").name == "spikeyolo-pico-digits"


def test_an_interrupted_fine_tuning_of_quantize_continues(
    monkeypatch: pytest.MonkeyPatch, model_folder: Path, tmp_path: Path
) -> None:
    """The same command continues; its folder is beside the model that is to be."""
    monkeypatch.chdir(tmp_path)
    code = """
import os, signal, sys
from zoo.training.loop import Run
advance = Run.advance
def stop(self, batch):
    values = advance(self, batch)
    if self.step == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return values
if sys.argv.pop(1) == "stop":
    Run.advance = stop
from zoo.cli import main
main(sys.argv[1:])
"""
    words = ["quantize", str(model_folder), "--out", "q8", "--calibration", "2", "--steps", "3", "--batch-size", "2"]

    def command(what: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", RECEIVES_INTERRUPTS + code, what, *words],
            text=True, capture_output=True, check=False
        )  # fmt: skip

    stopped = command("stop")
    assert stopped.returncode == 130, stopped.stderr
    assert "quantize" in stopped.stdout.splitlines()[-1]
    assert not Path("q8").exists()
    assert "step-000000002.pt" in [path.name for path in Path("q8.run/checkpoints").iterdir()]
    done = command("go on")
    assert done.returncode in {0, 1}, done.stderr
    assert zoo.load("q8").config.quantization is not None
