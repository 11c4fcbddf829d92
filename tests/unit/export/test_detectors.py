"""Whole detectors: graph and module agree spike for spike; files are small and plain NIR; image sizes are checked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

from zoo.detectors.detector import Detector
from zoo.errors import ExportError, InvalidInputError
from zoo.layers.neurons import ILIF
from zoo.nir_graphs import io, metadata, reference
from zoo.nir_graphs.export import export_detector

Lively = Callable[..., Detector]


def require_same_spikes(graph: nir.NIRGraph, detector: Detector, *, batch: int = 2) -> None:
    """In float64 every spike of every neuron is the same, and heads agree within 1e-9 relative."""
    info, steps = metadata.get(graph), detector.time_steps
    assert nir.NIRGraph(graph.nodes, graph.edges, metadata={}, type_check=False).check_types()
    assert info.image_size is not None
    images = torch.rand(batch, 3, *info.image_size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen: dict[str, Any] = {}
    for path, module in detector.network.named_modules():
        if isinstance(module, ILIF):
            module.register_forward_hook(lambda _m, _i, count, path=path: seen.update({path: count}))
    with torch.no_grad():
        raw = detector(images)
    trace = reference.run(graph, images.expand(steps, *images.shape).numpy(), record="neurons")
    assert set(info.neurons) == set(seen)
    for path, segments in info.neurons.items():
        actual = np.concatenate([sum(trace.spikes[node] for node in levels) for levels in segments], axis=2)
        np.testing.assert_array_equal(actual, seen[path].unflatten(0, (steps, -1)).numpy(), err_msg=path)
    silent = [path for path, count in seen.items() if count.mean() < 0.01]
    assert len(silent) < len(seen) / 10
    for note, expected in zip(info.outputs, raw, strict=True):
        error = np.abs(trace.outputs[note["node"]].mean(0) - expected.numpy()).max()
        assert error <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"time_steps": 2},
        {"time_steps": 4, "levels": 2, "decay": 0.5},
        {"form": "official", "rounding": "half_even"},
    ],
    ids=str,
)
@pytest.mark.parametrize("merge", [False, True])
def test_float64_detectors_agree(lively: Lively, variant: dict[str, Any], merge: bool) -> None:
    detector = lively(**variant).fuse(merge=merge, dtype=torch.float64)
    require_same_spikes(export_detector(detector, (32, 64)), detector)


def test_the_deployed_detector_agrees_in_float64(lively: Lively) -> None:
    deployed = lively(time_steps=2).fuse()
    graph = export_detector(deployed, (64, 32))
    assert {node.weight.dtype for node in graph.nodes.values() if isinstance(node, nir.Conv2d)} == {np.dtype("float32")}
    require_same_spikes(graph, deployed.double())


def test_a_detector_in_training_form_is_fused_first(lively: Lively) -> None:
    detector = lively()
    graph, fused = export_detector(detector, 32), export_detector(detector.fuse(), 32)
    assert list(graph.nodes) == list(fused.nodes)
    assert not detector.is_fused
    for name, node in graph.nodes.items():
        if isinstance(node, nir.Conv2d):
            np.testing.assert_array_equal(node.weight, fused.nodes[name].weight)


def test_metadata(lively: Lively) -> None:
    info = metadata.get(export_detector(lively(time_steps=2), (64, 32)))
    assert (info.dt, info.time_steps, info.image_size) == (1.0, 2, (64, 32))
    assert info.outputs == [{"node": f"output_{i}", "stride": s} for i, s in enumerate((8, 16, 32))]
    assert info.neurons["neck.out5.neuron1"] == [[f"neck.out5.neuron1.level{k}" for k in range(1, 5)]]
    assert len(info.neurons["neck.reduce4.neuron"]) == 2  # behind a concatenation


def test_outputs_are_the_heads_at_their_strides(lively: Lively) -> None:
    graph = export_detector(lively(), (96, 64))
    shapes = [tuple(graph.nodes[f"output_{i}"].output_type["output"]) for i in range(3)]
    assert shapes == [(42, 12, 8), (42, 6, 4), (42, 3, 2)]


def test_stock_nir_reads_the_file(lively: Lively, tmp_path: Path) -> None:
    detector = lively(time_steps=2).fuse()
    graph = export_detector(detector, (32, 64))
    path = io.write(graph, tmp_path / "pico.nir")
    stock = nir.read(path, type_check=False)
    assert set(stock.nodes) == set(graph.nodes)
    assert list(stock.edges) == graph.edges
    for name, node in graph.nodes.items():
        for field in ("weight", "bias", "threshold", "scale", "delay"):
            if hasattr(node, field):
                np.testing.assert_array_equal(getattr(stock.nodes[name], field), getattr(node, field))
    assert metadata.get(io.read(path)) == metadata.get(graph)


def test_official_form_at_two_steps_is_refused_with_the_reason(lively: Lively) -> None:
    with pytest.raises(ExportError, match=r"the module 'backbone\.sppf\.pool' \(MaxPool2d\).*real values.*T > 1"):
        export_detector(lively(form="official", time_steps=2), 32)


@pytest.mark.parametrize("size", [0, -32, 48, (32, 40), (32,), (32, 32, 32), (32, 64.0), "32", (True, 32)])
def test_image_sizes_are_checked(lively: Lively, size: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"multiple of 32"):
        export_detector(lively(), size)


MEASURE = """
import json, os, sys, time
from pathlib import Path
from zoo.detectors.building import create
from zoo.nir_graphs import export, io
detector = create(f"spikeyolo-{sys.argv[1]}", num_classes=80).fuse()
start = time.process_time()
graph = export.export_detector(detector, 640)
io.write(graph, sys.argv[2])
# the largest memory of this program; ru_maxrss would count what the parent had before
memory = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({
    "seconds": time.process_time() - start,
    "memory": 1024 * int(memory.split()[1]),
    "ratio": os.path.getsize(sys.argv[2]) / sum(4 * p.numel() for p in detector.parameters()),
    "neurons": len(export.metadata.get(graph).neurons),
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("size", "neurons"), [("n", 88), ("s", 88), ("m", 108), ("l", 108)])
def test_published_sizes_at_640(size: str, neurons: int, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, size, str(tmp_path / "f.nir")], capture_output=True, text=True, check=True
    )
    measured = json.loads(run.stdout)
    assert measured["neurons"] == neurons
    assert measured["seconds"] < 120  # of the processor, so that busy cores do not count
    assert measured["memory"] < 4e9
    assert measured["ratio"] <= 1.3
