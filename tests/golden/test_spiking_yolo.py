"""YOLOv3-tiny and its converted form compute the function of the released code, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import Golden, close
from torch import Tensor

from zoo.compression.conversion import convert
from zoo.detectors.spiking_yolo.importer import module_names
from zoo.detectors.stepwise import stream
from zoo.errors import CheckpointError, InvalidInputError
from zoo.importers.official import import_official
from zoo.layers.rate_neurons import SignedIF

ANNS = {"kim_tiny_conv_S128": "tiny-conv", "kim_tiny_orig_S128": "tiny"}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ANNS)
def test_the_ann_equals_the_official_code(name: str, fused: bool) -> None:
    golden = Golden(name)
    weights = golden.weights()
    assert golden.digest == golden.case["weights_sha256"]
    detector = import_official(f"spiking-yolo-{ANNS[name]}", weights, num_classes=80, time_steps=None)
    detector = detector.fuse(dtype=torch.float64) if fused else detector
    with torch.no_grad():
        raw = detector(torch.from_numpy(golden.inputs()))
        decoded = detector.decode(raw).transpose(1, 2)
    for index, scale in enumerate(reversed(raw)):  # the official code has the coarse scale first
        assert close(scale.unflatten(1, (3, 85)).permute(0, 1, 3, 4, 2), golden.arrays[f"raw{index}"], 1e-9)
    cells = [raw[0].shape[-1] * raw[0].shape[-2] * 3, raw[1].shape[-1] * raw[1].shape[-2] * 3]
    decoded = torch.cat([decoded[:, cells[0] :], decoded[:, : cells[0]]], 1)
    expected = golden.arrays["decoded"]
    assert close(decoded[..., :4], expected[..., :4], 1e-9)
    assert close(decoded[..., 4:], expected[..., 4:5] * expected[..., 5:], 1e-9)


def test_the_converted_network_fires_the_official_spikes() -> None:
    golden = Golden("kim_snn_T64_S96")
    detector = import_official("spiking-yolo-tiny-conv", golden.weights(), num_classes=80, time_steps=None)
    ours = {
        theirs.rpartition(".")[0]: name.removesuffix(".conv.conv")
        for theirs, name in module_names("tiny-conv")
        if name.endswith(".conv.conv")
    }
    order = {label: ours[module] for label, module in golden.case["conv_layers_in_order"]}
    factors = {name: torch.from_numpy(golden.arrays[f"lam_out/{label}"]) for label, name in order.items()}
    images = torch.from_numpy(golden.inputs())
    snn = convert(detector.fuse(dtype=torch.float64), images, time_steps=64, factors=factors)
    counts: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, name=name: counts.update({name: counts.get(name, 0) + out.sum(0)})
        )
        for name, module in snn.network.named_modules()
        if isinstance(module, SignedIF)
    ]
    ((steps, maps),) = stream(snn, images)
    for hook in hooks:
        hook.remove()
    assert steps == 64
    for (layer, _, _), expected in zip(golden.case["rate_layers"], golden.arrays["rate_sum"], strict=True):
        assert float(counts[f"{order[layer]}.act"].sum()) == expected, layer
    for scale, layer in enumerate(("conv14", "conv16")):
        assert np.array_equal(counts[f"{order[layer]}.act"].numpy(), golden.arrays[f"spike_count{scale}"])
        assert close(maps[1 - scale], golden.arrays[f"head{scale}"], 1e-9)


def test_the_neuron_equals_the_official_one_and_strictness_matters() -> None:
    golden = Golden("neuron_if_soft")
    x = torch.from_numpy(golden.inputs()).flatten(0, 1)
    expected = golden.arrays["out"].reshape(x.shape)
    neuron = SignedIF(time_steps=6).double()
    neuron.freeze(torch.float64)
    assert np.array_equal(neuron(x).numpy(), expected)
    neuron.thresholds = torch.ones(1, dtype=torch.float64)  # > instead of >=
    assert not np.array_equal(neuron(x).numpy(), expected)


def test_what_does_not_fit_is_refused() -> None:
    weights = Golden("kim_tiny_conv_S128").weights()
    with pytest.raises(InvalidInputError, match="time_steps=None"):
        import_official("spiking-yolo-tiny-conv", weights, num_classes=80, time_steps=4)
    with pytest.raises(CheckpointError, match="does not fit spiking-yolo-tiny with 80 classes"):
        import_official("spiking-yolo-tiny", weights, num_classes=80, time_steps=None)
    with pytest.raises(CheckpointError, match="other shapes"):
        import_official("spiking-yolo-tiny-conv", weights, num_classes=20, time_steps=None)
    tiny = import_official("spiking-yolo-tiny", Golden("kim_tiny_orig_S128").weights(), num_classes=80, time_steps=None)
    with pytest.raises(
        InvalidInputError, match=r"spiking-yolo-tiny cannot be converted: 'downs\.0' max-pools real values"
    ):
        convert(tiny, torch.rand(1, 3, 64, 64))
