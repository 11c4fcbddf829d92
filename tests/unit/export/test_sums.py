"""Fan-in algebra: residual sums, concatenations, and every mixture of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zoo.errors import ExportError
from zoo.layers.neurons import ILIF
from zoo.nir_graphs import reference
from zoo.nir_graphs.export import export_module
from zoo.nir_graphs.normalise import normalise


class Net(nn.Module):
    """Six depthwise 1x1 convolutions without bias (one product each, so without rounding of sums) and a function of them."""

    def __init__(self, function: Callable[..., Any], count: int = 6, channels: int = 4) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(channels, channels, 1, groups=channels, bias=False) for _ in range(count))
        self.conv = nn.Conv2d(2 * channels, 3, 3, padding=1)
        self.wide = nn.Conv2d(channels, 2 * channels, 1)
        self.neuron = ILIF()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, *(part(x) for part in self.parts))


def _doubled(y: Tensor) -> Tensor:
    return y + y


def _used_again(net: Any, y: Tensor) -> list[Tensor]:
    return [net.conv(y), y + y, net.neuron(y), y]


SUMS: dict[str, Callable[..., Any]] = {
    "chain": lambda _n, a, b, c, *_: (a + b) + c,
    "chain from the right": lambda _n, a, b, c, *_: a + (b + c),
    "both sums": lambda _n, a, b, c, d, *_: (a + b) + (c + d),
    "longer right": lambda _n, a, b, c, d, e, *_: (a + b) + (c + d + e),
    "tree": lambda _n, a, b, c, d, e, f: ((a + b) + (c + d)) + (e + f),
    "doubled": lambda _n, a, *_: a + a,
    "doubled sum": lambda _n, a, b, c, *_: (a + b + c) + (a + b + c),
    "same sum twice": lambda _n, a, b, *_: _doubled(a + b),
    "occurs twice": lambda _n, a, b, *_: (a + b) + a,
    "occurs three times": lambda _n, a, b, *_: a + ((a + b) + a),
    "torch.add": lambda _n, a, b, *_: torch.add(a, b),
    "identity": lambda _n, a, *_: a,
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_bit_equal(name: str) -> None:
    module = Net(SUMS[name]).double()
    graph = export_module(module, (4, 3, 5))
    assert len(set(graph.edges)) == len(graph.edges)
    x = torch.randn(4, 4, 3, 5, dtype=torch.float64)
    actual = reference.run(graph, x[None].numpy()).outputs["output_0"][0]
    np.testing.assert_array_equal(actual, module(x).detach().numpy())


def test_the_other_order_would_not_be_bit_equal() -> None:
    module = Net(SUMS["both sums"]).double()
    graph = export_module(module, (4, 3, 5))
    first = [edge for edge in graph.edges if edge[1] == "output_0.sum"]
    assert [source for source, _ in first] == ["parts.0", "parts.1", "add_3"]
    others = [edge for edge in graph.edges if edge not in first]
    naive = nir.NIRGraph(graph.nodes, [*others, *first[::-1]], metadata={}, type_check=False)
    x = torch.randn(4, 4, 3, 5, dtype=torch.float64)
    wrong = reference.run(naive, x[None].numpy()).outputs["output_0"][0]
    assert (wrong != module(x).detach().numpy()).any()


def test_a_residual_stream_needs_no_nodes(compare: Any) -> None:
    graph = compare(Net(lambda n, a, b, c, *_: n.conv(torch.cat([a + b + c, a], dim=1))), (4, 6, 5))
    assert normalise(graph).sources["conv.seg0"] == ("parts.0", "parts.1", "parts.2")
    assert [name for name, node in graph.nodes.items() if isinstance(node, nir.Scale)] == ["output_0.sum"]


CONCATENATIONS: dict[str, Callable[..., Any]] = {
    "same segments": lambda n, a, b, c, d, *_: n.conv(torch.cat([a, b], 1) + torch.cat([c, d], dim=1)),
    "other segments": lambda n, a, b, c, *_: (
        torch.cat([n.conv(n.wide(a)), a, b], 1) + torch.cat([c, b, n.conv(n.wide(b))], 1)
    ),
    "plus one segment": lambda n, a, b, *_: n.conv(torch.cat([a, b], dim=-3) + n.wide(a)),
    "one segment plus": lambda n, a, b, *_: n.conv(n.wide(a) + torch.cat([a, b], dim=1)),
    "nested": lambda _n, a, b, c, d, *_: torch.cat([torch.cat([a, b + c], dim=1), torch.cat([d, a], dim=1)], dim=1),
    "used again": lambda n, a, b, *_: _used_again(n, torch.cat([a, a + b], dim=1)),
    "of spikes": lambda n, a, b, *_: n.conv(n.neuron(torch.cat([a, b], dim=1))),
    "spikes in a sum": lambda n, a, b, *_: n.conv(torch.cat([n.neuron(a) + b, n.neuron(a) + a], dim=1)),
}


@pytest.mark.parametrize("name", CONCATENATIONS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3)])
def test_concatenations(compare: Any, name: str, size: tuple[int, int]) -> None:
    if name == "spikes in a sum":  # one neuron called twice; its calls cannot be told apart by a hook
        module = Net(CONCATENATIONS[name]).double()
        x = torch.randn(3, 4, *size, dtype=torch.float64)
        actual = reference.run(export_module(module, (4, *size)), x[None].numpy()).outputs["output_0"][0]
        np.testing.assert_allclose(actual, module(x).detach().numpy(), rtol=1e-12, atol=1e-12)
    else:
        compare(Net(CONCATENATIONS[name]), (4, *size))


def test_a_concatenation_is_joined_once() -> None:
    graph = export_module(Net(lambda _n, a, b, *_: [y := torch.cat([a, b], dim=1), y]), (4, 3, 3))
    placements = [name for name in graph.nodes if ".join" in name]
    assert placements == ["output_0.join.seg0", "output_0.join.seg1"]


@st.composite
def _programs(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    step = st.tuples(st.sampled_from(["add", "cat", "conv", "neuron"]), st.integers(0, 99), st.integers(0, 99))
    return draw(st.lists(step, min_size=1, max_size=12))


class Program(nn.Module):
    """Runs random steps on a growing list of tensors and returns the last one and the widest one."""

    def __init__(self, steps: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.steps: list[tuple[str, int, int]] = []
        self.layers = nn.ModuleList()
        widths = [3]
        for kind, first, second in steps:
            i, j = first % len(widths), second % len(widths)
            if kind == "add":
                j = [k for k, width in enumerate(widths) if width == widths[i]][-1 - second % widths.count(widths[i])]
            elif kind == "cat" and widths[i] + widths[j] > 24:
                continue
            layer: nn.Module = nn.Identity()
            if kind == "conv":
                layer = nn.Conv2d(widths[i], 1 + second % 4, 3, padding=1)
            elif kind == "neuron":
                layer = ILIF()
            self.steps.append((kind, i, j))
            self.layers.append(layer)
            widths.append(
                {"add": widths[i], "cat": widths[i] + widths[j], "neuron": widths[i], "conv": 1 + second % 4}[kind]
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        values = [x]
        for (kind, i, j), layer in zip(self.steps, self.layers, strict=True):
            if kind == "add":
                values.append(values[i] + values[j])
            elif kind == "cat":
                values.append(torch.cat([values[i], values[j]], dim=1))
            else:
                values.append(layer(values[i]))
        return values[-2:]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(_programs())
def test_random_networks(compare: Any, steps: list[tuple[str, int, int]]) -> None:
    torch.manual_seed(len(steps))
    compare(Program(steps), (3, 4, 3))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda _n, a, *_: a + 1.0, "'add'.*only two traced tensors"),
        (lambda _n, a, *_: 2 + a, "'add'.*only two traced tensors"),
        (lambda _n, a, b, *_: torch.add(a, b, alpha=2), "'add'.*only two traced tensors"),
        (lambda n, a, *_: n.conv(torch.cat([a, a], 1)) + a, "'add'.*different shapes"),
        (lambda _n, a, b, *_: torch.cat([a, b], dim=2), "'cat'.*channels"),
        (lambda _n, a, b, *_: torch.cat([a, b]), "'cat'.*channels"),
        (lambda n, a, b, *_: torch.cat([a, n.pooled(b)], dim=1), "'cat'.*different sizes"),
        (lambda _n, a, b, *_: a * b, "'mul'.*no exact form"),
        (lambda _n, a, *_: a[:, :1], "'getitem'.*only the parts of a split"),
    ],
)
def test_refusals(function: Callable[..., Any], reason: str) -> None:
    module = Net(function)
    module.pooled = nn.Conv2d(4, 4, 2)
    with pytest.raises(ExportError, match=rf"{reason}"):
        export_module(module, (4, 6, 6))
