"""Pooling of spikes: exact per level; pooling of real values is refused."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.detectors.spikeyolo.blocks import SpikeSPPF
from zoo.errors import ExportError
from zoo.layers.neurons import ILIF
from zoo.layers.pooling import SpikeMaxPool2d
from zoo.nir_graphs import reference
from zoo.nir_graphs.export import export_module


class Pyramid(nn.Module):
    """Neuron, three pools with one module, concatenation, convolution: the shape of SpikeYOLO's SPPF."""

    def __init__(self, pool: nn.Module, steps: int = 1) -> None:
        super().__init__()
        self.neuron = ILIF(time_steps=steps)
        self.pool = pool
        self.conv = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.neuron(x)
        once = self.pool(x)
        twice = self.pool(once)
        thrice = self.pool(twice)
        return [once, twice, thrice, self.conv(torch.cat([x, once, twice, thrice], dim=1))]


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 3), (5, 8), (13, 6)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_equals_pytorch(compare: Any, kernel: int, size: tuple[int, int], steps: int) -> None:
    graph = compare(Pyramid(SpikeMaxPool2d(kernel), steps), (3, *size), steps=steps)
    assert sum(isinstance(node, nir.SumPool2d) for node in graph.nodes.values()) == 12
    assert "pool_3.level4" in graph.nodes


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0))], ids=str)
def test_other_windows(compare: Any, pool: nn.MaxPool2d) -> None:
    compare(nn.Sequential(ILIF(2), pool, nn.Conv2d(3, 2, 1)), (3, 7, 9))


def test_pool_of_concatenated_spikes(compare: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.pool = ILIF(2), ILIF(4), SpikeMaxPool2d(3)
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(torch.cat([self.a(x), self.b(self.conv(x))], dim=1))

    graph = compare(Net(), (3, 5, 6))
    assert "pool.seg1.level4" in graph.nodes


def test_sums_without_the_threshold_would_be_wrong() -> None:
    module = Pyramid(SpikeMaxPool2d(3)).double()
    graph = export_module(module, (3, 5, 6))
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    edges = [(source.replace("level", "sum") if source.startswith("pool.") else source, target)
             for source, target in graph.edges if target.split(".")[0] != "pool" or ".sum" in target]  # fmt: skip
    nodes = {name: node for name, node in graph.nodes.items() if not name.startswith("pool.level")}
    wrong = reference.run(nir.NIRGraph(nodes, edges, metadata={}, type_check=False), x[None].numpy())
    assert (wrong.outputs["output_0"][0] != module(x)[0].detach().numpy()).any()


@pytest.mark.parametrize("form", ["native", "official"])
def test_sppf_at_one_step(compare: Any, form: str) -> None:
    block = SpikeSPPF(8, form=form, neuron=ILIF).double().eval()
    x = 3 * torch.randn(2, 8, 6, 7, dtype=torch.float64)
    before = block(x)
    for module in block.modules():
        if hasattr(module, "fuse_"):
            module.fuse_(merge=False)  # type: ignore[operator]
    compare(block, (8, 6, 7), x=x)
    torch.testing.assert_close(block(x), before, rtol=1e-12, atol=1e-12)


def test_pool_before_the_neuron_is_another_network_at_two_steps_and_refused() -> None:
    torch.manual_seed(3)
    x = torch.randn(2 * 8, 3, 12, 12, dtype=torch.float64) + 0.5
    neuron, pool = ILIF(time_steps=2), nn.MaxPool2d(5, stride=1, padding=2)
    assert (neuron(pool(x)) != pool(neuron(x))).double().mean() > 0.01
    with pytest.raises(ExportError, match=r"the module '0' \(MaxPool2d\).*real values.*T > 1"):
        export_module(nn.Sequential(pool, neuron), (3, 12, 12))


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron, self.other, self.pool = ILIF(), ILIF(), SpikeMaxPool2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.neuron(x) + self.other(x))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (SpikeMaxPool2d(3), "real values"),
        (Doubled(), "'pool'.*real values"),
        (nn.Sequential(ILIF(), nn.Conv2d(3, 3, 1), SpikeMaxPool2d(3)), "'2'.*real values"),
        (nn.Sequential(ILIF(), nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode"),
        (nn.Sequential(ILIF(), nn.MaxPool2d(2, dilation=2)), "dilation"),
        (nn.Sequential(ILIF(), nn.MaxPool2d(9)), "smaller than its window"),
    ],
)
def test_refusals(module: nn.Module, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        export_module(module, (3, 5, 5))


def test_pooled_spikes_are_binary() -> None:
    graph = export_module(Pyramid(SpikeMaxPool2d(5)), (3, 4, 4))
    trace = reference.run(graph, 4 * np.ones((1, 1, 3, 4, 4)), record="neurons")
    assert all(set(np.unique(spikes)) <= {0.0, 1.0} for spikes in trace.spikes.values())
