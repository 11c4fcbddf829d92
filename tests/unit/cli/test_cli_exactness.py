"""The verbs that certify, quantise, convert and record: exit codes, files, one clear message for bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from tests.conftest import lively_detector
from zoo.cards import CARDS
from zoo.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


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


def test_certify_says_yes_with_0_and_no_with_1(run: Any, model_folder: Path) -> None:
    done = run("certify", "ems-yolo-digits", "--json", "out.json")
    assert done.code == 0
    assert "certified for float32: at most 23.60 of 24 bits" in done.out
    found = json.loads(Path("out.json").read_text())
    assert found["certified"]
    assert found["margin"] == 0.5
    refused = run("certify", model_folder)
    assert refused.code == 1
    assert "not certified for float32" in refused.out


def test_certify_reads_a_file_that_says_what_it_is_fed(run: Any, model_folder: Path) -> None:
    assert run("certify", CARDS / "spikeyolo-digits" / "model.nir").code == 0
    unknown = run("certify", model_folder / "model.nir")
    assert unknown.code == 2
    assert "what may be fed into this graph is unknown" in unknown.err
    assert run("certify", model_folder / "model.nir", "--input=-8,0,0.99609375").code == 1
    bad = run("certify", model_folder / "model.nir", "--input", "eight")
    assert bad.code == 2
    assert "EXPONENT,LOW,HIGH" in bad.err
    assert run("certify", "ems-yolo-digits", "--dtype", "float16").code == 2


def test_quantize_makes_a_certified_folder(run: Any, model_folder: Path) -> None:
    done = run("quantize", model_folder, "--out", "q8", "--calibration", "0")
    assert done.code == 0, done.err
    assert run("certify", "q8").code == 0
    again = run("quantize", model_folder, "--out", "q8")
    assert again.code == 2
    assert "exists already" in again.err
    bad = run("quantize", model_folder, "--out", "other", "--bits", "2")
    assert bad.code == 2
    assert "bits must lie in 4..16" in bad.err
    assert not Path("other").exists()


def test_convert_makes_a_spiking_folder_and_refuses_what_has_none(run: Any, model_folder: Path) -> None:
    from zoo.hub import bundle

    ann = lively_detector("spiking-yolo-pico", class_names=[str(digit) for digit in range(10)])
    bundle.write(
        "ann", ann.fuse(), card_fields={"name": "ann", "dataset": "digits"}, trainable_state=ann.state_dict(),
        require_graph=False,
    )  # fmt: skip
    assert run("convert", "ann", "--out", "snn", "-T", "4", "--calibration", "2").code == 0
    assert (Path("snn") / "model.nir").is_file()
    for arguments, message in (
        (("ann", "-T", "0"), "time_steps must be at least 1"),
        (("ann", "--calibration", "0"), "calibration data"),
        ((model_folder,), "spiking from the start"),
    ):
        done = run("convert", *arguments, "--out", "none")
        assert done.code == 2
        assert message in done.err
        assert not Path("none").exists()


def test_verify_records_into_a_folder(run: Any, model_folder: Path) -> None:
    Image.new("RGB", (96, 96), (200, 30, 90)).save("picture.png")
    arguments = (
        "verify",
        model_folder,
        "-b",
        "norse",
        "--images",
        "picture.png",
        "--dtype",
        "float64",
        "--record",
        "traces",
    )
    done = run(*arguments)
    assert done.code == 0, done.err
    assert {"README.md", "report.json", "rasters-given.png"} <= {path.name for path in Path("traces").iterdir()}
    again = run(*arguments)
    assert again.code == 2
    assert "exists already" in again.err


def test_claims_refuses_nonsense(run: Any) -> None:
    done = run("claims", "conversion", "spikeyolo-digits", "-T", "many")
    assert done.code == 2
    assert "numbers such as 16,64,256" in done.err
