"""Convolutions: plain ones, over concatenations, grouped, and re-parameterised ones with their padding."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.detectors.spikeyolo.reparam import RepConv, SepRepConv
from zoo.errors import ExportError
from zoo.layers.conv import ConvBN
from zoo.nir_graphs import reference
from zoo.nir_graphs.export import export_module


class Branches(nn.Module):
    """concat(three convolutions of x) -> ``last``."""

    def __init__(self, widths: list[int], last: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(4, width, 3, padding=1) for width in widths)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([branch(x) for branch in self.branches], dim=1))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("size", [(7, 11), (12, 5), (8, 8)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 1, "bias": False},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 5), "padding": (0, 2)},
        {"kernel_size": (5, 2), "stride": (1, 2), "padding": (3, 0)},
        {"kernel_size": 3, "dilation": (2, 1), "padding": "same"},
        {"kernel_size": (4, 3), "padding": "same"},
        {"kernel_size": 2, "dilation": 3, "padding": "same"},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "groups": 2, "padding": 2},
        {"kernel_size": 5, "groups": 4, "padding": 2, "bias": False},
        {"kernel_size": 3, "groups": 4, "stride": 3, "dilation": (1, 2)},
    ],
    ids=str,
)
def test_equals_pytorch(compare: Any, options: dict[str, Any], size: tuple[int, int]) -> None:
    compare(nn.Conv2d(4, 8, **options), (4, *size))


def test_a_missing_bias_is_stored_as_zeros() -> None:
    node = export_module(nn.Conv2d(4, 8, 3, bias=False), (4, 5, 5)).nodes["layer"]
    assert node.bias.shape == (8,)
    assert not node.bias.any()


def test_convolution_of_a_concatenation_slices_the_weight_and_adds_the_bias_once(compare: Any) -> None:
    graph = compare(Branches([3, 1, 4], nn.Conv2d(8, 5, 3, padding=1)), (4, 7, 6))
    parts = [graph.nodes[f"last.seg{index}"] for index in range(3)]
    assert [part.weight.shape[1] for part in parts] == [3, 1, 4]
    assert [bool(part.bias.any()) for part in parts] == [True, False, False]


def test_a_bias_on_every_branch_would_be_wrong() -> None:
    module = Branches([3, 1, 4], nn.Conv2d(8, 5, 3, padding=1)).double()
    graph = export_module(module, (4, 7, 6))
    x = torch.randn(1, 4, 7, 6, dtype=torch.float64)
    for index in (1, 2):
        graph.nodes[f"last.seg{index}"].bias = graph.nodes["last.seg0"].bias
    wrong = reference.run(graph, x[None].numpy()).outputs["output_0"][0]
    assert np.abs(wrong - module(x).detach().numpy()).max() > 0.01


@pytest.mark.parametrize(("widths", "groups"), [([2, 4, 2], 4), ([2, 4, 2], 8), ([4, 4], 2)])
def test_grouped_convolution_keeps_segments_that_end_between_groups(
    compare: Any, widths: list[int], groups: int
) -> None:
    last = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, groups=groups), nn.Conv2d(16, 3, 1))
    graph = compare(Branches(widths, last), (4, 5, 9))
    assert graph.nodes["last.0.seg1"].groups == widths[1] * groups // 8
    assert "last.1.seg1" in graph.nodes


def test_grouped_convolution_joins_segments_that_end_inside_a_group(compare: Any) -> None:
    graph = compare(Branches([3, 3, 2], nn.Conv2d(8, 4, 3, groups=2)), (4, 5, 9))
    assert "last" in graph.nodes
    assert graph.nodes["last.input.seg0"].weight.shape == (8, 3, 1, 1)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 6)])
@pytest.mark.parametrize("kind", [RepConv, SepRepConv, ConvBN])
def test_folded_batch_norms_equal_the_trainable_form(kind: type[nn.Module], size: tuple[int, int], merge: bool) -> None:
    module = kind(4, 6, *([3] if kind is ConvBN else [])).double().eval()
    _randomise_norms(module)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    graph = export_module(module.fuse(merge=merge), (4, *size))  # type: ignore[operator]
    actual = reference.run(graph, x[None].numpy()).outputs["output_0"][0]
    expected = module(x).detach().numpy()
    assert np.abs(actual - expected).max() <= 1e-12 * np.abs(expected).max()


def test_zero_padding_behind_the_batch_norm_would_be_wrong_at_the_border() -> None:
    module = RepConv(4, 6).double().eval()
    _randomise_norms(module)
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64)
    naive = copy.deepcopy(module.fuse())
    assert isinstance(naive, nn.Sequential)
    first, second = naive[0], naive[1]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    first.padding, second.padding = (0, 0), (1, 1)
    wrong = reference.run(export_module(naive, (4, 9, 6)), x[None].numpy()).outputs["output_0"][0]
    error = np.abs(wrong - module(x).detach().numpy())
    assert error[:, :, 1:-1, 1:-1].max() < 1e-12
    assert error.max() > 0.1


def _randomise_norms(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)


def _nan(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.constant_(conv.weight, torch.nan)
    return conv


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.Conv2d(3, 4, 3), "takes 3 channels, but gets 4"),
        (nn.Conv2d(4, 4, 9), "smaller than its window"),
        (_nan(nn.Conv2d(4, 4, 3)), "NaN"),
        (nn.Conv1d(4, 4, 3), "no exact form"),
        (nn.ConvTranspose3d(4, 4, 3), "no exact form"),
        (nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1), r"its output padding must be \(1, 1\)"),
        (nn.ConvTranspose2d(4, 4, 3, groups=2), "only transposed convolutions without groups"),
        (nn.BatchNorm2d(4), r"fuse\(\)"),
    ],
)
def test_refusals_name_the_module_and_the_reason(module: nn.Module, reason: str) -> None:
    with pytest.raises(ExportError, match=rf"the module 'inner\.0' \({type(module).__name__}\).*{reason}"):
        export_module(nn.Sequential(OrderedDict(inner=nn.Sequential(module))), (4, 7, 7))


def test_the_graph_holds_copies_in_the_smallest_exact_type() -> None:
    module = nn.Conv2d(2, 2, 1).double()
    nn.init.constant_(module.weight, 0.5)
    nn.init.constant_(module.bias, 0.1)  # type: ignore[arg-type]
    graph = export_module(module, (2, 3, 3))
    nn.init.zeros_(module.weight)
    node = graph.nodes["layer"]
    assert isinstance(node, nir.Conv2d)
    assert (node.weight.dtype, node.bias.dtype) == (np.float32, np.float64)
    assert (node.weight == 0.5).all()
    assert (node.bias == 0.1).all()
