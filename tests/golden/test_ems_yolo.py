"""EMS-YOLO's official form computes the function of the released code: raw heads, boxes, every layer's spikes, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import Golden, close, output_sums

from zoo.detectors.detector import Detector
from zoo.detectors.ems_yolo.importer import layers
from zoo.detectors.ems_yolo.official import LeakySiLU
from zoo.errors import CheckpointError, ExportError, InvalidInputError, UnknownModelError
from zoo.importers.official import import_official
from zoo.layers.neurons import LIF

CASES = {
    "ems_resnet10_T4_S128": "resnet10",
    "ems_resnet34cat_T4_S64": "resnet34-cat",
    "ems_res10ee_T4_S64": "res10-ee",
}
NEURONS = {"residual_function.0": "neuron1", "residual_function.3": "neuron2", "act": "act"}


def our_name(official: str, size: str) -> str:
    """Our name of an official neuron such as ``model.2.0.residual_function.3``."""
    theirs, ours = max(
        ((t, o) for t, o, _ in layers(size) if official.startswith(t + ".")), key=lambda pair: len(pair[0])
    )
    return f"{ours}.{NEURONS.get(official.removeprefix(theirs + '.'), 'neuron_shortcut')}"


def load(name: str) -> tuple[Golden, Detector]:
    golden = Golden(name)
    weights = golden.weights()
    assert golden.digest == golden.case["weights_sha256"]
    detector = import_official(f"ems-yolo-{CASES[name]}", weights, num_classes=80, time_steps=golden.case["T"])
    assert detector.dtype == torch.float64
    return golden, detector


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_official_form_equals_the_official_code(name: str, fused: bool) -> None:
    golden, detector = load(name)
    detector = detector.fuse(dtype=torch.float64) if fused else detector
    with torch.no_grad(), output_sums(detector.network, LIF, LeakySiLU) as sums:
        raw = detector(torch.from_numpy(golden.inputs()))
        decoded = detector.decode(raw)
    for index, scale in enumerate(raw):
        expected = golden.arrays[f"raw{index}"]  # (1, 3, h, w, 85)
        assert close(scale.unflatten(1, (3, 85)).permute(0, 1, 3, 4, 2), expected, 1e-9)
    expected = golden.arrays["decoded"]  # cx, cy, w, h, objectness, classes
    scores = expected[..., 4:5] * expected[..., 5:]
    assert close(decoded.transpose(1, 2)[..., :4], expected[..., :4], 1e-9)
    assert close(decoded.transpose(1, 2)[..., 4:], scores, 1e-9)
    assert len(golden.case["rate_layers"]) == len(sums)
    for (layer, _, analog), total in zip(golden.case["rate_layers"], golden.arrays["rate_sum"], strict=True):
        found = sums[our_name(layer, CASES[name])]
        assert found == pytest.approx(total, rel=1e-9) if analog else found == total, layer


def test_the_neuron_equals_the_official_one_and_scaling_the_input_differs() -> None:
    golden = Golden("neuron_ems")
    x = torch.from_numpy(golden.inputs()).flatten(0, 1)
    expected = golden.arrays["out"].reshape(x.shape)
    official = LIF(time_steps=6, decay=0.25, threshold=0.5, scales_input=False).double()
    assert np.array_equal(official(x).numpy(), expected)
    assert not np.array_equal(LIF(time_steps=6, decay=0.25, threshold=0.5).double()(x).numpy(), expected)
    # NIR's gain is one quarter of a step less: a factor of 4/3 in the weights makes up for it, up to rounding
    scaled = LIF(time_steps=6, decay=0.25, threshold=0.5).double()(x * 4 / 3).numpy()
    assert (scaled != expected).mean() < 0.02


def test_the_silu_unit_equals_the_official_one() -> None:
    golden = Golden("neuron_ems_silu")
    x = torch.from_numpy(golden.inputs()).flatten(0, 1)
    expected = golden.arrays["out"].reshape(x.shape)
    np.testing.assert_allclose(LeakySiLU(time_steps=6, overwrites=False)(x).numpy(), expected, rtol=0, atol=1e-14)
    # inside the released networks it works in place: the case ems_resnet34cat_T4_S64 tells that apart
    assert np.abs(LeakySiLU(time_steps=6)(x).numpy() - expected).max() > 0.1


@pytest.mark.parametrize("name", CASES)
def test_export_refuses_and_names_the_layers(name: str) -> None:
    _, detector = load(name)
    with pytest.raises(ExportError, match=r"'stages\.0\.pool' max-pools real values; .*native form") as caught:
        detector.to_nir((64, 64))
    assert ("'coarse.act' is a SiLU unit" in str(caught.value)) == (name == "ems_resnet34cat_T4_S64")


def test_anchors_come_from_the_checkpoint() -> None:
    golden = Golden("ems_res10ee_T4_S64")
    weights = golden.weights()
    weights["model.11.anchors"] = weights["model.11.anchors"] * 2
    detector = import_official("ems-yolo-res10-ee", weights, num_classes=80, time_steps=5)
    assert detector.config.decode.anchors == (
        ((20.0, 28.0), (46.0, 54.0), (74.0, 116.0)),
        ((162.0, 164.0), (270.0, 338.0), (688.0, 638.0)),
    )
    assert detector.time_steps == 5
    weights["model.11.anchors"] = weights["model.11.anchors"][:, :2]
    with pytest.raises(CheckpointError, match="anchors of the checkpoint"):
        import_official("ems-yolo-res10-ee", weights, num_classes=80, time_steps=4)


def test_checkpoints_that_do_not_fit_are_refused() -> None:
    weights = Golden("ems_res10ee_T4_S64").weights()
    with pytest.raises(CheckpointError, match=r"does not fit ems-yolo-res10-ee with 2 classes.*other shapes"):
        import_official("ems-yolo-res10-ee", weights, num_classes=2, time_steps=4)
    with pytest.raises(CheckpointError, match="does not fit ems-yolo-resnet10"):
        import_official("ems-yolo-resnet10", weights, num_classes=80, time_steps=4)
    with pytest.raises(CheckpointError, match=r"1 weights are missing \(stem.conv.weight"):
        import_official(
            "ems-yolo-res10-ee", {k: v for k, v in weights.items() if k != "model.0.conv.weight"},
            num_classes=80, time_steps=4,
        )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"1 are unknown \(model.99.weight"):
        import_official(
            "ems-yolo-res10-ee", {**weights, "model.99.weight": torch.zeros(1)}, num_classes=80, time_steps=4
        )
    with pytest.raises(UnknownModelError, match="ems-yolo-resnet34-cat"):
        import_official("ems-yolo-pico", weights, num_classes=80, time_steps=4)
    with pytest.raises(InvalidInputError, match="time_steps"):
        import_official("ems-yolo-res10-ee", weights, num_classes=80, time_steps=None)
