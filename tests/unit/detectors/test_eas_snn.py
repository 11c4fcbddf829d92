"""EAS-SNN: sizes and forms, its NIR form, events in and detections out, and its model folder on every backend."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
import torch

import zoo
from tests.conftest import lively_detector
from zoo.data.digit_events import DigitEvents
from zoo.data.events import draw_events, micro_slices
from zoo.data.prophesee import write_dat
from zoo.detectors.detector import Detector
from zoo.equivalence.probes import event_slices
from zoo.equivalence.verification import verify_in_each
from zoo.errors import CorruptFileError, ExportError, FileMissingError, InvalidInputError
from zoo.heads.boxes import Targets
from zoo.heads.yolox import YOLOXLoss
from zoo.hub import bundle
from zoo.nir_graphs import io
from zoo.result import Result, save_video

PARAMETERS = {"backbone": 8_938_167, "backbone+neck": 8_938_191, "all": 8_938_206}
"""Of the released size s with two classes and the sampler of GEN1."""
TARGET = Targets(torch.tensor([[1]]), torch.tensor([[[8.0, 8, 40, 40]]]), torch.ones(1, 1).bool())


@pytest.fixture(scope="module")
def lively() -> Detector:
    return lively_detector("eas-snn-pico", class_names=[str(digit) for digit in range(10)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lively: Detector) -> Path:
    path = tmp_path_factory.mktemp("eas") / "model"
    fields = {"name": "events", "dataset": "digits-events"}
    return bundle.write(path, lively.fuse(), card_fields=fields, trainable_state=lively.state_dict())


def parameters(detector: Detector) -> int:
    return sum(parameter.numel() for parameter in detector.parameters())


@pytest.mark.parametrize("spiking", PARAMETERS)
def test_the_official_form_has_as_many_parameters_as_released(spiking: str) -> None:
    detector = zoo.create("eas-snn-s", num_classes=2, form="official", spiking=spiking)
    assert parameters(detector) == PARAMETERS[spiking]
    assert parameters(zoo.create("eas-snn-m", num_classes=2, form="official")) == 25_280_918


@pytest.mark.parametrize("form", ["native", "official"])
@pytest.mark.parametrize("spiking", PARAMETERS)
@pytest.mark.parametrize("size", ["pico", "s", "m", "l"])
def test_every_size_and_form_trains_a_step(size: str, spiking: str, form: str) -> None:
    detector = zoo.create(f"eas-snn-{size}", num_classes=2, spiking=spiking, form=form).train()
    with torch.no_grad():  # away from silence
        for name, parameter in detector.encoder.named_parameters():  # type: ignore[union-attr]
            if name.endswith("bias"):
                parameter.add_(0.3)
    loss = YOLOXLoss(detector.config.decode.strides, 2)
    raw = detector(torch.rand(4, 1, 2, 64, 64) * 4)
    assert [tuple(level.shape) for level in raw] == [(1, 7, 8, 8), (1, 7, 4, 4), (1, 7, 2, 2)]
    torch.stack(list(loss(raw, TARGET).values())).sum().backward()
    for name, parameter in detector.named_parameters():
        if name.startswith(("encoder.input_net", "network.backbone.stem")):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    torch.optim.SGD(detector.parameters(), lr=0.01).step()


def test_only_the_fully_spiking_native_form_is_exported() -> None:
    for spiking, form, layer in (
        ("all", "official", r"'backbone\.stem\.conv\.act'"),
        ("backbone+neck", "native", r"'head\.stems\.0\.act'"),
        ("backbone", "native", r"'neck\.lateral5\.act'"),
    ):
        with pytest.raises(ExportError, match=rf"{layer} is analog"):
            zoo.create("eas-snn-pico", num_classes=2, spiking=spiking, form=form).to_nir()


def test_fusing_changes_nothing(lively: Detector) -> None:
    double = lively_detector("eas-snn-pico").double()
    given = event_slices(lively.config, (64, 64), count=4)["digits"]
    with torch.no_grad():
        for one, other in zip(double(given), double.fuse(dtype=torch.float64)(given), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert not any("act.w" in key for key in lively.fuse().state_dict())


def test_the_graph_is_standard_and_holds_one_loop_per_neuron_layer(lively: Detector, tmp_path: Path) -> None:
    graph = lively.fuse().to_nir((64, 96))
    neurons = sum(type(module).__name__ == "PLIF" for module in lively.modules())
    assert sum(isinstance(node, nir.Delay) for node in graph.nodes.values()) == neurons == 74
    read = nir.read(io.write(graph, tmp_path / "a.nir"), type_check=False)
    assert sum(isinstance(node, nir.Output) for node in read.nodes.values()) == 3
    assert read.nodes["input"].output_type["output"].tolist() == [2, 64, 96]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_published_sizes_export_at_640_and_load_in_stock_nir(size: str, tmp_path: Path) -> None:
    graph = nir.read(zoo.create(f"eas-snn-{size}", num_classes=2).fuse().export(tmp_path / "a.nir"), type_check=False)
    assert sum(isinstance(node, nir.Output) for node in graph.nodes.values()) == 3


@pytest.mark.parametrize("steps", [3, 16])
def test_every_spike_is_the_same_on_every_backend(lively: Detector, steps: int) -> None:
    groups = event_slices(lively.config, (32, 32), count=16 if steps == 3 else 2)
    (report,) = verify_in_each(lively, "all", images=groups, dtypes=[torch.float64], time_steps=steps)
    assert report.passed
    assert {row.backend for row in report.comparisons} >= {
        "module",
        "snntorch",
        "norse",
        "spikingjelly",
        "sinabs",
        "jax",
    }
    assert "too large" in report.refused["brian2"][0]
    neurons = next(row for row in report.comparisons if row.inputs == "digits" and row.backend == "module")
    assert neurons.expected > 10_000


def test_each_frame_of_its_own_or_one_for_all() -> None:
    one, three = (lively_detector("eas-snn-pico", ts=ts) for ts in (1, 3))
    given = event_slices(one.config, (64, 64), count=2)["digits"].float()
    with torch.no_grad():
        frames = one.frames(given).unflatten(0, (3, -1))
        assert torch.equal(frames[0], frames[2])
        frames = three.frames(given).unflatten(0, (3, -1))
        assert not torch.equal(frames[0], frames[1])


def test_neither_quantised_nor_certified_without_saying_what_goes_in(lively: Detector) -> None:
    with pytest.raises(InvalidInputError, match="frames of real numbers"):
        zoo.quantize(lively)
    with pytest.raises(InvalidInputError, match="frames are real numbers"):
        zoo.certify(lively)


# Streams of events.


def same(one: Result, other: Result) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(vars(one.boxes).values(), vars(other.boxes).values(), strict=True))


def test_arrays_and_recordings_are_predicted(lively: Detector, tmp_path: Path) -> None:
    events, _, _ = DigitEvents("test", length=1).clip(0)
    path = write_dat(tmp_path / "a.dat", events, (96, 96))
    from_array = lively.predict(events, conf=0.001)
    from_file = lively.predict(path, conf=0.001)
    assert isinstance(from_array, Result)
    assert isinstance(from_file, Result)
    assert len(from_array) > 0
    assert same(from_array, from_file)
    assert from_file.path == path
    assert from_array.time_us == int(events["t"][-1]) + 1
    assert from_array.image.shape == (96, 96, 3)
    listed = lively.predict([events, events], conf=0.001)
    assert isinstance(listed, list)
    assert same(listed[1], from_array)
    along = list(lively.predict_recording(path, step_us=50_000, conf=0.001))
    start = int(events["t"][0])
    assert [result.time_us for result in along] == [
        start + 50_000,
        start + 100_000,
        start + 150_000,
        from_array.time_us,
    ]
    assert same(along[-1], from_array)
    counts = micro_slices(events, lively.config.input.events, end=start + 50_000)  # type: ignore[arg-type]
    assert counts[:3].sum() == 0  # nothing is known of the time before the recording
    np.testing.assert_array_equal(along[0].image, draw_events(counts))
    assert along[0].to_dict()["time_us"] == start + 50_000
    assert save_video(along, tmp_path / "a.gif").stat().st_size > 1000
    with pytest.raises(InvalidInputError, match=r"use \.gif, \.webp or \.png"):
        save_video(along, tmp_path / "a.mp4")


def test_streams_that_cannot_be_are_refused(lively: Detector, tmp_path: Path) -> None:
    events, _, _ = DigitEvents("test", length=1).clip(0)
    for bad, message in (
        (events[:0], "empty"),
        (events[::-1], "out of order"),
        (np.zeros((8, 8), np.uint8), "structured array"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            lively.predict(bad)
    other = write_dat(tmp_path / "a.dat", events, (240, 304))
    with pytest.raises(InvalidInputError, match=r"recorded on 240x304 pixels .* sensor_size=\(240, 304\)"):
        lively.predict(other)
    with pytest.raises(FileMissingError):
        lively.predict(tmp_path / "b.dat")
    with pytest.raises(InvalidInputError, match="step_us must be at least 1"):
        list(lively.predict_recording(other, step_us=0))
    cut = tmp_path / "c.dat"
    cut.write_bytes(write_dat(tmp_path / "d.dat", events, (96, 96)).read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match="cut inside an event"):
        lively.predict(cut)
    pictures = lively_detector()
    with pytest.raises(InvalidInputError, match="takes images, and got events with the fields x, y, t, p"):
        pictures.predict(events)
    with pytest.raises(InvalidInputError, match="takes pictures, not events"):
        list(pictures.predict_recording(cut))


# The model folder.


@pytest.mark.parametrize("backend", ["snntorch", "norse"])
def test_the_folder_holds_the_sampler_too(folder: Path, lively: Detector, backend: str) -> None:
    events, _, _ = DigitEvents("test", length=2).clip(1)
    expected = lively.fuse().predict(events, conf=0.001)
    found = zoo.load(folder, backend=backend).predict(events, conf=0.001)
    assert isinstance(expected, Result)
    assert isinstance(found, Result)
    np.testing.assert_allclose(found.boxes.xyxy, expected.boxes.xyxy, atol=1e-3)
    trainable = zoo.load(folder, trainable=True)
    assert trainable.state_dict().keys() == lively.state_dict().keys()


def test_the_command_line_draws_recordings(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zoo.cli import main

    main_exits(main, ["write-dataset", "digits-events", "--length", "2", "-o", str(tmp_path / "set")], 0)
    (tmp_path / "set" / "test").rename(tmp_path / "clips")
    out, video = tmp_path / "out", tmp_path / "a.gif"
    main_exits(main, ["predict", str(folder), str(tmp_path / "clips"), "-o", str(out), "--step", "100", "--conf", "0.001",
                      "--video", str(video)], 0)  # fmt: skip
    names = sorted(path.name for path in out.iterdir())
    assert len(names) == 4
    assert names[0].startswith("clip_00000_td-000")
    assert video.exists()
    capsys.readouterr()
    for arguments, message in (
        (["predict", str(folder), str(tmp_path), "-o", str(out)], "holds no files .dat"),
        (["predict", str(folder), str(tmp_path / "clips"), "--step", "0"], "--step takes milliseconds"),
        (["predict", str(folder), str(tmp_path / "clips"), "--video", "a.mp4"], "cannot write a video as .mp4"),
        (["predict", "spikeyolo-digits", str(tmp_path / "clips"), "--step", "9"], "takes pictures"),
        (["write-dataset", "coco", "-o", str(tmp_path / "x")], "no generated data set 'coco'"),
        (["train", "eas-snn-pico", "--set", "ts", "-o", str(tmp_path / "x")], "settings are written NAME=VALUE"),
        (["val", str(folder), "--data", "digits"], "this detector takes events"),
        (["val", "spikeyolo-digits", "--data", "digits-events"], "this detector takes images"),
    ):
        main_exits(main, arguments, 2)
        assert message in " ".join(capsys.readouterr().err.split())


def main_exits(main: object, arguments: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)  # type: ignore[operator]
    assert (caught.value.code or 0) == code
