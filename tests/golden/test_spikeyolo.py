"""SpikeYOLO computes the function of the official code: raw heads, boxes and every layer's spikes, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from golden import Golden, close

from zoo.detectors.detector import Detector
from zoo.detectors.spikeyolo.importer import module_names
from zoo.importers.official import import_official
from zoo.layers.neurons import ILIF

CASES = {
    "spikeyolo_n_T1_S128": "n",
    "spikeyolo_n_T2_S64": "n",
    "spikeyolo_s_T1_S64": "s",
}


@contextmanager
def spike_sums(detector: Detector) -> Iterator[dict[str, float]]:
    """Sum of the spikes of each neuron by its name, while the context is open."""
    sums: dict[str, float] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: sums.update({name: float(out.sum())}))
        for name, module in detector.network.named_modules()
        if isinstance(module, ILIF)
    ]
    yield sums
    for hook in hooks:
        hook.remove()


def neuron_name(official: str, size: str) -> str:
    """Our name of an official neuron such as ``model.2.Conv.lif1``."""
    owner, _, leaf = official.rpartition(".")
    inner = {"Conv.lif1": "separable.neuron1", "Conv.lif2": "separable.neuron2", "Conv.lif3": "separable.neuron3"}
    ours = dict(module_names(size))
    for theirs, own in inner.items():
        if official.endswith(theirs):
            expand = ours[official.removesuffix(theirs) + "Conv.pwconv1"]
            return expand.removesuffix("separable.expand.conv") + own
    if leaf in {"lif1", "lif2"}:
        return ours[f"{owner}.Conv.pwconv1"].removesuffix("separable.expand.conv") + f"neuron{leaf[-1]}"
    if owner.endswith(("conv1", "conv2")):
        block = owner.rpartition(".")[0]
        return ours[f"{block}.Conv.pwconv1"].removesuffix("separable.expand.conv") + f"neuron{owner[-1]}"
    if owner == "model.9.cv2":
        return "backbone.sppf.neuron"
    conv = ours.get(f"{owner}.conv") or ours[f"{owner}.encode_conv"]
    return conv.removesuffix(".conv").removesuffix(".conv") + ".neuron"


@pytest.mark.parametrize("name", CASES)
def test_official_form_equals_the_official_code(name: str) -> None:
    golden, size = Golden(name), CASES[name]
    weights = golden.weights()
    assert golden.digest == golden.case["weights_sha256"]
    detector = import_official(
        f"spikeyolo-{size}", weights, num_classes=80, time_steps=golden.case["T"], levels=golden.case["D"]
    )
    assert detector.dtype == torch.float64
    images = torch.from_numpy(golden.inputs())
    with torch.no_grad(), spike_sums(detector) as sums:
        raw = detector(images)
        decoded = detector.decode(raw)
    for index, scale in enumerate(raw):
        assert close(scale, golden.arrays[f"raw{index}"], 1e-9)
    stored_as_float32 = golden.arrays["decoded"].dtype == np.float32
    assert close(decoded, golden.arrays["decoded"], 1e-6 if stored_as_float32 else 1e-9)
    assert len(golden.case["rate_layers"]) == len(sums)
    for (layer, _, _), expected in zip(golden.case["rate_layers"], golden.arrays["rate_sum"], strict=True):
        assert sums[neuron_name(layer, size)] == expected, layer


@pytest.mark.parametrize("merge", [False, True])
def test_deployed_form_equals_the_official_code(merge: bool) -> None:
    golden = Golden("spikeyolo_n_T1_S128")
    detector = import_official("spikeyolo-n", golden.weights(), num_classes=80, time_steps=1)
    with torch.no_grad():
        raw = detector.fuse(merge=merge, dtype=torch.float64)(torch.from_numpy(golden.inputs()))
    for index, scale in enumerate(raw):
        assert close(scale, golden.arrays[f"raw{index}"], 1e-9)


def test_native_pooling_is_not_the_official_one_for_two_time_steps() -> None:
    golden = Golden("spikeyolo_n_T2_S64")
    native = import_official("spikeyolo-n", golden.weights(), num_classes=80, time_steps=2, form="native")
    with torch.no_grad():
        raw = native(torch.from_numpy(golden.inputs()))
    assert not close(raw[2], golden.arrays["raw2"], 1e-3)


def test_neuron_equals_the_official_one_and_strict_rounding_differs() -> None:
    golden = Golden("neuron_spikeyolo")
    x = torch.from_numpy(golden.inputs()).flatten(0, 1)
    expected = golden.arrays["out"].reshape(x.shape)
    half_even = ILIF(4, time_steps=6, rounding="half_even")(x).numpy()
    assert np.array_equal(half_even, expected)
    assert not np.array_equal(ILIF(4, time_steps=6)(x).numpy(), expected)
    frozen = ILIF(4, time_steps=6, rounding="half_even")
    frozen.freeze(torch.float64)
    assert np.array_equal(frozen(x).numpy(), expected)
