"""SpikingYOLOX with compat="published-code" computes the function of the published code, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import Golden, close, output_sums
from torch import nn

import zoo
from zoo.detectors.detector import Detector
from zoo.detectors.spikingyolox.blocks import FFCBlock
from zoo.detectors.spikingyolox.importer import block_name, our_name
from zoo.detectors.spikingyolox.model import SpikingYOLOX
from zoo.errors import CheckpointError, ConfigError, ExportError
from zoo.importers.official import import_official
from zoo.layers.rate_neurons import SignedIF

CASES = {"syx_s_S128": "s", "syx_nano_S128": "nano"}
PARAMETERS = {"nano": 1_044_447, "tiny": 5_061_327, "s": 8_977_599, "m": 25_366_815, "l": 54_314_111, "x": 99_287_775}


def load(name: str) -> tuple[Golden, Detector]:
    golden = Golden(name)
    weights = golden.weights()
    assert golden.digest == golden.case["weights_sha256"]
    return golden, import_official(
        f"spikingyolox-{CASES[name]}", weights, num_classes=80, time_steps=1, standardise=False
    )


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_published_code_is_equalled(name: str, fused: bool) -> None:
    golden, detector = load(name)
    detector = detector.fuse(dtype=torch.float64) if fused else detector
    with torch.no_grad(), output_sums(detector.network, SignedIF) as sums:
        raw = detector(torch.from_numpy(golden.inputs()))
        decoded = detector.decode(raw).transpose(1, 2)
    for index, scale in enumerate(raw):
        assert close(scale, golden.arrays[f"raw{index}"], 1e-9)
    expected = golden.arrays["decoded"]
    assert close(decoded[..., :4] / 128, expected[..., :4], 1e-9)
    assert close(decoded[..., 4:], expected[..., 4:5] * expected[..., 5:], 1e-9)
    assert len(sums) == len(golden.case["rate_layers"]) == 3
    for (layer, _, _), total in zip(golden.case["rate_layers"], golden.arrays["rate_sum"], strict=True):
        ours = str(our_name(f"{layer.removesuffix('.act')}.conv.weight")).removesuffix(".conv.conv.weight")
        assert sums[f"{ours}.act"] == total, layer


@pytest.mark.parametrize("fused", [False, True])
def test_the_fourier_block_is_equalled(fused: bool) -> None:
    golden = Golden("syx_ffc64_20x20")
    block = FFCBlock(64, act=nn.ELU, spectral_act=nn.ReLU).double().eval()
    state = {block_name(key): value for key, value in golden.weights().items()}
    counters = {key: value for key, value in block.state_dict().items() if key.endswith("num_batches_tracked")}
    block.load_state_dict({**state, **counters})
    if fused:
        for module in list(block.modules()):
            if hasattr(module, "fuse_"):
                module.fuse_(merge=False)  # type: ignore[operator]
    with torch.no_grad():
        assert close(block(torch.from_numpy(golden.inputs())), golden.arrays["out"], 1e-9)


def test_the_neuron_is_equalled() -> None:
    golden = Golden("neuron_syx")
    x = torch.from_numpy(golden.inputs()).flatten(0, 1)
    expected = golden.arrays["out"].reshape(x.shape)
    neuron = SignedIF(time_steps=6, reset="zero").double()
    neuron.freeze(torch.float64)
    assert np.array_equal(neuron(x).numpy(), expected)
    for other in (SignedIF(time_steps=6), SignedIF(time_steps=6, slope=1.0)):  # subtractive reset; ternary
        other.double().freeze(torch.float64)
        assert not np.array_equal(other(x).numpy(), expected)


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters_are_as_many_as_published(size: str) -> None:
    with torch.device("meta"):
        network = SpikingYOLOX(size, num_classes=80, compat="published-code")
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[size]


def test_export_refuses_and_names_the_analog_layers() -> None:
    _, detector = load("syx_nano_S128")
    with pytest.raises(ExportError) as caught:
        detector.to_nir((128, 128))
    for layer, kind in (
        ("backbone.stem.conv.act", "SiLU"),
        ("backbone.stage5.blocks.0.ffc1.act_local", "ELU"),
        ("backbone.stage5.blocks.0.ffc1.global_to_global.unit.act", "ReLU"),
    ):
        assert f"'{layer}' is analog ({kind})" in str(caught.value)


def test_what_does_not_fit_is_refused() -> None:
    weights = Golden("syx_nano_S128").weights()
    with pytest.raises(CheckpointError, match="does not fit spikingyolox-s"):
        import_official("spikingyolox-s", weights, num_classes=80, time_steps=1)
    with pytest.raises(CheckpointError, match=r"with 20 classes.*other shapes"):
        import_official("spikingyolox-nano", weights, num_classes=20, time_steps=1)
    with pytest.raises(ConfigError, match="published code has T = 1"):
        import_official("spikingyolox-nano", weights, num_classes=80, time_steps=4)


def test_pictures_are_standardised_unless_switched_off() -> None:
    weights = Golden("syx_nano_S128").weights()
    one = import_official("spikingyolox-nano", weights, num_classes=80, time_steps=1)
    other = import_official("spikingyolox-nano", weights, num_classes=80, time_steps=1, standardise=False)
    picture = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64).view(2, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(one(picture)[0], other((picture - mean) / std)[0])


def test_an_imported_models_card_says_how_the_code_differs_from_the_paper(tmp_path: Path) -> None:
    from zoo.cli import main

    torch.save(Golden("syx_nano_S128").weights(), tmp_path / "best.pth")
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "import-official",
                "spikingyolox-nano",
                str(tmp_path / "best.pth"),
                "-T",
                "1",
                "-o",
                str(tmp_path / "model"),
            ]
        )
    assert not ended.value.code
    description = zoo.info(tmp_path / "model").description
    assert "never fire negatively" in description
    assert "There is no model.nir" in description
    assert zoo.load(tmp_path / "model").config.variant["compat"] == "published-code"
