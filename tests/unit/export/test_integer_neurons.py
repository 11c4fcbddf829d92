"""I-LIF neurons: every spike equals the module's, ties included, for one step and for many."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ExportError, InvalidGraphError
from zoo.layers.neurons import ILIF
from zoo.nir_graphs import metadata, reference
from zoo.nir_graphs.export import export_module
from zoo.nir_graphs.normalise import normalise

SHAPE = (3, 5, 4)


def current(module: ILIF, rate: float, *, ties: bool, batch: int = 16) -> Tensor:
    """Folded input that makes ``rate`` spikes per neuron and step; with ties, on a grid that contains the thresholds."""
    generator = torch.Generator().manual_seed(module.time_steps)
    noise = torch.randn(module.time_steps * batch, *SHAPE, dtype=torch.float64, generator=generator)

    def made(offset: float) -> Tensor:
        x = 0.6 * noise + offset
        return torch.round(x * 8) / 8 if ties else x

    low, high = -4.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if module(made(middle)).mean() < rate else (low, middle)
    return made(high)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("decay", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 4, 16])
def test_spikes_equal_the_modules(compare: Any, steps: int, decay: float, rate: float, *, ties: bool) -> None:
    module = ILIF(time_steps=steps, decay=decay).double()
    x = current(module, rate, ties=ties)
    compare(module, SHAPE, steps=steps, x=x)
    assert module(x).mean() == pytest.approx(rate, rel=0.2)
    assert bool(torch.isin(x[:16], module.thresholds).any()) == ties
    if ties:
        assert ((x[:16] - 0.5) % 1 == 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("rounding", ["strict", "half_even"])
def test_frozen_thresholds_keep_their_exact_value(compare: Any, rounding: Any, steps: int, dtype: torch.dtype) -> None:
    module = ILIF(time_steps=steps, rounding=rounding)
    module.freeze(dtype)
    x = 1.5 * current(ILIF(time_steps=steps).double(), 0.5, ties=True)
    x[0, 0, 0] = torch.tensor([0.5, 1.5, 2.5, 3.5])
    graph = compare(module, SHAPE, steps=steps, x=x)
    stored = [graph.nodes[f"layer.level{k}"].threshold.flat[0] for k in range(1, 5)]
    assert stored == module.thresholds.tolist()
    assert module(x)[0, 0, 0].tolist() == ([0, 1, 2, 3] if rounding == "strict" else [0, 2, 2, 4])


def test_ties_would_differ_with_the_other_rounding() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, 3.5], dtype=torch.float64).view(1, 1, 1, 4)
    module = ILIF(rounding="half_even").double()
    graph = export_module(ILIF(), (1, 1, 4))
    trace = reference.run(graph, x[None].numpy())
    assert (trace.outputs["output_0"][0] != module(x).numpy()).sum() == 2


def test_shifted_thresholds_apply_to_the_comparison_only(compare: Any) -> None:
    module = ILIF(3, time_steps=4, decay=0.5)
    module.freeze(torch.float64)
    module.thresholds += torch.tensor([1 / 64, -1 / 64, 1 / 128])
    graph = compare(module, SHAPE, steps=4, x=current(ILIF(3, time_steps=4).double(), 0.5, ties=True))
    assert graph.nodes["layer.reset2"].scale.flat[0] == -1


def test_one_step_is_parallel_thresholds() -> None:
    graph = export_module(ILIF(3), SHAPE)
    assert [name for name in graph.nodes if name.startswith("layer")] == [f"layer.level{k}" for k in (1, 2, 3)]
    assert metadata.get(graph).neurons == {"layer": [["layer.level1", "layer.level2", "layer.level3"]]}
    assert metadata.get(graph).time_steps is None


def test_several_steps_are_the_canonical_loop() -> None:
    graph = export_module(ILIF(2, time_steps=4, decay=0.9), SHAPE)
    sources = {name: list(before) for name, before in normalise(graph).sources.items()}
    assert sources["layer.u"] == ["input", "layer.decay"]  # feedback comes last
    assert sources["layer.level1"] == sources["layer.level2"] == ["layer.u"]
    assert sources["layer.reset2"] == ["layer.level2"]
    assert sources["layer.delay"] == ["layer.u", "layer.reset1", "layer.reset2"]
    assert sources["layer.decay"] == ["layer.delay"]
    values = {name: float(getattr(graph.nodes[name], field).flat[0]) for name, field in (
        ("layer.u", "scale"), ("layer.reset1", "scale"), ("layer.delay", "delay"), ("layer.decay", "scale")
    )}  # fmt: skip
    assert values == {"layer.u": 1.0, "layer.reset1": -1.0, "layer.delay": 1.0, "layer.decay": 0.9}
    assert metadata.get(graph).time_steps == 4


class Concatenated(nn.Module):
    """Neuron behind a concatenation and a sum, then a convolution."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 4, 1)
        self.neuron = ILIF(time_steps=steps)
        self.conv = nn.Conv2d(6, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return self.conv(self.neuron(torch.cat([a + a, b], dim=1)))


@pytest.mark.parametrize("steps", [1, 3])
def test_neuron_behind_a_concatenation(compare: Any, steps: int) -> None:
    graph = compare(Concatenated(steps), SHAPE, steps=steps, batch=4)
    assert metadata.get(graph).neurons["neuron"] == [
        [f"neuron.seg{segment}.level{k}" for k in (1, 2, 3, 4)] for segment in (0, 1)
    ]


def test_a_memoryless_neuron_would_be_wrong_over_several_steps() -> None:
    module = ILIF(time_steps=4).double()
    x = current(module, 0.5, ties=False)
    right = module(x).numpy()
    trace = reference.run(export_module(ILIF(), SHAPE), x.unflatten(0, (4, -1)).numpy())
    assert (trace.outputs["output_0"].reshape(right.shape) != right).mean() > 0.02


def test_the_loop_without_its_delay_is_refused() -> None:
    graph = export_module(ILIF(time_steps=2), SHAPE)
    nodes = {name: node for name, node in graph.nodes.items() if name != "layer.delay"}
    edges = [
        (a if a != "layer.delay" else "layer.u", b) for a, b in graph.edges if b != "layer.delay"
    ]  # fmt: skip
    with pytest.raises(InvalidGraphError, match=r"layer\.decay.*cycle without a Delay"):
        reference.run(nir.NIRGraph(nodes, edges, metadata={}, type_check=False), np.zeros((2, 1, *SHAPE)))


def _descending() -> ILIF:
    module = ILIF(2)
    module.thresholds = torch.tensor([1.5, 0.5])
    return module


def _other_reset() -> ILIF:
    module = ILIF(2, time_steps=2)
    module.reset_amount = 0.3
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (ILIF(rounding="half_even"), r"half to even.*fuse\(\)"),
        (_descending(), "do not ascend"),
        (_other_reset(), "reset by 1"),
        (nn.Sequential(ILIF(time_steps=2), ILIF(time_steps=4)), "'1'.*4 time steps in a network of 2"),
    ],
)
def test_refusals(module: nn.Module, reason: str) -> None:
    with pytest.raises(ExportError, match=rf"\(ILIF\) cannot be exported.*{reason}|{reason}"):
        export_module(module, SHAPE)


def test_time_steps_must_be_the_neurons() -> None:
    with pytest.raises(ExportError, match="2 time steps in a network of 3"):
        export_module(ILIF(time_steps=2), SHAPE, time_steps=3)
