"""Shared by the tests of export: run a module in PyTorch and its graph in the reference interpreter, and compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.detectors.building import create
from zoo.detectors.detector import Detector
from zoo.layers.neurons import ILIF
from zoo.nir_graphs import metadata, reference
from zoo.nir_graphs.export import export_module

Compare = Callable[..., nir.NIRGraph]
STANDARD = {
    nir.Input, nir.Output, nir.Conv2d, nir.Threshold, nir.Scale, nir.Delay, nir.SumPool2d,
}  # fmt: skip


def flat(result: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Outputs of a module, first to last."""
    return [result] if isinstance(result, Tensor) else [tensor for part in result for tensor in flat(part)]


def require_well_formed(graph: nir.NIRGraph) -> None:
    """What holds for every exported graph: standard nodes, no edge twice, names that HDF5 takes, no dense constants."""
    assert {type(node) for node in graph.nodes.values()} <= STANDARD
    assert len(set(graph.edges)) == len(graph.edges)
    assert not any("/" in name for name in graph.nodes)
    for source, target in graph.edges:  # NIR's own type check, on types that its inference does not spoil
        np.testing.assert_array_equal(
            graph.nodes[source].output_type["output"], graph.nodes[target].input_type["input"], err_msg=target
        )
    for node in graph.nodes.values():
        for field in ("threshold", "scale", "delay"):
            array = getattr(node, field, np.zeros(0))
            assert array.size == 0 or not any(array.strides)


def counts(module: nn.Module, x: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs, and the count of every I-LIF neuron by path, as the module computes them."""
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _m, _i, count, path=path: seen.update({path: count}))
        for path, layer in module.named_modules()
        if isinstance(layer, ILIF)
    ]
    with torch.no_grad():
        outputs = flat(module(x))
    for hook in hooks:
        hook.remove()
    return outputs, seen


def require_equal(graph: nir.NIRGraph, module: nn.Module, x: Tensor, *, steps: int = 1, rtol: float = 1e-12) -> None:
    """Every spike of every neuron equal, outputs within ``rtol`` of the largest one; ``x`` is folded, (T*B, C, H, W)."""
    outputs, spikes = counts(module, x)
    trace = reference.run(graph, x.unflatten(0, (steps, -1)).numpy(), record="neurons")
    info = metadata.get(graph)
    assert len(info.outputs) == len(outputs)
    for note, expected in zip(info.outputs, outputs, strict=True):
        actual = trace.outputs[note["node"]]
        target = expected.unflatten(0, (steps, -1)).numpy()
        assert actual.shape == target.shape
        assert np.abs(actual - target).max() <= rtol * max(np.abs(target).max(), 1e-300)
    for path, segments in info.neurons.items():
        count = spikes.get(path, spikes.get("")) if path == "layer" else spikes[path]
        assert count is not None
        actual = np.concatenate([sum(trace.spikes[node] for node in levels) for levels in segments], axis=2)
        np.testing.assert_array_equal(actual, count.unflatten(0, (steps, -1)).numpy(), err_msg=path)


@pytest.fixture(scope="session")
def compare() -> Compare:
    """Export a module (in float64), require that graph and module agree on random input, and return the graph."""

    def run(
        module: nn.Module,
        shape: tuple[int, int, int],
        *,
        steps: int = 1,
        batch: int = 2,
        rtol: float = 1e-12,
        x: Tensor | None = None,
    ) -> nir.NIRGraph:
        module = module.double().eval()
        graph = export_module(module, shape)
        require_well_formed(graph)
        if x is None:
            x = torch.randn(steps * batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        require_equal(graph, module, x, steps=steps, rtol=rtol)
        return graph

    return run


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def lively() -> Callable[..., Detector]:
    """Makes an unfused float64 ``spikeyolo-pico`` whose random weights keep its neurons firing."""

    def make(**arguments: object) -> Detector:
        detector = create("spikeyolo-pico", num_classes=10, **arguments).double().eval()
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

    return make
