"""Spike-exact comparison: it passes where backends agree, and it notices where they do not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nir
import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.conftest import lively_detector
from zoo.equivalence.report import Comparison, NodeResult, Report
from zoo.equivalence.verification import verify_detector, verify_in_each
from zoo.errors import FileMissingError, InvalidInputError, UnsupportedGraphError
from zoo.nir_graphs import metadata

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector

SIZE = (64, 96)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def test_float64_is_identical_everywhere(deployed: Detector, images: torch.Tensor) -> None:
    report = zoo.verify(deployed, ["snntorch", "norse"], images=images, dtype="float64")
    assert report
    assert report.image_size == SIZE
    assert [row.backend for row in report.comparisons] == ["module", "snntorch", "norse"]
    for row in report.comparisons:
        assert row.images == 3
        assert row.mismatches == 0
        assert row.head_error <= 1e-9
        assert row.first_divergence is None
        assert row.expected > 10_000
    graph = deployed.to_nir(SIZE)
    thresholds = [name for name, node in graph.nodes.items() if isinstance(node, nir.Threshold)]
    assert {node.node for node in report.comparisons[1].nodes} == set(thresholds)
    owned = {node for segments in metadata.get(graph).neurons.values() for levels in segments for node in levels}
    assert {node.node for node in report.comparisons[0].nodes} == owned
    assert all(node.module is not None for node in report.comparisons[0].nodes)


@pytest.mark.parametrize("time_steps", [2, 4])
def test_another_number_of_time_steps(deployed: Detector, images: torch.Tensor, time_steps: int) -> None:
    report = zoo.verify(deployed, ["norse"], images=images[:1], time_steps=time_steps, dtype="float64")
    assert report.passed
    assert report.time_steps == time_steps
    assert deployed.time_steps == 1


def test_all_runs_what_can_and_says_who_cannot(deployed: Detector, images: torch.Tensor) -> None:
    report = zoo.verify(deployed, "all", images=images[:1], dtype="float64")
    assert report.passed
    assert [row.backend for row in report.comparisons] == [
        "module", "snntorch", "norse", "spikingjelly", "sinabs", "jax",
    ]  # fmt: skip
    assert list(report.refused) == ["brian2"]
    assert any("refused by brian2: node 'backbone.stem'" in note for note in report.notes())
    assert "refused by brian2" in report.to_markdown()
    assert report.to_dict()["refused"] == report.refused


def test_a_backend_that_was_asked_for_by_name_must_not_refuse(deployed: Detector, images: torch.Tensor) -> None:
    for backends in (["brian2"], ["all", "brian2"]):
        with pytest.raises(UnsupportedGraphError, match="too large"):
            zoo.verify(deployed, backends, images=images[:1])


def test_unfused_detectors_are_compared_in_deployed_form(trainable: Detector, images: torch.Tensor) -> None:
    assert zoo.verify(trainable, [], images=images[:1], dtype="float64").passed
    assert not trainable.is_fused


def test_both_dtypes_against_one_judge(deployed: Detector, images: torch.Tensor) -> None:
    exact, rounded = verify_in_each(
        deployed, ["norse"], images=images, dtypes=[torch.float64, torch.float32], record=True
    )
    assert (exact.dtype, rounded.dtype) == ("float64", "float32")
    assert exact.passed
    assert 0.9 < rounded.comparisons[0].spike_iou <= 1
    assert set(exact.traces) == {("given", "reference"), ("given", "module"), ("given", "norse")}
    trace = exact.traces["given", "norse"][0]
    node = exact.comparisons[1].nodes[0]
    assert trace.spikes[node.node].shape[:2] == (1, 3)
    assert int(trace.spikes[node.node].sum()) == node.spikes


def moved_threshold(detector: Detector, name: str) -> nir.NIRGraph:
    graph = detector.to_nir(SIZE)
    graph.nodes[name] = nir.Threshold(np.asarray(graph.nodes[name].threshold) + 0.05)
    return graph


def test_a_moved_threshold_is_noticed(deployed: Detector, images: torch.Tensor) -> None:
    levels = metadata.get(deployed.to_nir(SIZE)).neurons["backbone.down4.neuron"]
    moved = levels[0][1]
    (report,) = verify_in_each(
        deployed, ["norse"], images=images, dtypes=[torch.float64], graph=moved_threshold(deployed, moved)
    )
    module, norse = report.comparisons
    assert not report.passed
    assert norse.passed("float64")  # norse runs the very graph that the judge runs
    assert module.first_divergence == (moved, 0)
    assert module.mismatches > 0
    assert module.spike_iou < 1
    assert module.head_error > 1e-9


def test_a_silent_backend_fails_in_both_dtypes(
    deployed: Detector, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.equivalence import runners

    honest = runners.GraphRunner.run

    def silent(self: Any, frames: torch.Tensor) -> runners.Recording:
        trace = honest(self, frames)
        return runners.Recording(dict(trace.outputs), {name: 0 * spikes for name, spikes in trace.spikes.items()})

    monkeypatch.setattr(runners.GraphRunner, "run", silent)
    for report in verify_in_each(deployed, ["norse"], images=images, dtypes=[torch.float64, torch.float32]):
        module, norse = report.comparisons
        assert module.passed(report.dtype)
        assert not norse.passed(report.dtype)
        assert norse.spike_iou == 0
        assert norse.count_error == 1


def test_a_backend_that_forgets_a_node_is_an_error(
    deployed: Detector, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.equivalence import runners

    honest = runners.GraphRunner.run

    def forgetful(self: Any, frames: torch.Tensor) -> runners.Recording:
        trace = honest(self, frames)
        return runners.Recording(dict(trace.outputs), dict(list(trace.spikes.items())[1:]))

    monkeypatch.setattr(runners.GraphRunner, "run", forgetful)
    with pytest.raises(InvalidInputError, match="recorded nothing"):
        verify_detector(deployed, ["norse"], images=images)


def test_silent_networks_prove_nothing(images: torch.Tensor) -> None:
    detector = lively_detector()
    for name, parameter in detector.named_parameters():
        if parameter.dim() == 1:  # batch norms: potentials are -10 or less everywhere
            torch.nn.init.constant_(parameter, 0.0 if "weight" in name else -10.0)
    report = zoo.verify(detector, [], images=images[:1], dtype="float64")
    assert report.comparisons[0].mismatches == 0
    assert report.silent
    assert not report
    assert "silent" in report.warnings()[0]


def test_default_images(deployed: Detector) -> None:
    from zoo.equivalence.probes import default_images

    groups = default_images(deployed.config)
    assert {name: tuple(t.shape) for name, t in groups.items()} == {
        "digits": (16, 3, 96, 96),
        "noise": (16, 3, 96, 96),
        "saturated": (16, 3, 96, 96),
    }
    assert all(t.dtype == torch.float64 and t.min() >= 0 and t.max() <= 1 for t in groups.values())
    assert all(torch.equal(t, t.float().double()) for t in groups.values())
    assert groups["saturated"].unique().tolist() == [0, 1]
    large = default_images(deployed.config, (640, 640))
    assert large["digits"].shape == (1, 3, 640, 640)


def test_pictures_as_images(deployed: Detector, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for index, path in enumerate(paths):
        Image.new("RGB", (40 + index, 70), (200, 30, 90)).save(path)
    report = zoo.verify(deployed, [], images=paths, dtype="float64")
    assert report.comparisons[0].images == 2
    assert report.image_size == (96, 96)
    with pytest.raises(FileMissingError):
        zoo.verify(deployed, [], images=[tmp_path / "c.png"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}, "floating point"),
        ({"images": torch.full((1, 3, 64, 64), 2.0)}, r"in \[0, 1\]"),
        ({"images": torch.full((1, 3, 64, 64), math.nan)}, r"in \[0, 1\]"),
        ({"images": torch.zeros(0, 3, 64, 64)}, "at least one image"),
        ({"images": torch.zeros(1, 2, 64, 64)}, "shape"),
        ({"images": torch.zeros(1, 3, 65, 64)}, "multiples of 32"),
        ({"images": []}, "at least one picture"),
        ({"images": "picture.png"}, "list of"),
        ({"backends": ["tensorflow"]}, "tensorflow"),
        ({"dtype": "bfloat16"}, "float32, float64"),
        ({"time_steps": 0}, "time_steps"),
    ],
)
def test_arguments_that_do_not_fit(deployed: Detector, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(zoo.errors.ZooError, match=message):
        zoo.verify(deployed, **{"backends": [], **arguments})


def test_only_definitions_are_verified(model_folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="snnTorch detector"):
        zoo.verify(zoo.load(model_folder, backend="norse"))  # type: ignore[arg-type]


def comparison(*nodes: NodeResult, head_error: float = 0.0) -> Comparison:
    return Comparison(
        backend="norse",
        inputs="noise",
        images=1,
        nodes=nodes,
        head_errors={"output": head_error},
        own_cells=(0, len(nodes)),
        module_iou=None,
        seconds=0.1,
    )


def report_of(*comparisons: Comparison, dtype: str = "float64") -> Report:
    return Report("m", dtype, 4, (64, 64), comparisons, {})


def test_numbers_by_hand() -> None:
    # 10 and 6 spikes expected; 8 + 9 fired, 8 + 4 of them right
    found = comparison(NodeResult("a", "m", 10, 8, 8, 3), NodeResult("b", None, 6, 9, 4, 1))
    assert found.mismatches == 2 + (2 + 5)
    assert found.spike_iou == pytest.approx(12 / (16 + 17 - 12))
    assert found.count_error == pytest.approx((2 + 3) / 16)
    assert found.first_divergence == ("b", 1)  # the earlier step, although the node comes later
    assert not found.passed("float64")
    assert found.passed("float32")


@pytest.mark.parametrize("error", [1e-8, math.inf, math.nan])
def test_wrong_heads_fail_with_identical_spikes(error: float) -> None:
    node = NodeResult("a", None, 5, 5, 5, None)
    assert report_of(comparison(node)).passed
    failing = report_of(comparison(node, head_error=error))
    assert not failing.passed
    assert json.loads(json.dumps(failing.to_dict(), allow_nan=False))["passed"] is False


def test_report_as_json_markdown_and_table(tmp_path: Path) -> None:
    report = report_of(comparison(NodeResult("a", "m", 10, 8, 8, 3)))
    written = json.loads(report.to_json(tmp_path / "report.json").read_text())
    row = written["comparisons"][0]
    assert written["passed"] is False
    assert row["first_divergence"] == {"node": "a", "step": 3}
    assert row["own_cells"] == {"own": 0, "total": 1}
    assert row["nodes"] == [["a", "m", 10, 8, 8, 3]]
    text = report.to_markdown()
    assert "| noise | norse |" in text
    assert "**FAILED**" in text
    assert report.table().row_count == 1
