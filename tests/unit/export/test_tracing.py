"""Tracing: what is named how, what is refused, and that nothing depends on chance."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
import snntorch
import torch
from torch import Tensor, nn

from zoo.errors import ExportError, InvalidInputError
from zoo.layers.neurons import ILIF
from zoo.nir_graphs import metadata, reference
from zoo.nir_graphs.export import export_module


class Wrapped(nn.Module):
    """Calls a function of itself and x; ``outer.inner`` is a convolution."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.outer = nn.Sequential()
        self.outer.add_module("inner", nn.Conv2d(2, 2, 1))
        self.constant = nn.Parameter(torch.ones(1, 2, 1, 1))
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def test_nodes_have_the_paths_of_their_modules() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.conv = ILIF(2), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + (x + self.conv(self.neuron(x)))

    graph = export_module(nn.Sequential(nn.Sequential(Block()), Block()), (2, 4, 4))
    assert list(graph.nodes) == [
        "input", "0.0.neuron.level1", "0.0.neuron.level2", "0.0.conv", "0.0.add_2",
        "1.neuron.level1", "1.neuron.level2", "1.conv", "1.add_2", "output_0.sum", "output_0",
    ]  # fmt: skip


def test_a_module_called_again_gets_numbered_names(compare: Any) -> None:
    graph = compare(Wrapped(lambda n, x: n.outer(n.outer(x))), (2, 3, 4))
    assert list(graph.nodes) == ["input", "outer.inner", "outer.inner_2", "output_0"]


@pytest.mark.parametrize("name", ["input", "output_0", "a/b"])
def test_awkward_module_names(compare: Any, name: str) -> None:
    module = nn.Sequential()
    module.add_module(name, nn.Conv2d(2, 2, 1))
    module.add_module("last", nn.Conv2d(2, 2, 1))
    graph = compare(module, (2, 3, 4))
    assert isinstance(graph.nodes["input"], nir.Input)
    assert isinstance(graph.nodes["output_0"], nir.Output)


def test_equal_modules_give_equal_graphs() -> None:
    def make() -> nir.NIRGraph:
        torch.manual_seed(7)
        return export_module(nn.Sequential(ILIF(), nn.Conv2d(2, 3, 3), nn.Upsample(scale_factor=2)), (2, 5, 6))

    first, second = make(), make()
    assert list(first.nodes) == list(second.nodes)
    assert first.edges == second.edges
    assert first.metadata == second.metadata


def test_outputs_in_order_from_nested_lists(compare: Any) -> None:
    graph = compare(Wrapped(lambda n, x: [n.outer(x), (x, [n.outer(n.outer(x))])]), (2, 3, 4))
    assert [note["node"] for note in metadata.get(graph).outputs] == ["output_0", "output_1", "output_2"]


def test_unused_results_leave_no_trace(compare: Any) -> None:
    graph = compare(Wrapped(lambda n, x: (torch.sigmoid(n.unused(x)), n.outer(x))[1], unused=ILIF()), (2, 3, 4))
    assert list(graph.nodes) == ["input", "outer.inner", "output_0"]
    assert metadata.get(graph).neurons == {}


def test_fan_in_at_an_output_is_summed_before_it(compare: Any) -> None:
    graph = compare(Wrapped(lambda n, x: x + n.outer(x)), (2, 3, 4))
    assert [source for source, target in graph.edges if target == "output_0"] == ["output_0.sum"]


class Bent(nn.Conv2d):
    """Looks like a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


def _assign(_net: nn.Module, x: Tensor) -> Tensor:
    x += 1
    return x


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else x + x


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Wrapped(lambda n, x: n.act(x), act=nn.SiLU()), r"the module 'act' \(SiLU\).*no exact form"),
        (Wrapped(lambda n, x: n.act(x), act=nn.Linear(4, 4)), r"the module 'act' \(Linear\).*no exact form"),
        (Wrapped(lambda n, x: n.act(x), act=nn.AvgPool2d(3, ceil_mode=True)), r"the module 'act' \(AvgPool2d\)"),
        (Wrapped(lambda n, x: n.act(x), act=snntorch.Leaky(0.9)), r"the module 'act' \(Leaky\).*no exact form"),
        (Wrapped(lambda n, x: n.act(x), act=Bent(2, 2, 1)), r"the module 'act' \(Bent\).*no exact form"),
        (Wrapped(lambda n, x: n.act(x), act=nn.Sequential(nn.BatchNorm2d(2))), r"the module 'act.0' \(BatchNorm2d\)"),
        (Wrapped(lambda n, x: n.act(x), act=nn.Sequential(Branching())), "the module 'act.0'.*control flow"),
        (Wrapped(lambda n, _x: n.outer.inner(n.constant)), "the tensor 'constant'|'outer.inner'.*tensor"),
        (Wrapped(lambda n, x: x * n.constant), "the tensor 'constant'"),
        (Wrapped(lambda _n, x: torch.sigmoid(x)), "the operation 'sigmoid' in the outermost module"),
        (Wrapped(lambda _n, x: x.relu()), "the operation 'relu' in the outermost module"),
        (Wrapped(lambda _n, x: x.mean(1)), "the operation 'mean'"),
        (Wrapped(lambda _n, x: x.flatten(1)), "the operation 'flatten'"),
        (Wrapped(lambda n, x: n.act(x), act=Wrapped(_assign)), "the module 'act'.*in place"),
        (Wrapped(lambda _n, x: {"a": x}), "must return tensors"),
        (Wrapped(lambda _n, _x: 3), "must return tensors"),
        (Wrapped(lambda _n, _x: []), "must return tensors"),
        (nn.Bilinear(2, 2, 2), r"the module 'layer' \(Bilinear\)"),
    ],
)  # fmt: skip
def test_refusals_name_the_module_and_the_reason(module: nn.Module, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        export_module(module, (2, 4, 4))


def test_a_function_in_an_inner_module_is_named_with_it() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x)

    with pytest.raises(ExportError, match=r"the operation 'tanh' in the module 'outer\.1'"):
        export_module(nn.Sequential(OrderedDict(outer=nn.Sequential(nn.Identity(), Inner()))), (2, 4, 4))


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def test_several_inputs_are_refused() -> None:
    with pytest.raises(ExportError, match="must take one tensor, but also takes 'y'"):
        export_module(TwoInputs(), (2, 4, 4))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 0), (3, 4.0, 4), (1, 2, 3, 4)])
def test_input_shapes_are_checked(shape: Any) -> None:
    with pytest.raises(InvalidInputError, match="input_shape"):
        export_module(nn.Identity(), shape)


def test_a_layer_alone_and_the_identity() -> None:
    graph = export_module(nn.Identity(), (2, 3, 4))
    assert graph.edges == [("input", "output_0")]
    x = np.random.default_rng(0).normal(size=(1, 1, 2, 3, 4))
    np.testing.assert_array_equal(reference.run(graph, x).outputs["output_0"], x)


def test_a_module_may_return_any_number_of_outputs() -> None:
    """Row B5: 70 of 70; the names of Outputs stay theirs, whatever modules are called."""
    many = Wrapped(lambda n, x: [n.output_3(x), *([x] * 69)], output_3=nn.Identity())
    graph = export_module(many, (2, 3, 4))
    assert [name for name in graph.nodes if name.startswith("output_")] == [f"output_{i}" for i in range(70)]
    assert [output["node"] for output in metadata.get(graph).outputs] == [f"output_{i}" for i in range(70)]
