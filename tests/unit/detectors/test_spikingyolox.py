"""SpikingYOLOX in its native form: sizes, switches, ternary spikes, and every spike on every backend."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
import torch

import zoo
from tests.conftest import lively_detector
from zoo.detectors.spikingyolox.blocks import FFCBlock
from zoo.equivalence.verification import verify_in_each
from zoo.errors import ConfigError, InvalidInputError
from zoo.heads.boxes import Targets
from zoo.heads.yolox import YOLOXLoss
from zoo.layers.rate_neurons import SignedIF
from zoo.nir_graphs import io

SMALL, LARGE = ["pico", "nano", "tiny", "s"], ["m", "l", "x"]
TARGET = Targets(torch.tensor([[1]]), torch.tensor([[[8.0, 8, 40, 40]]]), torch.ones(1, 1).bool())
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [*SMALL, *(pytest.param(size, marks=pytest.mark.slow) for size in LARGE)])
def test_every_size_trains_a_step(size: str) -> None:
    for compat in ("paper", "published-code"):
        torch.manual_seed(0)
        detector = zoo.create(f"spikingyolox-{size}", num_classes=2, compat=compat).train()
        raw = detector(torch.rand(2, 3, 64, 64))
        assert [tuple(level.shape) for level in raw] == [(2, 7, 8, 8), (2, 7, 4, 4), (2, 7, 2, 2)]
        target = Targets(TARGET.labels.repeat(2, 1), TARGET.boxes.repeat(2, 1, 1), TARGET.valid.repeat(2, 1))
        torch.stack(list(YOLOXLoss((8, 16, 32), 2)(raw, target).values())).sum().backward()
        for name, parameter in detector.named_parameters():
            if "stem" in name or "global_to_global" in name:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
        torch.optim.SGD(detector.parameters(), lr=0.01).step()


@pytest.mark.parametrize("steps", [1, 4])
def test_every_spike_is_the_same_on_every_backend(steps: int) -> None:
    detector = lively_detector("spikingyolox-pico", time_steps=steps)
    (report,) = verify_in_each(detector, "all", images={"noise": IMAGES}, dtypes=[torch.float64])
    assert report.passed
    assert {row.backend for row in report.comparisons} >= {
        "module",
        "snntorch",
        "norse",
        "spikingjelly",
        "sinabs",
        "jax",
    }
    nodes = {node.node: node.expected for node in report.comparisons[0].nodes}
    deep = "backbone.stage5.blocks.0.ffc1"
    for place in ("act_local", "act_global", "global_to_global.act", "global_to_global.unit.act"):
        assert nodes[f"{deep}.{place}.positive"] > 0, place
        assert nodes[f"{deep}.{place}.negative"] > 0, place
    assert not any(name.startswith(("neck", "head")) and name.endswith("negative") for name in nodes)


def test_depthwise_convolutions_and_other_switches_are_exact_too() -> None:
    for arguments in ({}, {"ternary": False}, {"ffc": False}):
        detector = lively_detector("spikingyolox-nano", num_classes=2, **arguments)
        (report,) = verify_in_each(
            detector, ["norse"], images={"noise": IMAGES[:1, :, :64, :64]}, dtypes=[torch.float64]
        )
        assert report.passed
        signed = any(module.slope for module in detector.modules() if isinstance(module, SignedIF))
        assert signed == arguments.get("ternary", True)
        assert any(isinstance(module, FFCBlock) for module in detector.modules()) == arguments.get("ffc", True)


def test_the_graph_is_for_one_size_and_says_so() -> None:
    from zoo.adapters.base import get_backend
    from zoo.detectors.graph import GraphDetector

    detector = lively_detector("spikingyolox-pico").fuse()
    graph = detector.to_nir((64, 96))
    twin = GraphDetector(get_backend("norse").build(graph), detector.config)
    for one, other in zip(twin(IMAGES), detector(IMAGES), strict=True):
        assert one.shape == other.shape
    with pytest.raises(InvalidInputError, match="exported for images of 64x96 pixels, got 96x96"):
        twin(torch.rand(1, 3, 96, 96))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["nano", "tiny", "s", "m", "l", "x"])
def test_published_sizes_export_at_640_and_load_in_stock_nir(size: str, tmp_path: Path) -> None:
    path = zoo.create(f"spikingyolox-{size}", num_classes=80).fuse().export(tmp_path / "a.nir")
    graph = nir.read(path, type_check=False)
    assert sum(isinstance(node, nir.Output) for node in graph.nodes.values()) == 3


def test_the_file_is_read_by_stock_nir(tmp_path: Path) -> None:
    graph = lively_detector("spikingyolox-pico").fuse().to_nir((64, 96))
    read = nir.read(io.write(graph, tmp_path / "a.nir"), type_check=False)
    assert read.nodes.keys() == graph.nodes.keys()
    name = next(name for name in graph.nodes if name.endswith("unit.transform.columns1"))
    np.testing.assert_array_equal(read.nodes[name].weight, graph.nodes[name].weight)
    assert graph.nodes[name].weight.dtype == np.float64  # cosines are not rounded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compat": "official"}, "compat must be 'paper' or 'published-code'"),
        ({"compat": "published-code", "ffc": False}, "switches are for compat='paper'"),
        ({"compat": "published-code", "time_steps": 2}, "T = 1"),
        ({"levels": 2}, "levels must be 1"),
        ({"fft": True}, "takes no argument fft"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zoo.create("spikingyolox-pico", num_classes=2, **arguments)  # type: ignore[arg-type]
