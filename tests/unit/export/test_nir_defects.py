"""Defects of nir that export lives with. When one of these tests fails, a newer nir has mended it: simplify export."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from torch import nn

from zoo.nir_graphs.export import export_module


def _inferred(conv: nn.Conv2d) -> tuple[int, ...]:
    node = export_module(conv, (4, 8, 8)).nodes["layer"]
    assert isinstance(node, nir.Conv2d)
    again = nir.Conv2d(
        (8, 8), node.weight, node.stride, node.padding, node.dilation, node.groups, np.asarray(node.bias)
    )
    return (*again.input_type["input"].tolist(), *again.output_type["output"].tolist())


def test_types_of_grouped_convolutions_are_inferred_wrongly() -> None:
    assert _inferred(nn.Conv2d(4, 4, 3, groups=4))[:3] == (1, 8, 8)


def test_types_of_non_square_convolutions_are_inferred_wrongly() -> None:
    assert _inferred(nn.Conv2d(4, 4, (3, 5)))[3:] == (4, 6, 6)


def test_a_convolution_without_input_shape_cannot_be_read() -> None:
    with pytest.raises(TypeError, match="input_shape"):
        nir.dict2NIRNode(
            {"type": "Conv2d", "weight": np.zeros((1, 1, 1, 1)), "stride": 1, "padding": 0, "dilation": 1, "groups": 1,
             "bias": np.zeros(1)}
        )  # fmt: skip


def test_duplicate_edges_are_rejected_or_lost() -> None:
    nodes = {"input": nir.Input(np.array([1])), "output": nir.Output(np.array([1]))}
    with pytest.raises(ValueError, match="Duplicate edge"):
        nir.NIRGraph(nodes, [("input", "output"), ("input", "output")])
