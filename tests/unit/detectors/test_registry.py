"""A family is one room and a head one file: toys that lie outside the package do everything that the others do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.config import DecodeSpec, InputSpec, Quantization
from zoo.detectors.building import create, encoder_of, fill, from_config
from zoo.detectors.network import NetworkModule
from zoo.detectors.registry import architectures, describe, families, family, find
from zoo.errors import ConfigError, UnknownModelError
from zoo.heads.table import HEADS, head_of, register

SMALL = ["spikeyolo-pico", "ems-yolo-pico", "spiking-yolo-pico-leaky", "eas-snn-pico", "spikingyolox-pico"]


def test_a_new_family_and_a_new_head_touch_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.toys.walk", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "toy" in found["families"]
    assert found["paper"] == "Toys"
    assert found["difference"] < 1e-6
    assert found["boxes"] == [2, 4 + 10, 4 * 4]
    assert found["passed"]
    assert found["imported"]
    assert found["detections"] > 0
    assert found["graph"]


def test_every_family_says_where_it_comes_from() -> None:
    assert len(families()) >= 5
    for name, one in families().items():
        assert one.paper is not None, name
        assert one.paper.url.startswith("https://"), name
        assert "written from the paper" in one.licence, name
        assert one.official is not None, name
        assert set(one.official.sizes) < set(one.sizes), name
        assert issubclass(one.network, NetworkModule), name


def test_names_are_taken_once() -> None:
    existing, _ = find("spikeyolo-n")
    with pytest.raises(ValueError, match="two families have the name 'spikeyolo'"):
        family("spikeyolo", sizes=["n"], input_spec=existing.input_spec, decode_spec=existing.decode_spec)(
            NetworkModule
        )
    head_of(DecodeSpec())
    with pytest.raises(ValueError, match="two heads are of the kind 'dfl'"):
        register(HEADS["dfl"])


def test_heads_that_do_not_exist_or_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no head of the kind 'centre'.*anchors, anchors_exp, dfl, yolox"):
        head_of(DecodeSpec(kind="centre"))
    with pytest.raises(ConfigError, match="'anchors' has a list of anchors"):
        head_of(DecodeSpec(kind="anchors"))
    anchors = (((1.0, 1.0),),) * 3
    with pytest.raises(ConfigError, match="'dfl' has no anchors"):
        head_of(DecodeSpec(anchors=anchors))
    config = describe("spikeyolo-pico", num_classes=2)
    for spec in ({"kind": "centre"}, {"kind": "yolox"}, {"anchors": anchors}):
        with pytest.raises(ConfigError):
            from_config(config.model_copy(update={"decode": config.decode.model_copy(update=spec)}))


def test_unknown_architectures_name_close_ones() -> None:
    with pytest.raises(UnknownModelError, match="did you mean spikeyolo-n"):
        create("spikeyolo-nn", num_classes=2)


def shapes(state: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (tensor.shape, tensor.dtype) for key, tensor in state.items()}


FORMS: list[dict[str, Any]] = [
    {},
    {"fused": True},
    {"fused": True, "merged": True},
    {"fused": True, "merged": True, "quantization": Quantization()},
]


@pytest.mark.parametrize("form", FORMS, ids=["trainable", "fused", "merged", "quantised"])
@pytest.mark.parametrize("arch", SMALL)
def test_a_detector_without_numbers_has_the_same_structure(arch: str, form: dict[str, Any]) -> None:
    config = describe(arch, num_classes=3).model_copy(update=form)
    full = from_config(config)
    before = torch.random.get_rng_state()
    empty = from_config(config, numbers=False)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert shapes(empty.state_dict()) == shapes(full.state_dict())
    assert [type(m) for m in empty.modules()] == [type(m) for m in full.modules()]
    weights = {name: tensor for name, tensor in empty.named_parameters() if tensor.dim() > 1}
    assert weights
    assert all(tensor.is_meta for tensor in weights.values())
    state = full.state_dict()
    fill(empty, state)
    assert all(dict(empty.named_parameters())[name].data_ptr() == state[name].data_ptr() for name in weights)
    images = torch.rand(2, config.input.channels, 64, 64, generator=torch.Generator().manual_seed(1))
    if config.input.events is not None:
        images = images.expand(config.input.events.micro_slices, *images.shape)
    with torch.inference_mode():
        for one, other in zip(empty(images), full.eval()(images), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("arch", ["spiking-yolo-pico", "spiking-yolo-tiny-conv"])
def test_converted_detectors_without_numbers(arch: str) -> None:
    config = describe(arch, num_classes=3, spiking=True, time_steps=4).model_copy(update={"fused": True})
    assert shapes(from_config(config, numbers=False).state_dict()) == shapes(from_config(config).state_dict())


@pytest.mark.parametrize("variant", [{"form": "official", "rounding": "half_even"}, {"time_steps": 2}])
def test_official_forms_without_numbers(variant: dict[str, Any]) -> None:
    config = describe("spikeyolo-pico", num_classes=3, **variant).model_copy(update={"fused": True})
    assert shapes(from_config(config, numbers=False).state_dict()) == shapes(from_config(config).state_dict())


def test_every_architecture_is_made_without_numbers_in_every_form() -> None:
    for arch in architectures():
        for form in (FORMS[0], FORMS[3]):
            detector = from_config(describe(arch, num_classes=3).model_copy(update=form), numbers=False)
            assert next(detector.network.parameters()).is_meta


def test_a_state_dict_that_lacks_numbers_is_noticed() -> None:
    detector = from_config(describe("ems-yolo-pico", num_classes=2), numbers=False)
    state = create("ems-yolo-pico", num_classes=2).state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        fill(detector, dict(list(state.items())[:-1]))


def test_encoders_are_made_without_their_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.detectors.eas_snn.model.EASSNN.__init__", lambda *_args, **_more: pytest.fail("was built"))
    encoder = encoder_of(describe("eas-snn-pico", num_classes=2))
    assert encoder is not None
    assert encoder.ts == 1
    assert encoder_of(describe("spikeyolo-pico", num_classes=2)) is None


def test_image_sizes_must_fit_the_strides() -> None:
    config = describe("spikeyolo-pico", num_classes=2)
    spec = InputSpec(image_size=(100, 96))
    with pytest.raises(ConfigError, match="multiples of 32"):
        from_config(config.model_copy(update={"input": spec}))
