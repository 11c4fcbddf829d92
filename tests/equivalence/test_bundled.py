"""The model that ships with the package: what it finds, and that every backend finds the same."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch

import zoo
from zoo.cards import CARDS
from zoo.data.digits import DigitsDetection
from zoo.evaluation import evaluate
from zoo.hub.integrity import check_manifest
from zoo.nir_graphs import io
from zoo.probes import default_images
from zoo.training.boxes import pairwise_iou
from zoo.verification import verify_in_each

NAME = "spikeyolo-digits"


@pytest.fixture(scope="module")
def detector() -> Any:
    return zoo.load(NAME)


def test_it_is_listed_and_its_card_is_complete() -> None:
    assert NAME in zoo.list_models(available=True)
    card = zoo.info(NAME)
    assert card.licence
    assert card.data_licence
    assert card.paper is not None
    assert "train(" in card.provenance.command or card.provenance.command.startswith("zoo train")
    assert len(card.provenance.commit) == 40
    assert all(metric.source.startswith("results/") for metric in card.metrics)
    assert (card.metric("mAP50") or 0) >= 0.96
    assert (card.metric("mAP50-95") or 0) >= 0.80


def test_its_folder_is_intact_and_small() -> None:
    manifest = check_manifest(CARDS / NAME)
    assert {"README.md", "card.json", "config.json", "model.safetensors", "model.nir"} <= set(manifest.files)
    assert manifest.files["model.nir"].size < 1.3 * manifest.files["model.safetensors"].size
    assert sum(entry.size for entry in manifest.files.values()) < 30e6


def test_its_graph_is_the_one_that_the_detector_exports(detector: Any) -> None:
    stored, exported = io.read(CARDS / NAME / "model.nir"), detector.to_nir()
    assert stored.edges == exported.edges
    assert stored.metadata == exported.metadata
    assert set(stored.nodes) == set(exported.nodes)
    for name, node in exported.nodes.items():
        twin = stored.nodes[name]
        assert type(twin) is type(node)
        for field in ("weight", "bias", "threshold", "scale", "delay"):
            if hasattr(node, field):
                np.testing.assert_array_equal(getattr(twin, field), getattr(node, field), err_msg=name)


def test_stock_nir_reads_it() -> None:
    graph = nir.read(CARDS / NAME / "model.nir", type_check=False)
    assert sum(isinstance(node, nir.Output) for node in graph.nodes.values()) == 3


def test_every_spike_is_identical_in_float64(detector: Any) -> None:
    exact, rounded = verify_in_each(
        detector, ["snntorch", "norse"], images=default_images(detector.config), dtypes=[torch.float64, torch.float32]
    )
    assert exact.passed
    assert rounded.passed
    assert all(row.expected > 10_000 for row in exact.comparisons)
    assert min(row.spike_iou for row in rounded.comparisons if row.inputs == "digits") > 0.95


def test_and_at_a_size_it_was_not_trained_on(detector: Any) -> None:
    images = default_images(detector.config, (128, 160), count=2)
    (exact,) = verify_in_each(detector, ["norse"], images=images, dtypes=[torch.float64])
    assert exact.passed
    assert exact.image_size == (128, 160)


@pytest.mark.parametrize("backend", ["norse", "snntorch", "reference"])
def test_it_finds_the_digits(backend: str) -> None:
    """At the default confidence: no digit missed, none found twice or with two classes, at most a tenth taken for another."""
    test = DigitsDetection("test", length=12, seed=1)
    twin: Any = zoo.load(NAME, backend=backend)
    digits = right = 0
    for index in range(len(test)):
        sample, found = test[index], twin.predict(test[index].image).detections
        overlap = pairwise_iou(torch.from_numpy(sample.boxes)[None], torch.from_numpy(found.xyxy)[None])[0].numpy()
        assert overlap.shape[0] == overlap.shape[1], f"canvas {index}: {len(sample.labels)} digits, {len(found)} found"
        assert (overlap.max(1) > 0.6).all()
        match = overlap.argmax(1)
        assert len(set(match)) == len(match)
        digits += len(match)
        right += int((found.class_id[match] == sample.labels).sum())
    assert right >= 0.9 * digits


def test_norse_finds_what_snntorch_finds(detector: Any) -> None:
    test = DigitsDetection("test", length=24, seed=2)
    twin: Any = zoo.load(NAME, backend="norse")
    for index in range(len(test)):
        one, other = detector.predict(test[index].image).detections, twin.predict(test[index].image).detections
        np.testing.assert_array_equal(other.class_id, one.class_id)
        np.testing.assert_allclose(other.xyxy, one.xyxy, rtol=0, atol=1e-2)
        np.testing.assert_allclose(other.confidence, one.confidence, rtol=0, atol=1e-4)


def test_the_trainable_form_is_the_same_function(detector: Any) -> None:
    unfused = zoo.load(NAME, trainable=True).double()
    images = default_images(detector.config, count=2)["digits"]
    with torch.no_grad():
        for expected, actual in zip(detector.double()(images), unfused(images), strict=True):
            # float32 rounding of the folded weights may flip single spikes
            assert (expected - actual).abs().mean() < 0.02 * expected.abs().mean()
    detector.float()


def test_map_on_500_held_out_canvases_equals_on_both_backends() -> None:
    test = DigitsDetection("test", length=500)
    measured = [evaluate(zoo.load(NAME, backend=name), test) for name in ("snntorch", "norse")]
    for metrics in measured:
        assert metrics.map50 >= 0.96
        assert metrics.map50_95 >= 0.80
    assert round(measured[0].map50, 4) == round(measured[1].map50, 4)
    assert round(measured[0].map50_95, 4) == round(measured[1].map50_95, 4)
