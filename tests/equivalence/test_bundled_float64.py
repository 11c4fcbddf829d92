"""The bundled models with float weights: what they find, and that every spike is the same on every backend in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

import zoo
from zoo.cards import CARDS
from zoo.data import open_dataset
from zoo.data.digit_events import DigitEvents
from zoo.equivalence.probes import default_images
from zoo.equivalence.verification import verify_in_each
from zoo.evaluation import evaluate
from zoo.hub.integrity import check_manifest
from zoo.measuring.ledger import read_rows
from zoo.nir_graphs import io

LEAST = {"eas-snn-digits-events": 0.80, "spikingyolox-digits": 0.90}
"""mAP50 on 500 held-out clips or canvases."""
RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module", params=LEAST)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def detector(name: str) -> Any:
    return zoo.load(name)


def test_it_is_listed_and_its_card_is_complete(name: str) -> None:
    assert name in zoo.list_models(available=True)
    card = zoo.info(name)
    assert card.licence
    assert card.data_licence
    assert card.paper is not None
    assert card.provenance.command.startswith(f"zoo train {card.arch}")
    assert len(card.provenance.commit) == 40


def test_it_was_measured_on_500_and_its_card_says_the_same(name: str) -> None:
    rows = [row for row in read_rows("val", folder=RESULTS) if row["model"] == name]
    last = {row["backend"]: row for row in rows}  # of the weights that are bundled now
    assert last.keys() >= {"snntorch", "norse"}
    assert all(int(row["images"]) == 500 for row in rows)
    assert all(float(row["mAP50"]) >= LEAST[name] for row in last.values())
    # in float32 spikes near a threshold may differ: these models are equal in float64
    assert abs(float(last["snntorch"]["mAP50"]) - float(last["norse"]["mAP50"])) < 0.002
    measured = {(metric.name, metric.value) for metric in zoo.info(name).metrics}
    assert measured
    assert measured <= {(key, float(row[key])) for row in rows for key in ("mAP50", "mAP50-95")}


def test_it_still_finds_as_many(name: str, detector: Any) -> None:
    source = zoo.info(name).dataset
    dataset = open_dataset(source, "test", length=100, seed=3, spec=detector.config.input)
    assert evaluate(detector, dataset).map50 >= LEAST[name] - 0.04


def test_its_folder_is_intact_and_stock_nir_reads_it(name: str, detector: Any) -> None:
    manifest = check_manifest(CARDS / name)
    assert {"model.safetensors", "trainable.safetensors", "model.nir"} <= set(manifest.files)
    assert sum(entry.size for entry in manifest.files.values()) < 30e6
    stored, exported = io.read(CARDS / name / "model.nir"), detector.to_nir()
    assert stored.edges == exported.edges
    assert stored.metadata == exported.metadata
    graph = nir.read(CARDS / name / "model.nir", type_check=False)
    for key, node in exported.nodes.items():
        for field in ("weight", "bias", "threshold", "scale"):
            if hasattr(node, field):
                np.testing.assert_array_equal(getattr(graph.nodes[key], field), getattr(node, field), err_msg=key)


def test_every_spike_is_the_same_on_every_backend(detector: Any) -> None:
    images = default_images(detector.config, count=4)
    (report,) = verify_in_each(detector, "all", images=images, dtypes=[torch.float64])
    assert report.passed
    assert {row.backend for row in report.comparisons} == {
        "module", "snntorch", "norse", "spikingjelly", "sinabs", "jax",
    }  # fmt: skip
    for row in report.comparisons:
        assert row.mismatches == 0
        assert row.head_error < 1e-9
    assert sum(row.expected for row in report.comparisons if row.backend == "module") > 100_000
    assert list(report.refused) == ["brian2"]


def test_a_recording_is_detected_along_its_way_on_every_backend(tmp_path: Path) -> None:
    from zoo.data.prophesee import write_dat

    events, boxes, _ = DigitEvents("test", length=3, seed=1).clip(2)
    path = write_dat(tmp_path / "a.dat", events, (96, 96))
    one: Any = zoo.load("eas-snn-digits-events", dtype="float64")
    other: Any = zoo.load("eas-snn-digits-events", backend="norse", dtype="float64")
    for first, second in zip(
        one.predict_recording(path, step_us=50_000), other.predict_recording(path, step_us=50_000), strict=True
    ):
        assert first.time_us == second.time_us
        np.testing.assert_allclose(second.detections.xyxy, first.detections.xyxy, atol=1e-3)
    assert len(boxes) > 0
