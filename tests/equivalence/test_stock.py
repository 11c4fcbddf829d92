"""``zoo export --profile stock``: plain ``nir.read(path)`` loads the file with right types, and it is the same detector."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import numpy.typing as npt
import pytest

import zoo
from zoo.detectors.detector import Detector
from zoo.nir_graphs import metadata, reference
from zoo.nir_graphs.normalise import normalise

SMALL = {
    "eas-snn-digits-events": (32, 16, 4),
    "ems-yolo-digits": (32, 16, 16),
    "spikeyolo-digits": (32, 4, 16),
    "spiking-yolo-digits": (32, 64, 2),
    "spiking-yolo-digits-leaky": (32, 64, 2),
    "spikingyolox-digits": (64, 4, 4),
}
"""Pixels of each side, time steps and batch of each bundled model."""


def test_every_bundled_model_is_here() -> None:
    assert zoo.list_models(available=True) == list(SMALL)


def frames(detector: Detector, size: int, steps: int, batch: int) -> npt.NDArray[np.float64]:
    """Noise in grey levels of 8 bits, or event counts, brighter from image to image; T steps with other values each."""
    random = np.random.default_rng(7)
    levels = np.linspace(0.2, 1.0, batch)[:, None, None, None]
    values = random.uniform(size=(steps, batch, detector.config.input.channels, size, size)) * levels
    return np.floor(values * 4) if detector.encoder is not None else np.floor(values * 256) / 256


def require_equal(detector: Detector, path: Path, x: npt.NDArray[np.float64]) -> float:
    """Every spike and every output of the file that stock nir reads is that of the full graph; returns the mean rate."""
    full = detector.to_nir(x.shape[-1])
    read = nir.read(path)
    stock = normalise(read)
    for name, shape in stock.shapes.items():
        assert tuple(next(iter(read.nodes[name].output_type.values()))) == shape, name
    assert metadata.get(read) == metadata.get(full)
    assert all(node["groups"] == 1 for node in stock.nodes.values() if node.type is nir.Conv2d)
    one, two = (reference.run(graph, x, record="neurons") for graph in (full, stock))
    assert set(one.spikes) == set(two.spikes)
    for name, spikes in one.spikes.items():
        np.testing.assert_array_equal(two.spikes[name], spikes, err_msg=name)
    for name, values in one.outputs.items():
        np.testing.assert_array_equal(two.outputs[name], values, err_msg=name)
    return float(np.mean([spikes.mean() for spikes in one.spikes.values()]))


@pytest.mark.parametrize("name", SMALL)
def test_the_same_spikes_at_a_small_size(name: str, tmp_path: Path) -> None:
    size, steps, batch = SMALL[name]
    detector = zoo.load(name)
    path = zoo.export(detector, tmp_path / "stock.nir", image_size=size, profile="stock")
    rate = require_equal(detector, path, frames(detector, size, steps, batch))
    assert 0.02 < rate < 0.5


@pytest.mark.parametrize(("name", "steps", "batch"), [("spikeyolo-digits", 1, 8), ("ems-yolo-digits", 4, 4)])
def test_the_same_spikes_at_the_size_of_the_model(name: str, steps: int, batch: int, tmp_path: Path) -> None:
    detector = zoo.load(name)
    path = zoo.export(name, tmp_path / "stock.nir", profile="stock")
    rate = require_equal(detector, path, frames(detector, 96, steps, batch))
    assert 0.05 < rate < 0.5


def test_the_full_profile_is_why(tmp_path: Path) -> None:
    """When this fails, a newer nir infers the types of grouped or non-square convolutions rightly."""
    for name, (size, *_) in SMALL.items():
        path = zoo.export(name, tmp_path / "full.nir", image_size=size)
        with pytest.raises(ValueError, match=r"type mismatch"):
            nir.read(path)
        assert nir.read(path, type_check=False).nodes


def test_with_one_output(tmp_path: Path) -> None:
    """Maps of odd and even sizes, placed below each other by convolutions that are not square."""
    detector = zoo.load("spikeyolo-digits")
    path = zoo.export(detector, tmp_path / "stock.nir", single_output=True, profile="stock")
    stock = normalise(nir.read(path))
    assert stock.outputs == ("output",)
    x = frames(detector, 96, steps=1, batch=2)
    separate, merged = reference.run(detector.to_nir(), x), reference.run(stock, x).outputs["output"]
    for place, values in zip(stock.info.outputs, separate.outputs.values(), strict=True):
        rows = slice(place["top"], place["top"] + place["height"])
        np.testing.assert_array_equal(merged[..., rows, : place["width"]], values)
