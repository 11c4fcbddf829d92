"""The command line: output, exit codes, and one clear line for every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.cli import main


class Outcome:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run a command in an empty working directory."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    return command


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(model_folder, copy)
    return copy


def test_list(run: Any) -> None:
    done = run("list", "*-coco", "--json", "out.json")
    assert done.code == 0
    assert "spikeyolo-s-coco" in done.out
    cards = json.loads(Path("out.json").read_text())
    assert [card["name"] for card in cards] == zoo.list_models("*-coco")
    assert json.loads(run("list", "--json", "-").out) == [zoo.info(name).to_dict() for name in zoo.list_models()]
    assert "spikeyolo-s-coco" not in run("list", "--available").out


def test_info(run: Any, model_folder: Path) -> None:
    done = run("info", model_folder, "--json", "out.json")
    assert done.code == 0
    assert "spikeyolo-pico" in done.out
    assert json.loads(Path("out.json").read_text()) == zoo.info(model_folder).to_dict()


def test_version_and_help(run: Any) -> None:
    assert zoo.__version__ in run("--version").out
    overview = run("--help").out
    for verb in ("list", "info", "predict", "export", "verify", "train", "val", "import-official", "demo"):
        assert verb in overview
        assert run(verb, "--help").code == 0


def test_predict(run: Any, model_folder: Path, picture: Path) -> None:
    done = run("predict", model_folder, picture, picture, "--conf", "0.01", "--out", "found", "--json", "out.json")
    assert done.code == 0
    assert sorted(path.name for path in Path("found").iterdir()) == ["001-picture.png", "002-picture.png"]
    with Image.open("found/001-picture.png") as drawn:
        assert drawn.size == (500, 300)  # small pictures are drawn enlarged
    written = json.loads(Path("out.json").read_text())
    result: Any = zoo.load(model_folder).predict(picture, conf=0.01)
    expected = result.to_dict()
    assert written["results"] == json.loads(json.dumps([expected, expected]))
    assert len(expected["detections"]) > 0


def test_predict_on_norse_finds_the_same(run: Any, model_folder: Path, picture: Path) -> None:
    for backend in ("snntorch", "norse"):
        assert run("predict", model_folder, picture, "-b", backend, "--json", f"{backend}.json").code == 0
    one, other = (json.loads(Path(f"{name}.json").read_text())["results"] for name in ("snntorch", "norse"))
    assert len(one[0]["detections"]) == len(other[0]["detections"])


def test_export(run: Any, model_folder: Path) -> None:
    done = run("export", model_folder, "-o", "deep/model.nir", "--image-size", "64x96")
    assert done.code == 0
    assert "MB" in done.out
    from zoo.nir_graphs import io, metadata

    assert metadata.get(io.read("deep/model.nir")).image_size == (64, 96)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_verify(run: Any, model_folder: Path, picture: Path, dtype: str) -> None:
    done = run(
        "verify", model_folder, "--backend", "norse", "--dtype", dtype, "--images", picture,
        "--json", "out.json", "--markdown", "out.md",
    )  # fmt: skip
    report = json.loads(Path("out.json").read_text())
    assert done.code == (0 if report["passed"] else 1)
    assert [row["backend"] for row in report["comparisons"]] == ["module", "norse"]
    assert report["dtype"] == dtype
    if dtype == "float64":
        assert report["passed"]
    assert "| norse |" in Path("out.md").read_text()


def test_verify_fails_with_exit_code_1(run: Any, model_folder: Path, picture: Path, monkeypatch: Any) -> None:
    from zoo.equivalence import runners

    honest = runners.GraphRunner.run

    def silent(self: Any, frames: Any) -> Any:
        trace = honest(self, frames)
        return runners.Recording(dict(trace.outputs), {name: s * 0 for name, s in trace.spikes.items()})

    monkeypatch.setattr(runners.GraphRunner, "run", silent)
    done = run("verify", model_folder, "-b", "norse", "--images", picture, "--json", "out.json")
    assert done.code == 1
    rows = {row["backend"]: row for row in json.loads(Path("out.json").read_text())["comparisons"]}
    assert rows["norse"]["spike_iou"] == 0
    assert not rows["norse"]["passed"]
    assert rows["module"]["passed"]


def test_val(run: Any, model_folder: Path) -> None:
    done = run("val", model_folder, "--length", "8", "--json", "out.json")
    assert done.code == 0
    measured = json.loads(Path("out.json").read_text())
    assert 0 <= measured["mAP50-95"] <= measured["mAP50"] <= 1
    assert measured["backend"] == "snntorch"
    assert run("val", model_folder, "--length", "8", "--backend", "norse", "--json", "norse.json").code == 0
    assert json.loads(Path("norse.json").read_text())["mAP50"] == pytest.approx(measured["mAP50"], abs=1e-4)


def test_train_makes_a_model_folder(run: Any) -> None:
    done = run(
        "train", "spikeyolo-pico", "--data", "digits", "--out", "run", "--steps", "2", "--batch-size", "2",
        "--train-length", "4", "--warmup-steps", "1",
    )  # fmt: skip
    assert done.code == 0
    assert zoo.load("run/model").class_names == tuple("0123456789")
    assert zoo.info(Path("run/model")).provenance.command != ""


def damaged(folder: Path, what: str) -> Path:
    """A model folder with one file damaged, under a manifest that fits."""
    from zoo.hub.integrity import write_manifest

    if what == "link":
        other = folder.parent / "secret.h5"
        with h5py.File(other, "w") as file:
            file["weight"] = np.arange(3.0)
        with h5py.File(folder / "model.nir", "a") as file:
            file["node"]["nodes"]["stolen"] = h5py.ExternalLink(str(other), "/")
    else:
        path = folder / what
        path.write_bytes(path.read_bytes()[:-200])
    write_manifest(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "spikeyolo-s-cocoa", "PICTURE"], "did you mean spikeyolo-s-coco"),
        (["predict", "MODEL", "nothing.png"], "there is no file nothing.png"),
        (["predict", "MODEL", "TEXT"], "not an image"),
        (["predict", "MODEL", "."], "no pictures"),
        (["predict", "MODEL", "PICTURE", "TEXT"], "not an image"),
        (["predict", "MODEL", "PICTURE", "--conf", "2"], "conf must lie in 0..1"),
        (["predict", "MODEL", "PICTURE", "--backend", "tensorflow"], "tensorflow"),
        (["predict", "MODEL", "PICTURE", "--device", "abacus"], "abacus"),
        (["predict", "MODEL", "PICTURE", "--json", "."], "it is a folder"),
        (["predict", "weights/none", "PICTURE"], "no model folder"),
        (["info", "spikeyolo"], "there is no model 'spikeyolo'"),
        (["export", "MODEL", "-o", "f.nir", "--image-size", "100"], "multiple"),
        (["export", "MODEL", "-o", "f.nir", "--image-size", "big"], "HEIGHTxWIDTH"),
        (["export", "MODEL", "-o", "."], "it is a folder"),
        (["verify", "MODEL", "--dtype", "float16"], "float32, float64"),
        (["verify", "MODEL", "--images", "nothing.png"], "there is no file"),
        (["verify", "MODEL", "--backend", "tensorflow"], "tensorflow"),
        (["val", "MODEL", "--data", "nowhere"], "no data set"),
        (["train", "spikeyolo-q", "--out", "run"], "no architecture"),
        (["train", "spikeyolo-pico", "--out", "run", "--steps", "0"], "steps"),
        (["train", "spikeyolo-pico", "--out", "run", "--data", "nowhere"], "no data set"),
        (["import-official", "spikeyolo-n", "nothing.pt", "--out", "m"], "nothing.pt"),
        (["import-official", "spikeyolo-n", "TEXT", "--out", "m"], ""),
        (["demo", "--model", "spikeyolo-digitz"], "there is no model"),
        (["list", "--colour"], "No such option"),
        (["frobnicate"], "No such command"),
        (["export", "MODEL"], "Missing option"),
    ],
)
def test_bad_input(run: Any, model_folder: Path, picture: Path, arguments: list[str], message: str) -> None:
    text = picture.parent / "notes.txt"
    text.write_text("no picture, no checkpoint")
    names = {"MODEL": str(model_folder), "PICTURE": str(picture), "TEXT": str(text)}
    done = run(*(names.get(argument, argument) for argument in arguments))
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("what", "backend"),
    [
        ("config.json", "snntorch"),
        ("card.json", "snntorch"),
        ("model.safetensors", "snntorch"),
        ("model.nir", "norse"),
        ("link", "reference"),
    ],
)
def test_damaged_model_folders(run: Any, folder: Path, picture: Path, what: str, backend: str) -> None:
    done = run("predict", damaged(folder, what), picture, "--backend", backend)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert list(Path.cwd().iterdir()) == []


def test_unexpected_exceptions_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object, **_keywords: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("zoo.api.list_models", broken)
    monkeypatch.setattr(zoo, "list_models", broken)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


def test_as_a_process_an_error_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli", "info", "spikeyolo-s-cocoa"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "did you mean spikeyolo-s-coco" in done.stderr
