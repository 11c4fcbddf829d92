"""`zoo verify --record`: NIR data that stock nir reads, rasters, the first divergence, and a page that explains them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import nir
import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import lively_detector
from zoo.equivalence.recording import Run, _first, _panel, write_recording
from zoo.equivalence.report import Report
from zoo.equivalence.verification import verify_in_each
from zoo.errors import InvalidInputError

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector


STEPS = 2


@pytest.fixture(scope="module")
def report() -> Report:
    """Norse against the reference in float64, where everything agrees."""
    detector: Detector = lively_detector("ems-yolo-pico", time_steps=STEPS)
    images = {"noise": torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    (exact,) = verify_in_each(detector, ["norse"], images=images, dtypes=[torch.float64], record=True)
    return exact


def test_files_hold_what_was_recorded(report: Report, tmp_path: Path) -> None:
    assert report.graph is not None
    folder = write_recording(report, report.graph, tmp_path / "out")
    names = {path.name for path in folder.iterdir()}
    assert {
        "README.md",
        "report.json",
        "rasters-noise.png",
        "noise-norse.nirdata.h5",
        "noise-module.nirdata.h5",
    } <= names
    assert "divergence-noise.png" not in names
    data = nir.read_data(folder / "noise-norse.nirdata.h5")
    trace = report.traces["noise", "norse"][0]
    for node, spikes in trace.spikes.items():
        recorded = data.nodes[node].observables["spikes"]
        assert recorded.data.dtype == bool
        assert recorded.dt == 1.0
        expected = np.moveaxis(spikes, 1, 0).reshape(3, STEPS, -1) > 0
        assert np.array_equal(recorded.data, expected)
        potential = data.nodes[node].observables["potential"].data
        neuron = report.graph.nodes[node]
        threshold = neuron.full("threshold" if neuron.type is nir.Threshold else "v_threshold").ravel()
        assert np.array_equal(potential > threshold, expected)  # both belong together
    with Image.open(folder / "rasters-noise.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert not (pixels == (214, 39, 40)).all(1).any()
    assert (pixels == 0).all(1).mean() > 0.02
    page = (folder / "README.md").read_text()
    assert "Everything agrees" in page
    assert "every spike agrees" in page
    assert "How to read this" in page


def test_a_divergence_is_drawn_and_explained(report: Report, tmp_path: Path) -> None:
    (trace,) = report.traces["noise", "norse"]
    node = list(trace.spikes)[3]
    flipped = {**trace.spikes, node: trace.spikes[node].copy()}
    flipped[node][1, 2, 0, 0, 0] = 1 - flipped[node][1, 2, 0, 0, 0]
    traces = {**report.traces, ("noise", "norse"): [replace(trace, spikes=flipped)]}
    other = replace(report, traces=traces)
    assert other.graph is not None
    folder = write_recording(other, other.graph, tmp_path / "out")
    page = (folder / "README.md").read_text()
    assert f"norse on noise: node {node}, step 1, sample 2, neuron 0" in page
    for name in ("rasters-noise.png", "divergence-noise.png"):
        with Image.open(folder / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
        assert ((pixels[:, 0] > 200) & (pixels[:, 1] < 60) & (pixels[:, 2] < 60)).any(), name  # something is red


def test_an_existing_folder_is_left_alone(report: Report, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert report.graph is not None
    with pytest.raises(InvalidInputError, match="exists"):
        write_recording(report, report.graph, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_the_first_divergence_is_the_earliest_step() -> None:
    judge = Run({"a": np.zeros((3, 2, 4)), "b": np.zeros((3, 2, 4))}, {})
    late, early = np.zeros((3, 2, 4)), np.zeros((3, 2, 4))
    late[2, 0, 1] = early[1, 1, 3] = 1
    assert _first(judge, Run({"a": late, "b": early}, {}), ["a", "b"]) == ("b", 1, 1, 3)
    assert _first(judge, judge, ["a", "b"]) is None


def test_a_panel_shows_a_single_flip() -> None:
    spikes = np.zeros((2, 3, 500))
    other = spikes.copy()
    other[1, 2, 499] = 1
    image = _panel(spikes, other)
    assert (image == (214, 39, 40)).all(2).sum() == 1
