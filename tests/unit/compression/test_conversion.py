"""ANN-to-SNN conversion: rates, normalisation, streaming, export, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from tests.conftest import lively_detector
from zoo.compression.conversion import convert, input_factors, layers_of, measure, percentile_of
from zoo.compression.converted_bundle import convert_model
from zoo.detectors.detector import Detector
from zoo.detectors.stepwise import stream
from zoo.equivalence.verification import verify_in_each
from zoo.errors import ConfigError, ExportError, InvalidInputError
from zoo.layers.rate_neurons import SignedIF
from zoo.nir_graphs import metadata, reference
from zoo.nir_graphs.export import export_module

IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SHAPE = (3, 4, 5)


@pytest.fixture(scope="module", params=["pico", "pico-leaky"])
def ann(request: pytest.FixtureRequest) -> Detector:
    return lively_detector(f"spiking-yolo-{request.param}")


def by_hand(x: Tensor, slope: float) -> Tensor:
    """The docstring's equations in Python floats; x (T, N)."""
    out = torch.zeros_like(x)
    for neuron in range(x.shape[1]):
        v = 0.0
        for t in range(x.shape[0]):
            v = v + x[t, neuron].item()
            if v >= 1:
                out[t, neuron], v = 1.0, v - 1
            elif slope and v <= -1 / slope:
                out[t, neuron], v = -1.0, v + 1 / slope
    return out


def grid_input(steps: int) -> Tensor:
    """Folded multiples of 1/8 in -2..2: potentials hit both thresholds exactly."""
    generator = torch.Generator().manual_seed(steps)
    return torch.randint(-16, 17, (steps * 16, *SHAPE), generator=generator).double() / 8


@pytest.mark.parametrize("slope", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("steps", [1, 4, 32])
def test_the_neuron_equals_its_equations_and_its_nir_form_has_the_same_spikes(steps: int, slope: float) -> None:
    neuron = SignedIF(time_steps=steps, slope=slope).double()
    neuron.freeze(torch.float64)
    x = grid_input(steps)
    spikes = neuron(x)
    assert torch.equal(spikes.view(steps, -1), by_hand(x.view(steps, -1), slope))
    graph = export_module(neuron, SHAPE)
    trace = reference.run(graph, x.unflatten(0, (steps, 16)).numpy(), record="neurons")
    ((nodes,),) = metadata.get(graph).neurons.values()
    unfolded = spikes.unflatten(0, (steps, 16)).numpy()
    assert np.array_equal(trace.spikes[nodes[0]], unfolded > 0)
    if slope:
        assert np.array_equal(trace.spikes[nodes[1]], unfolded < 0)
        assert steps == 1 or (unfolded < 0).any()
    (output,) = trace.outputs.values()
    assert np.array_equal(output, unfolded)


def test_rates_approach_the_activation() -> None:
    x = torch.linspace(-1.5, 0.95, 50, dtype=torch.float64).view(1, -1, 1, 1)
    for slope, expected in ((0.0, F.relu(x)), (0.1, F.leaky_relu(x, 0.1))):
        neuron = SignedIF(time_steps=4000, slope=slope).double()
        rate = neuron(x.repeat(4000, 1, 1, 1)).mean(0, keepdim=True)
        assert (rate - expected).abs().max() < 2e-3
    with pytest.raises(InvalidInputError, match="slope must lie in"):
        SignedIF(time_steps=1, slope=-0.1)


def test_error_shrinks_with_time_and_streaming_reads_at_any_time(ann: Detector) -> None:
    snn = convert(ann, IMAGES, time_steps=32, percentile=100)
    with torch.no_grad():
        expected = ann(IMAGES)
    errors = []
    for _, maps in stream(snn, IMAGES, time_steps=256, readouts=[4, 32]):
        errors.append(sum(float((a - b).abs().mean() / b.abs().mean()) for a, b in zip(maps, expected, strict=True)))
    assert len(errors) == 3
    assert errors[0] > 3 * errors[1] > 6 * errors[2]


def test_chunks_and_folding_give_the_same_spikes_and_leave_no_state(ann: Detector) -> None:
    snn = convert(ann, IMAGES, time_steps=21).double()
    folded = [m.unflatten(0, (21, -1)).mean(0) for m in snn.network(IMAGES.double().repeat(21, 1, 1, 1))]
    for chunk in (1, 5, 21, 64):
        ((steps, maps),) = stream(snn, IMAGES, chunk=chunk)
        assert steps == 21
        for one, other in zip(maps, folded, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    for one, other in zip(snn(IMAGES), folded, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    neurons = [module for module in snn.network.modules() if isinstance(module, SignedIF)]
    assert all(neuron.carry is None and not neuron.carries and neuron.time_steps == 21 for neuron in neurons)


def test_memory_does_not_grow_with_time(ann: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    snn = convert(ann, IMAGES, time_steps=16)
    largest = 0
    honest = snn.network.forward

    def watched(x: Tensor) -> Any:
        nonlocal largest
        largest = max(largest, x.shape[0])
        return honest(x)

    monkeypatch.setattr(snn.network, "forward", watched)
    steps = 8000 if ann.config.arch.endswith("pico") else 100
    ((reached, maps),) = stream(snn, IMAGES[:1, :, :32, :32], time_steps=steps, chunk=16)
    assert reached == steps
    assert all(bool(map_.isfinite().all()) for map_ in maps)
    assert largest == 16


@pytest.mark.parametrize("steps", [2, 16])
def test_every_spike_is_identical_on_every_backend(ann: Detector, steps: int) -> None:
    snn = convert(ann, IMAGES, time_steps=steps)
    names = ["snntorch", "norse", "spikingjelly", "sinabs"] + (["jax"] if steps == 2 else [])
    (report,) = verify_in_each(snn, names, images={"noise": IMAGES[:1]}, dtypes=[torch.float64])
    assert report.passed
    assert all(row.expected > 1000 for row in report.comparisons)


def test_without_signed_neurons_what_is_negative_is_lost() -> None:
    leaky = lively_detector("spiking-yolo-pico-leaky")
    with torch.no_grad():
        expected = leaky(IMAGES)
    errors = {}
    for signed in (True, False):
        ((_, maps),) = stream(convert(leaky, IMAGES, time_steps=200, percentile=100, signed=signed), IMAGES)
        errors[signed] = sum(float((a - b).abs().mean() / b.abs().mean()) for a, b in zip(maps, expected, strict=True))
    assert errors[False] > 2 * errors[True]


def test_normalisation_makes_the_measured_activation_a_rate_of_one(ann: Detector) -> None:
    deployed = ann.fuse(dtype=torch.float64)
    factors = measure(deployed, IMAGES.double(), percentile=100)
    snn = convert(deployed, IMAGES.double(), factors=factors)
    inputs = input_factors(deployed, factors)
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _m, i, out, name=name: seen.update({name: out, f"{name}/in": i[0]}))
        for name, layer in layers_of(deployed.network).items()
    ]
    deployed(IMAGES.double())
    for hook in hooks:
        hook.remove()
    for name, layer in layers_of(snn.network).items():
        drive: Any = layer.conv(seen[f"{name}/in"] / inputs[name].view(1, -1, 1, 1))
        activation = layers_of(deployed.network)[name].act(drive)
        torch.testing.assert_close(activation, seen[name] / factors[name].view(1, -1, 1, 1), rtol=1e-9, atol=1e-9)
        assert activation.amax() == pytest.approx(1.0)
    whole = convert(deployed, IMAGES.double(), factors=factors, normalisation="layer")
    assert not torch.equal(
        whole.network.state_dict()["deep.0.conv.weight"], snn.network.state_dict()["deep.0.conv.weight"]
    )


@pytest.mark.parametrize("percentile", [50.0, 99.9, 100.0])
def test_layers_of_any_size_are_calibrated(percentile: float) -> None:
    values = torch.rand(2**24 + 2, generator=torch.Generator().manual_seed(0)).double()  # too many for torch.quantile
    measured = percentile_of(values, percentile)
    place = percentile / 100 * (len(values) - 1)
    ordered = values.sort().values
    below, above = ordered[int(place)], ordered[min(int(place) + 1, len(values) - 1)]
    assert measured.dtype == torch.float64
    assert measured.item() == pytest.approx((below + (above - below) * (place % 1)).item(), abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3), (1, 8)])
def test_transposed_convolutions_lower_exactly(height: int, width: int) -> None:
    torch.manual_seed(0)
    module = nn.ConvTranspose2d(3, 2, 3, 2, 1, output_padding=1).double()
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    graph = export_module(module, (3, height, width))
    (output,) = reference.run(graph, x[None].numpy()).outputs.values()
    np.testing.assert_allclose(output[0], module(x).detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.ConvTranspose2d(4, 4, 3, 2, 1), "output padding must be"),
        (nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1, groups=2), "without groups"),
    ],
)
def test_other_transposed_convolutions_are_refused(module: nn.Module, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        export_module(module, (4, 6, 6))


def test_the_transposed_form_is_converted_and_exported() -> None:
    tiny = lively_detector("spiking-yolo-tiny-conv", num_classes=2)
    snn = convert(tiny, IMAGES, time_steps=2)
    graph = snn.to_nir((64, 64))
    assert sum(isinstance(node, nir.Delay) for node in graph.nodes.values()) == len(layers_of(snn.network))
    (report,) = verify_in_each(snn, ["norse"], images={"noise": IMAGES[:1]}, dtypes=[torch.float64])
    assert report.passed


@pytest.mark.slow
def test_the_published_size_exports_and_loads_in_stock_nir(tmp_path: Path) -> None:
    tiny = zoo.create("spiking-yolo-tiny-conv", num_classes=80)
    snn = convert(tiny, torch.rand(1, 3, 416, 416), time_steps=2)
    graph = nir.read(snn.export(tmp_path / "tiny.nir"), type_check=False)
    assert sum(isinstance(node, nir.Output) for node in graph.nodes.values()) == 2


@pytest.mark.parametrize("size", ["tiny", "tiny-conv", "pico", "pico-leaky"])
def test_every_variant_trains_a_step(size: str) -> None:
    from zoo.heads.boxes import Targets
    from zoo.training.config import make_train_config
    from zoo.training.loop import make_loss

    detector = zoo.create(f"spiking-yolo-{size}", num_classes=2).train()
    loss = make_loss(detector.config, make_train_config(arch=detector.config.arch))
    targets = Targets(torch.tensor([[1]]), torch.tensor([[[8.0, 8, 40, 44]]]), torch.ones(1, 1).bool())
    parts = loss(detector(torch.rand(1, 3, 64, 64)), targets)
    torch.stack(list(parts.values())).sum().backward()
    gradient = dict(detector.network.named_parameters())["stages.0.conv.conv.weight"].grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_boxes_of_yolov3() -> None:
    from zoo.heads.anchors import decode_anchors

    raw = torch.zeros(1, 7, 2, 3)
    raw[0, :, 1, 2] = torch.tensor([0.0, 0.0, np.log(2.0), np.log(0.5), 0.0, 0.0, 2.0])
    boxes = decode_anchors([raw], strides=[8], anchors=(((10.0, 20.0),),), num_classes=2, exponential=True)
    cell = boxes[0, :, 1 * 3 + 2]
    torch.testing.assert_close(cell[:4], torch.tensor([2.5 * 8, 1.5 * 8, 20.0, 10.0]))
    assert cell[5].item() == pytest.approx(0.5 / (1 + np.exp(-2.0)))


def test_what_cannot_be_converted_is_refused() -> None:
    pico = lively_detector("spiking-yolo-pico")
    with pytest.raises(InvalidInputError, match="max-pools real values"):
        convert(lively_detector("spiking-yolo-tiny", num_classes=2), IMAGES)
    with pytest.raises(InvalidInputError, match="spiking from the start"):
        convert(lively_detector("ems-yolo-pico"), IMAGES)
    with pytest.raises(InvalidInputError, match="spiking from the start"):
        convert(convert(pico, IMAGES), IMAGES)
    for arguments, message in (
        ({"time_steps": 0}, "time_steps must be at least 1"),
        ({"percentile": 0.0}, "percentile must lie in"),
        ({"normalisation": "weight"}, "'channel' or 'layer'"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            convert(pico, IMAGES, **arguments)
    with pytest.raises(InvalidInputError, match="calibration data"):
        convert(pico, IMAGES[:0])
    with pytest.raises(InvalidInputError, match="only a detector that was converted"):
        next(stream(pico, IMAGES))
    with pytest.raises(InvalidInputError, match="steps must lie in"):
        next(stream(convert(pico, IMAGES), IMAGES, time_steps=0))
    with pytest.raises(ExportError, match="convert the ANN to spikes first"):
        pico.to_nir((64, 64))
    with pytest.raises(ConfigError, match="an ANN has no time steps"):
        zoo.create("spiking-yolo-pico", num_classes=2, time_steps=8)
    with pytest.raises(ConfigError, match="pools maxima"):
        zoo.create("spiking-yolo-tiny", num_classes=2, time_steps=8, spiking=True)


def test_a_folder_is_converted_and_keeps_the_ann(tmp_path: Path) -> None:
    from zoo.hub import bundle

    ann = lively_detector("spiking-yolo-pico", class_names=[str(digit) for digit in range(10)])
    folder = bundle.write(
        tmp_path / "ann", ann.fuse(), card_fields={"name": "ann", "dataset": "digits"},
        trainable_state=ann.state_dict(), require_graph=False,
    )  # fmt: skip
    path = convert_model(folder, tmp_path / "snn", time_steps=8, calibration=2)
    snn: Any = zoo.load(path)
    assert snn.time_steps == 8
    back: Any = zoo.load(path, trainable=True)
    assert back.time_steps == 1
    with torch.no_grad():
        for one, other in zip(back(IMAGES), ann(IMAGES), strict=True):
            assert torch.equal(one, other)
    twin: Any = zoo.load(path, backend="norse")
    images = torch.rand(1, 3, 96, 96)
    for one, other in zip(twin(images), snn(images), strict=True):
        assert one.shape == other.shape
    with pytest.raises(InvalidInputError, match="exists already"):
        convert_model(folder, path)
    with pytest.raises(InvalidInputError, match="calibration data"):
        convert_model(folder, tmp_path / "none", calibration=0)
    assert not (tmp_path / "none").exists()


def test_several_streams_run_in_turns_on_one_detector() -> None:
    """Potentials belong to a call, not to the detector."""
    snn = convert(lively_detector("spiking-yolo-pico"), IMAGES, time_steps=8)
    other = IMAGES.flip(0).contiguous()
    alone = [[maps for _, maps in stream(snn, x, readouts=[2, 4, 6], chunk=1)] for x in (IMAGES, other)]
    streams = [stream(snn, x, readouts=[2, 4, 6], chunk=1) for x in (IMAGES, other)]
    for step in range(4):
        for index, one in enumerate(streams):
            _, maps = next(one)
            whole = snn(other)  # a whole forward pass in between
            assert all(torch.equal(a, b) for a, b in zip(maps, alone[index][step], strict=True))
            assert all(torch.equal(a, b) for a, b in zip(whole, snn(other), strict=True))
    left = next(stream(snn, IMAGES, readouts=[1]))  # left before its end
    assert left[0] == 1
    assert all(torch.equal(a, b) for a, b in zip(snn(other), snn(other), strict=True))
