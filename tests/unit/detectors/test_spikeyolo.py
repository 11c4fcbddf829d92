"""SpikeYOLO: sizes, shapes, the deployed form, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from zoo.config import parse_config
from zoo.detectors.building import create, from_config
from zoo.detectors.detector import Detector
from zoo.detectors.registry import architectures
from zoo.errors import ConfigError, InvalidInputError, UnknownModelError
from zoo.layers.neurons import ILIF
from zoo.layers.pooling import SpikeMaxPool2d

# facts/detectors-spikeyolo-ems.md, table A1, less the 16 constants of the DFL; neurons: section A1
PUBLISHED = {"n": (13_271_632, 88), "s": (23_153_024, 88), "m": (47_841_856, 108), "l": (68_478_400, 108)}


def lively(arch: str = "spikeyolo-pico", seed: int = 0, **arguments: Any) -> Detector:
    """A detector in float64 whose random weights and statistics keep the neurons firing."""
    torch.manual_seed(seed)
    detector = create(arch, num_classes=10, **arguments).double().eval()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, (2 / module.weight[0].numel()) ** 0.5)
    return detector


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_parameter_and_neuron_counts(size: str) -> None:
    detector = create(f"spikeyolo-{size}", num_classes=80)
    parameters, neurons = PUBLISHED[size]
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters - 16
    assert sum(isinstance(module, ILIF) for module in detector.modules()) == neurons


def test_parameter_count_with_two_classes() -> None:
    detector = create("spikeyolo-s", num_classes=2)
    assert sum(parameter.numel() for parameter in detector.parameters()) == 23_122_838 - 16


@pytest.mark.parametrize("time_steps", [1, 3])
def test_raw_maps_per_scale(time_steps: int) -> None:
    detector = lively(time_steps=time_steps)
    raw = detector(torch.rand(2, 3, 64, 96))
    assert [tuple(scale.shape) for scale in raw] == [(2, 42, 8, 12), (2, 42, 4, 6), (2, 42, 2, 3)]


def test_an_image_equals_its_repetition_over_time() -> None:
    detector = lively(time_steps=2)
    image = torch.rand(2, 3, 64, 64)
    for still, frames in zip(detector(image), detector(image.expand(2, -1, -1, -1, -1)), strict=True):
        assert torch.equal(still, frames)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"time_steps": 2},
        {"form": "official", "rounding": "half_even"},
        {"levels": 2, "decay": 0.5, "time_steps": 4},
    ],
)
def test_deployed_form_fires_the_same_spikes(arguments: dict[str, Any], merge: bool) -> None:
    detector = lively(**arguments)
    fused = detector.fuse(merge=merge, dtype=torch.float64)
    counts: dict[str, dict[str, torch.Tensor]] = {"unfused": {}, "fused": {}}
    for form, model in (("unfused", detector), ("fused", fused)):
        for name, module in model.named_modules():
            if isinstance(module, ILIF) and "sppf.neuron" not in name:  # the official one fires on the pooled maps
                module.register_forward_hook(lambda _m, _i, out, form=form, name=name: counts[form].update({name: out}))
    images = torch.rand(4, 3, 64, 96)
    raw, fused_raw = detector(images), fused(images)
    assert len(counts["fused"]) > 70
    for name, spikes in counts["unfused"].items():
        assert torch.equal(spikes, counts["fused"][name]), name
    rates = torch.stack([(spikes > 0).double().mean() for spikes in counts["unfused"].values()])
    assert 0.05 < rates.median() < 0.6
    for expected, actual in zip(raw, fused_raw, strict=True):
        assert (actual - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_deployed_form_has_only_exportable_leaves() -> None:
    leaves = {type(m) for m in lively().fuse().network.modules() if not list(m.children())}
    assert leaves <= {nn.Conv2d, ILIF, SpikeMaxPool2d, nn.Upsample}


def test_official_pooling_differs_from_native_at_two_time_steps() -> None:
    native, official = lively(time_steps=2), lively(time_steps=2, form="official")
    official.load_state_dict(native.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert not torch.equal(native(images)[2], official(images)[2])


def test_fusing_leaves_the_original_alone_and_happens_once() -> None:
    detector = lively()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    fused = detector.fuse()
    assert not detector.is_fused
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert fused.dtype == torch.float32
    with pytest.raises(InvalidInputError, match="fused already"):
        fused.fuse()


@pytest.mark.parametrize("merge", [False, True])
def test_configuration_rebuilds_the_deployed_form(merge: bool) -> None:
    fused = lively().fuse(merge=merge)
    twin = from_config(parse_config(fused.config.to_json()))
    twin.load_state_dict(fused.state_dict())
    images = torch.rand(1, 3, 64, 64)
    for expected, actual in zip(fused(images), twin(images), strict=True):
        assert torch.equal(expected, actual)


def test_training_reaches_every_parameter() -> None:
    detector = lively().float().train()
    sum(raw.square().mean() for raw in detector(torch.rand(2, 3, 64, 64))).backward()
    silent = [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    assert silent == []


@pytest.mark.parametrize(
    "shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 65, 64), (1, 3, 64, 0), (2, 1, 3, 64, 64), (0, 3, 64, 64)]
)
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError):
        lively()(torch.rand(shape))


def test_refuses_integer_images() -> None:
    with pytest.raises(InvalidInputError, match="floating point"):
        lively()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_unknown_architecture_names_close_ones() -> None:
    with pytest.raises(UnknownModelError, match="spikeyolo-n"):
        create("spikyolo-n", num_classes=3)
    assert "spikeyolo-pico" in architectures()


@pytest.mark.parametrize(
    "arguments",
    [
        {"time_steps": 0},
        {"levels": 0},
        {"colour": 3},
        {"class_names": ["one"]},
        {"image_size": 100},
        {"num_classes": 0},
    ],
)
def test_bad_arguments_are_configuration_errors(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        create("spikeyolo-pico", **{"num_classes": 10, **arguments})
