"""The benchmark: it times what it says, and both ways of running T steps are the same computation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from zoo.cli import app
from zoo.errors import InvalidInputError
from zoo.measuring.speed import fourier_cost, time_backends, time_folding, time_sampler, turns

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector


def test_turns_take_the_least_time_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of our own, which goes on by as much as each call takes."""
    order: list[str] = []
    now = 0.0

    def call(name: str, seconds: list[float]) -> None:
        nonlocal now
        order.append(name)
        now += seconds.pop(0)

    monkeypatch.setattr("zoo.measuring.speed.time.perf_counter", lambda: now)
    a, b = [2.0, 0.5, 0.25], [0.0, 0.125, 4.0]
    best = turns({"a": lambda: call("a", a), "b": lambda: call("b", b)}, 2)
    assert order == ["a", "b"] * 3
    assert best == {"a": 0.25, "b": 0.125}


def test_every_backend_that_accepts_the_graph_has_a_row(deployed: Detector) -> None:
    rows, refused = time_backends(deployed, ["snntorch", "norse", "brian2"], image_size=(32, 32), repeats=1)
    assert [row.backend for row in rows] == ["module", "snntorch", "norse"]
    assert rows[0].ratio == 1
    assert all(row.milliseconds > 0 for row in rows)
    assert list(refused) == ["brian2"]
    with pytest.raises(InvalidInputError, match="at least 1"):
        time_backends(deployed, [], repeats=0)


def test_folding_and_stepping_give_the_same_bits() -> None:
    for kind in ("dense", "separable"):
        found = time_folding(kind, time_steps=3, repeats=1, channels=8, side=4)
        assert set(found) == {"folded", "stepped"}


def test_command_line(tmp_path: Path, model_folder: Path) -> None:
    out = tmp_path / "out.json"
    done = CliRunner().invoke(
        app, ["benchmark", str(model_folder), "-b", "norse", "--image-size", "32", "--repeats", "1", "--json", str(out)]
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(out.read_text())
    assert [row["backend"] for row in rows] == ["module", "norse"]
    assert rows[0]["image_size"] == "32x32"
    assert CliRunner().invoke(app, ["benchmark", "no-such-model"]).exit_code != 0


def test_the_sampler_is_timed_against_its_convolutions() -> None:
    found = time_sampler((16, 24), repeats=1)
    assert found.keys() == {"convolutions", "sampler"}
    assert all(value > 0 for value in found.values())
    outcome = CliRunner().invoke(app, ["benchmark", "sampler", "--image-size", "32", "--repeats", "1", "--json", "-"])
    rows = json.loads(outcome.stdout)
    assert [row["backend"] for row in rows] == ["convolutions", "sampler"]
    assert rows[0]["ratio"] == 1


def test_the_fourier_transforms_are_counted() -> None:
    cost = fourier_cost(2, (4, 6), repeats=1)
    # rfft2: columns of 2 channels (6 gathered, 2 x 4 out), rows of 4 channels in pairs (4 gathered, 2 x 4 out); and back
    there = 2 * (6 * 6 + 2 * 6 * 4) + 4 * 4 * 4 + 2 * 2 * (2 * 4) * 4
    back = 4 * 4 * 4 + 2 * 2 * (2 * 4) * 4 + 4 * 4 * 4 + 2 * 1 * (2 * 4) * 6
    assert cost.weights == there + back
    assert cost.macs > cost.weights
    assert cost.graph_ms > 0
    assert cost.fft_ms > 0
    outcome = CliRunner().invoke(app, ["benchmark", "fourier", "--image-size", "64", "--repeats", "1", "--json", "-"])
    rows = json.loads(outcome.stdout)
    assert {row["unit"] for row in rows} == {"weights", "MACs", "ms per map"}
    assert sum("torch.fft" in row["backend"] for row in rows) == 7
