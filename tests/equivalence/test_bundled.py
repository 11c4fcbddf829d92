"""The models that ship with the package: what they find, and that every backend finds the very same, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

import zoo
from zoo.cards import CARDS
from zoo.data.digits import DigitsDetection
from zoo.equivalence.probes import default_images
from zoo.equivalence.verification import verify_in_each
from zoo.evaluation import evaluate
from zoo.heads.boxes import pairwise_iou
from zoo.hub.integrity import check_manifest
from zoo.measuring.ledger import read_rows
from zoo.nir_graphs import io

LEAST = {"spikeyolo-digits": (0.97, 0.83), "ems-yolo-digits": (0.90, 0.65)}
"""mAP50 and mAP50-95 on 500 held-out canvases, of the models that are certified for float32."""
CONVERTED = "spiking-yolo-digits"
NAMES = list(LEAST)
RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module", params=NAMES)
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
    assert card.provenance.command.startswith("zoo quantize")
    assert len(card.provenance.commit) == 40
    assert "at commit" in card.provenance.source
    assert "certified for float32" in card.description


def test_its_numbers_are_those_of_the_results(name: str) -> None:
    card = zoo.info(name)
    rows = [row for row in read_rows("val", folder=RESULTS) if row["model"] == name]
    measured = {(metric.name, metric.value) for metric in card.metrics}
    assert measured
    assert measured <= {(key, float(row[key])) for row in rows for key in ("mAP50", "mAP50-95")}
    assert all(metric.source == "results/val.csv" for metric in card.metrics)
    assert all(int(row["images"]) == 500 for row in rows)


def test_quantisation_costs_at_most_a_hundredth(name: str) -> None:
    rows = [row for row in read_rows("val", folder=RESULTS) if row["model"] == name and row["backend"] == "snntorch"]
    by_weights = {row["weights"]: float(row["mAP50"]) for row in rows}
    assert by_weights["trainable"] - by_weights["deployed"] <= 0.01


def test_its_folder_is_intact_and_small(name: str) -> None:
    manifest = check_manifest(CARDS / name)
    assert {"README.md", "card.json", "config.json", "model.safetensors", "model.nir"} <= set(manifest.files)
    assert manifest.files["model.nir"].size < 1.3 * manifest.files["model.safetensors"].size
    assert sum(entry.size for entry in manifest.files.values()) < 30e6


def test_it_is_certified_for_float32(name: str) -> None:
    found = zoo.certify(name)
    assert found.certified
    assert found.bits <= 24
    assert found.margin == 0.5
    stored = zoo.certify(CARDS / name / "model.nir")  # the file alone says what it takes and for how many steps
    assert stored.certified
    assert stored.bits == found.bits


def test_its_weights_have_eight_bits(detector: Any) -> None:
    for module in detector.modules():
        if isinstance(module, torch.nn.Conv2d):
            weight = module.weight.detach().double()
            _, exponent = torch.frexp(weight[weight != 0].abs().min())
            units = weight / 2.0 ** (int(exponent) - 8)
            unit = np.gcd.reduce(units.round().long().abs().flatten().numpy())
            assert torch.equal(units, units.round())
            assert units.abs().max() / unit <= 127


def test_its_graph_is_the_one_that_the_detector_exports(name: str, detector: Any) -> None:
    stored, exported = io.read(CARDS / name / "model.nir"), detector.to_nir()
    assert stored.edges == exported.edges
    assert stored.metadata == exported.metadata
    assert set(stored.nodes) == set(exported.nodes)
    for node_name, node in exported.nodes.items():
        twin = stored.nodes[node_name]
        assert type(twin) is type(node)
        for field in ("weight", "bias", "threshold", "scale", "delay", "tau", "v_threshold", "v_reset"):
            if hasattr(node, field):
                np.testing.assert_array_equal(getattr(twin, field), getattr(node, field), err_msg=node_name)


def test_stock_nir_reads_it(name: str) -> None:
    graph = nir.read(CARDS / name / "model.nir", type_check=False)
    assert sum(isinstance(node, nir.Output) for node in graph.nodes.values()) == len(
        zoo.load(name).config.decode.strides
    )


def test_every_bit_is_identical_on_every_backend(detector: Any) -> None:
    """Digits, noise and saturated pictures, 16 each, in float32: all spikes, and all bits of all heads."""
    report = zoo.verify(detector, "all", dtype="float32")
    assert report.certified
    assert {row.inputs for row in report.comparisons} == {"digits", "noise", "saturated"}
    assert {row.backend for row in report.comparisons} == {
        "module", "snntorch", "norse", "spikingjelly", "sinabs", "jax",
    }  # fmt: skip
    for row in report.comparisons:
        assert row.images >= 16
        assert row.mismatches == 0
        assert row.head_error == 0
        assert row.expected > 10_000
    assert report.passed
    assert list(report.refused) == ["brian2"]


def test_and_at_a_size_it_was_not_trained_on(detector: Any) -> None:
    images = default_images(detector.config, (64, 160), count=2)
    rounded, exact = verify_in_each(detector, ["norse"], images=images, dtypes=[torch.float32, torch.float64])
    assert rounded.passed
    assert exact.passed
    assert rounded.certified
    assert exact.image_size == (64, 160)


@pytest.mark.parametrize("backend", ["norse", "snntorch", "reference"])
def test_it_finds_the_digits(backend: str) -> None:
    """At the default confidence: no digit missed, none found twice or with two classes, at most a tenth taken for another."""
    test = DigitsDetection("test", length=12, seed=1)
    twin: Any = zoo.load("spikeyolo-digits", backend=backend)
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


def test_every_backend_finds_the_very_same(name: str, detector: Any) -> None:
    test = DigitsDetection("test", length=6, seed=2)
    for backend in ("norse", "spikingjelly", "sinabs", "jax"):
        twin: Any = zoo.load(name, backend=backend)
        for index in range(len(test)):
            one, other = detector.predict(test[index].image).detections, twin.predict(test[index].image).detections
            np.testing.assert_array_equal(other.class_id, one.class_id)
            np.testing.assert_array_equal(other.xyxy, one.xyxy)
            np.testing.assert_array_equal(other.confidence, one.confidence)


def test_the_trainable_form_has_float_weights_and_finds_digits(name: str) -> None:
    unfused = zoo.load(name, trainable=True)
    assert not unfused.is_fused
    assert unfused.config.quantization is None
    measured = evaluate(unfused, DigitsDetection("test", length=40, seed=3))
    assert measured.map50 >= LEAST[name][0] - 0.03


def test_quantising_the_trainable_form_again_gives_the_very_same_weights() -> None:
    """As `zoo quantize spikeyolo-digits` made them: calibrated on 32 training pictures."""
    from zoo.compression.quantized_bundle import calibration_pictures

    trainable: Any = zoo.load("spikeyolo-digits", trainable=True)
    again = zoo.quantize(trainable, calibration=calibration_pictures("digits", trainable, 32, 0))
    expected = zoo.load("spikeyolo-digits").state_dict()
    assert again.state_dict().keys() == expected.keys()
    for key, value in again.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_map_on_500_held_out_canvases_equals_on_both_backends(name: str) -> None:
    test = DigitsDetection("test", length=500)
    one, other = (evaluate(zoo.load(name, backend=backend), test) for backend in ("snntorch", "norse"))
    assert one.map50 >= LEAST[name][0]
    assert one.map50_95 >= LEAST[name][1]
    assert (one.map50, one.map50_95) == (other.map50, other.map50_95)


# The converted model. It is not certified: its tier is float64-exact.


@pytest.fixture(scope="module")
def converted() -> Any:
    return zoo.load(CONVERTED)


@pytest.mark.parametrize("steps", [16, 64])
def test_the_converted_model_fires_the_same_spikes_in_float64(converted: Any, steps: int) -> None:
    images = default_images(converted.config, count=16 if steps == 16 else 2)
    (report,) = verify_in_each(
        converted, ["norse", "spikingjelly"] if steps == 16 else ["norse"],
        images={"digits": images["digits"]}, time_steps=steps, dtypes=[torch.float64],
    )  # fmt: skip
    assert report.passed
    assert not report.certified
    assert all(row.expected > 10_000 for row in report.comparisons)


def test_the_converted_model_says_how_it_was_made_and_what_it_loses(converted: Any) -> None:
    card = zoo.info(CONVERTED)
    assert "Converted to spikes" in card.description
    assert card.provenance.command.startswith("zoo convert")
    assert card.provenance.source.startswith("float weights made by zoo train spiking-yolo-pico")
    rows = {
        row["weights"]: float(row["mAP50"]) for row in read_rows("val", folder=RESULTS) if row["model"] == CONVERTED
    }
    assert rows["deployed"] >= 0.90
    assert rows["trainable"] > rows["deployed"]
    assert converted.time_steps == 64
    assert not zoo.certify(CONVERTED).certified
    assert check_manifest(CARDS / CONVERTED).files["model.nir"].size < 2e6


def test_the_converted_model_finds_digits(converted: Any) -> None:
    assert evaluate(converted, DigitsDetection("test", length=16, seed=3)).map50 >= 0.85
    ann: Any = zoo.load(CONVERTED, trainable=True)
    assert ann.time_steps == 1
    assert evaluate(ann, DigitsDetection("test", length=16, seed=3)).map50 >= 0.9
