"""Quantisation to power-of-two grids: what is rounded, what is certified, and that fine-tuning sees what is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import zoo
from tests.conftest import lively_detector
from zoo.compression.quantization import (
    coarsest_exponent,
    finish,
    quantize,
    round_to_grid,
    snap_decays,
    straight_through,
)
from zoo.compression.quantized_bundle import quantize_model
from zoo.config import parse_config
from zoo.detectors.building import from_config
from zoo.detectors.detector import Detector
from zoo.errors import InvalidInputError
from zoo.layers.neurons import ILIF, LIF

IMAGES = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float() / 255


@pytest.fixture(scope="module", params=["spikeyolo-pico", "ems-yolo-pico"])
def sample(request: pytest.FixtureRequest) -> Detector:
    return lively_detector(request.param)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 16))
def test_rounding_takes_the_nearest_number_of_the_grid(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.normal(0, 10.0 ** rng.integers(-3, 3), (5, 2, 3, 3))).float()
    exponent = coarsest_exponent(weight, bits, "channel")
    rounded = round_to_grid(weight, exponent, bits)
    units = rounded.double() / torch.exp2(exponent.double())
    assert torch.equal(units, units.round())
    assert units.abs().max() <= 2 ** (bits - 1) - 1
    assert ((rounded - weight).abs() <= torch.exp2(exponent.double()) / 2 * (1 + 1e-6)).all()  # nothing was clipped
    finer = weight.abs().amax((1, 2, 3)) / torch.exp2(exponent.double() - 1).flatten()
    assert (finer > 2 ** (bits - 1) - 1).all()  # half the unit would not do


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("bits", [4, 6])  # at random weights; trained ones are smaller
def test_a_quantised_detector_is_certified_with_a_margin_of_half_a_unit(sample: Detector, bits: int, per: Any) -> None:
    out = quantize(sample, bits=bits, per=per, calibration=IMAGES)
    found = zoo.certify(out)
    assert found.certified, found.why[:3]
    assert found.margin == 0.5
    assert out.config.merged
    assert out.config.quantization is not None
    assert out.config.quantization.bits == bits
    for name, module in out.network.named_modules():
        if isinstance(module, nn.Conv2d):
            assert len(np.unique(np.abs(module.weight.detach().numpy()))) <= 2 ** (bits - 1) * (
                1 if per == "layer" else len(module.weight)
            ), name
    assert zoo.certify(sample.fuse(merge=True)).why  # and it was not before


def test_more_bits_stay_closer(sample: Detector) -> None:
    images = IMAGES[:1]
    plain = sample.fuse(merge=True)
    errors = []
    for bits in (4, 8, 12):
        out = quantize(sample, bits=bits)
        with torch.no_grad():
            errors.append(sum(float((a - b).abs().mean()) for a, b in zip(out(images), plain(images), strict=True)))
    assert errors[0] > errors[1] > errors[2] * 0.9


def test_centring_thresholds_changes_no_decision(sample: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rounded weights with thresholds where they were."""
    from zoo.compression import quantization

    centred = quantize(sample)
    monkeypatch.setattr(quantization, "centre_thresholds", lambda _detector: None)
    left = quantize(sample)
    before, after = (
        {name: float(m.thresholds.mean()) for name, m in d.network.named_modules() if isinstance(m, ILIF | LIF)}
        for d in (left, centred)
    )
    assert before != after
    with torch.no_grad():
        for one, other in zip(centred.double()(IMAGES), left.double()(IMAGES), strict=True):
            assert torch.equal(one, other)


def test_the_original_is_left_alone_and_the_configuration_rebuilds_the_result(sample: Detector) -> None:
    before = {key: value.clone() for key, value in sample.state_dict().items()}
    out = quantize(sample)
    assert all(torch.equal(value, before[key]) for key, value in sample.state_dict().items())
    twin = from_config(parse_config(out.config.to_json()))
    twin.load_state_dict(out.state_dict())
    with torch.no_grad():
        for one, other in zip(out(IMAGES), twin(IMAGES), strict=True):
            assert torch.equal(one, other)


def test_decays_become_short_dyadic_numbers() -> None:
    detector = lively_detector("ems-yolo-pico", decay=0.3, time_steps=2)
    snap_decays(detector, 4)
    decays = {module.decay for module in detector.network.modules() if isinstance(module, LIF)}
    assert decays == {0.3125}
    leaky = lively_detector("ems-yolo-pico", decay=0.999)
    snap_decays(leaky, 4)
    assert {m.decay for m in leaky.network.modules() if isinstance(m, LIF)} == {0.9375}  # it does not stop leaking


def test_fine_tuning_sees_the_weights_that_are_shipped(sample: Detector) -> None:
    tuned = straight_through(sample, calibration=IMAGES)
    optimizer = torch.optim.SGD(tuned.parameters(), lr=1e-3)
    sum(map_.square().mean() for map_ in tuned(IMAGES)).backward()
    gradients = [p.grad for p in tuned.parameters() if p.grad is not None]
    assert len(gradients) > 20
    optimizer.step()
    tuned.eval()
    seen = {n: m.weight.detach().clone() for n, m in tuned.network.named_modules() if isinstance(m, nn.Conv2d)}
    out = finish(tuned)
    for name, module in out.network.named_modules():
        if isinstance(module, nn.Conv2d):
            assert torch.equal(module.weight, seen[name]), name
    assert zoo.certify(out).margin == 0.5
    assert not any("parametrizations" in key for key in out.state_dict())


def test_pictures_are_put_on_the_grid_that_the_proof_assumes(sample: Detector) -> None:
    """Images that are not multiples of 1/255 give what the nearest ones give."""
    out = quantize(sample)
    with torch.no_grad():
        for one, other in zip(out(IMAGES), out((IMAGES + 0.3 / 255).clamp(0, 1)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"bits": 3}, "bits must lie in 4..16"), ({"bits": 17}, "4..16"), ({"per": "tensor"}, "'layer' or 'channel'")],
)
def test_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        zoo.quantize(lively_detector(), **arguments)


def test_what_is_quantised_or_not_merged_is_refused() -> None:
    detector = lively_detector()
    with pytest.raises(InvalidInputError, match="convolutions merged"):
        quantize(detector.fuse())
    with pytest.raises(InvalidInputError, match="quantised already"):
        quantize(quantize(detector))
    with pytest.raises(InvalidInputError, match="was not made for quantisation"):
        finish(detector)


def test_a_folder_is_quantised_with_fine_tuning_and_keeps_its_float_weights(model_folder: Path, tmp_path: Path) -> None:
    path, found = quantize_model(model_folder, tmp_path / "q8", steps=2, batch_size=2, calibration=2)
    assert found.certified
    assert (tmp_path / "q8.run" / "checkpoints").is_dir()
    quantised, floats = zoo.load(path), zoo.load(path, trainable=True)
    assert quantised.config.quantization is not None
    before = zoo.load(model_folder, trainable=True).state_dict()
    assert all(torch.equal(value, before[key]) for key, value in floats.state_dict().items())
    card = zoo.info(path)
    assert "fine-tuned straight-through for 2 steps" in card.description
    assert zoo.certify(path / "model.nir").certified
    with pytest.raises(InvalidInputError, match="exists already"):
        quantize_model(model_folder, path)


def test_nothing_is_written_where_data_are_unknown(model_folder: Path, tmp_path: Path) -> None:
    from zoo.hub import bundle

    folder = bundle.write(
        tmp_path / "silent", zoo.load(model_folder), card_fields={"name": "silent"},
        trainable_state=zoo.load(model_folder, trainable=True).state_dict(),
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="does not say what it was trained on"):
        quantize_model(folder, tmp_path / "q8")
    assert not (tmp_path / "q8").exists()
