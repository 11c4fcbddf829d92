"""Nearest upsampling and general linear maps along an axis, as chains of convolutions."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ExportError
from zoo.layers.neurons import ILIF
from zoo.nir_graphs import reference
from zoo.nir_graphs.axis_maps import AxisConv, apply_along, linear_axis_map, prime_factors, repeat_rows
from zoo.nir_graphs.export import export_module
from zoo.nir_graphs.values import Builder, Segment


def run_along(convs: list[AxisConv], axis: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The chain on ``x`` (B, C, H, W), in the reference interpreter."""
    builder = Builder()
    builder.add("input", nir.Input(np.array(x.shape[1:])), [])
    last = apply_along(builder, "map", convs, axis, Segment(("input",), x.shape[1:]))
    builder.add("output", nir.Output(np.array(last.shape)), last.nodes)
    graph = nir.NIRGraph(builder.nodes, builder.edges, metadata={}, type_check=False)
    result = reference.run(graph, x[None]).outputs["output"][0]
    assert result.shape[1:] == last.shape
    return result


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 8), (13, 12), (9, 30), (37, 2), (20, 3)])
@pytest.mark.parametrize("factor", [2, 3, (2, 1), (1, 4)])
def test_equals_pytorch_bit_for_bit(compare: Any, factor: Any, size: tuple[int, int]) -> None:
    graph = compare(nn.Upsample(scale_factor=factor, mode="nearest"), (3, *size), rtol=0)
    assert all(isinstance(node, nir.Conv2d | nir.Input | nir.Output) for node in graph.nodes.values())


@pytest.mark.parametrize("module", [nn.Upsample(size=(10, 21)), nn.Upsample(scale_factor=2, mode="nearest-exact")])
def test_other_ways_to_say_it(compare: Any, module: nn.Upsample) -> None:
    compare(module, (2, 5, 7), rtol=0)


class Net(nn.Module):
    """Upsamples a concatenation of a sum and of spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.neuron, self.last = nn.Conv2d(2, 2, 1), ILIF(), nn.Conv2d(4, 3, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.up(torch.cat([x + self.conv(x), self.neuron(x)], dim=1)))


def test_upsampled_concatenation(compare: Any) -> None:
    assert "up.seg1.columns0" in compare(Net(), (2, 6, 5)).nodes


@pytest.mark.parametrize(("size", "channels", "nodes"), [(40, 96, 16), (20, 192, 12)])
def test_cost(size: int, channels: int, nodes: int) -> None:
    graph = export_module(nn.Upsample(scale_factor=2), (channels, size, size))
    convs = [node for node in graph.nodes.values() if isinstance(node, nir.Conv2d)]
    assert len(convs) == nodes
    assert sum(node.weight.nbytes for node in convs) <= 0.5e6
    plain = sum(conv.weight(0).size for conv in linear_axis_map(np.repeat(np.eye(size), 2, axis=0), channels))
    assert sum(node.weight.size for node in convs) < plain / 2


def test_repeating_undivided_blocks_would_be_wrong() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 12, 3))
    right = run_along(repeat_rows(12, 2, 2), 0, x)
    np.testing.assert_array_equal(right, x.repeat(2, axis=2))
    convs = repeat_rows(12, 2, 2)
    undilated = [AxisConv(conv.kernel, conv.groups, 1, conv.padding) for conv in convs[:1]] + convs[1:]
    wrong = run_along(undilated, 0, x)[:, :, : right.shape[2]]
    assert wrong.shape != right.shape or (wrong != right).any()
    tiled = run_along(linear_axis_map(np.tile(np.eye(12), (2, 1)), 2), 0, x)
    assert (tiled != right).any()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("rows", "columns"), [(7, 5), (1, 4), (6, 6), (3, 8)])
def test_any_matrix_along_an_axis(axis: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    matrix = rng.normal(size=(rows, columns))
    x = rng.normal(size=(2, 3, columns, 4) if axis == 0 else (2, 3, 4, columns))
    expected = np.einsum("qh,bchw->bcqw" if axis == 0 else "qw,bchw->bchq", matrix, x)
    np.testing.assert_allclose(run_along(linear_axis_map(matrix, 3), axis, x), expected, rtol=1e-12, atol=1e-14)


def test_fourier_transform_along_an_axis() -> None:
    size = 9
    spectrum = np.fft.rfft(np.eye(size), axis=0)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, size))
    actual = run_along(linear_axis_map(np.stack([spectrum.real, spectrum.imag]), 3), 1, x)
    expected = np.fft.rfft(x, axis=3)
    np.testing.assert_allclose(actual[:, 0::2] + 1j * actual[:, 1::2], expected, rtol=1e-12, atol=1e-13)


def test_the_flip_matters() -> None:
    matrix = np.triu(np.ones((4, 4)))
    convs = linear_axis_map(matrix, 1)
    unflipped = [convs[0], AxisConv(convs[1].kernel[:, :, ::-1], 1, padding=3)]
    x = np.arange(1.0, 5).reshape(1, 1, 4, 1)
    np.testing.assert_array_equal(run_along(convs, 0, x)[0, 0, :, 0], matrix @ x[0, 0, :, 0])
    assert (run_along(unflipped, 0, x)[0, 0, :, 0] != matrix @ x[0, 0, :, 0]).any()


@pytest.mark.parametrize("number", [1, 2, 30, 37, 49, 640, 8191])
def test_prime_factors(number: int) -> None:
    factors = prime_factors(number)
    assert np.prod(factors, initial=1) == number
    assert factors == sorted(factors, reverse=True)
    assert all(factor % d for factor in factors for d in range(2, int(factor**0.5) + 1))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Upsample(scale_factor=2, mode="bilinear"), "bilinear"),
        (nn.Upsample(scale_factor=1.5), "equally often"),
        (nn.Upsample(scale_factor=0.5), "equally often"),
        (nn.Upsample(size=(7, 7)), "equally often"),
    ],
)
def test_refusals(module: nn.Upsample, reason: str) -> None:
    with pytest.raises(ExportError, match=rf"the module 'layer' \(Upsample\).*{reason}"):
        export_module(module, (1, 6, 6))
