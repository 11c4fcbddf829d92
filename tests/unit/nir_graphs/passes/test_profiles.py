"""Profiles: ``stock`` is what plain ``nir.read`` loads, for every kind of node; ``full`` changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest

from zoo.errors import ExportError, InvalidGraphError, InvalidInputError
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.nodes import FACTS
from zoo.nir_graphs.passes.base import Notes
from zoo.nir_graphs.passes.profiles import PROFILES, Full, get_profile
from zoo.nir_graphs.passes.stock import Stock, stock

Make = Callable[..., FlatGraph]


def everything() -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """Every node type, scalar and per-channel parameters, a subgraph, feedback, a double edge, a dead node."""
    random = np.random.default_rng(5)
    image, line = np.array([2, 6, 5]), np.array([4, 9])
    half = np.array(0.5)
    inner = nir.NIRGraph(
        {"input": nir.Input(image), "lif": nir.LIF(np.array(2.0), np.array(1.0), np.array(0.0), half, np.array(0.0)),
         "output": nir.Output(image)},
        [("input", "lif"), ("lif", "output")], type_check=False,
    )  # fmt: skip
    weight = random.integers(-2, 3, (2, 1, 3, 1)).astype(np.float32)
    wide = random.integers(-1, 2, (9, 4, 3)).astype(np.float32)
    nodes: dict[str, nir.NIRNode] = {
        "image": nir.Input(image),
        "line": nir.Input(line),
        "conv2d": nir.Conv2d((6, 5), weight, (1, 1), (1, 0), (1, 1), 2, np.zeros(2, np.float32)),
        "block": inner,
        "late": nir.Delay(np.array(1.0)),
        "back": nir.Scale(np.full((2, 1, 1), -0.5)),
        "pool": nir.SumPool2d(np.array([2, 3]), np.array([2, 1]), np.array([0, 1])),
        "average": nir.AvgPool2d(np.array([3, 1]), np.array([1, 2]), np.array([1, 0])),
        "flat": nir.Flatten({"input": np.array([2, 3, 3])}, -3, -1),
        "dense": nir.Affine(random.integers(-2, 3, (9, 18)).astype(np.float32), np.ones(9, np.float32)),
        "conv1d": nir.Conv1d(9, wide, 1, "same", 1, 1, np.zeros(9, np.float32)),
        "total": nir.Flatten({"input": np.array([9, 9])}, 0, 1),
        "matrix": nir.Linear(random.integers(-2, 3, (9, 81)).astype(np.float32)),
        "if": nir.IF(np.ones(9), np.full(9, 2.5)),
        "cubalif": nir.CubaLIF(*(np.full(9, n) for n in (2.0, 4.0, 1.0, 0.0, 0.25, 0.0, 1.0))),
        "cubali": nir.CubaLI(*(np.full(9, n) for n in (2.0, 4.0, 1.0, 0.0, 1.0))),
        "li": nir.LI(np.full(9, 2.0), np.ones(9), np.zeros(9)),
        "i": nir.I(np.array(1.0)),
        "fire": nir.Threshold(np.array(1.0)),
        "dead": nir.Scale(np.array(3.0)),
        "output": nir.Output(np.array([9])),
        "potential": nir.Output(np.array([9])),
    }
    edges = [
        ("image", "conv2d"), ("conv2d", "block"), ("back", "block"), ("block", "late"), ("late", "back"),
        ("block", "pool"), ("block", "pool"), ("pool", "average"), ("average", "flat"), ("flat", "dense"),
        ("line", "conv1d"), ("conv1d", "total"), ("total", "matrix"), ("matrix", "if"), ("dense", "if"), ("if", "cubalif"),
        ("cubalif", "cubali"), ("cubali", "li"), ("if", "li"), ("li", "i"), ("i", "fire"), ("fire", "output"),
        ("li", "potential"), ("dense", "dead"),
    ]  # fmt: skip
    return nodes, edges


def test_every_node_type_is_read_by_plain_nir_and_equal(make: Make, equal: Any, stock_read: Any) -> None:
    nodes, edges = everything()
    graph = make(nodes, edges, dt=1)
    assert {node.type for node in graph.nodes.values()} == set(FACTS)
    after, notes = stock(graph)
    assert {note.kind for note in notes} == {"convolution", "duplicate edge", "dead nodes"}
    assert after.notes == (*graph.notes, *notes)
    trace = equal(graph, after)
    rates = [values.mean() for values in trace.spikes.values()]
    assert min(rates) > 0.02
    assert max(rates) < 0.7
    equal(graph, stock_read(after))


def test_plain_nir_does_not_read_it_before(make: Make, stock_read: Any) -> None:
    nodes, edges = everything()
    with pytest.raises(ValueError, match=r"mismatch|Duplicate"):
        stock_read(make(nodes, edges, dt=1))


def test_what_nir_takes_for_another_shape_is_refused_by_name(make: Make) -> None:
    """A matrix over the last of several axes: NIR says only (inputs,) for it."""
    nodes = {
        "input": nir.Input(np.array([4, 3])),
        "rows": nir.Linear(np.ones((2, 3), np.float32)),
        "output": nir.Output(np.array([4, 2])),
    }
    with pytest.raises(ExportError, match=r"nir .* would not read .*rows"):
        stock(make(nodes, [("input", "rows"), ("rows", "output")]))


def test_an_input_that_nobody_reads_is_refused_by_name(make: Make) -> None:
    """nir.read would give it an Output of its own."""
    nodes = {
        "input": nir.Input(np.array([2])), "idle": nir.Input(np.array([2])), "output": nir.Output(np.array([2])),
    }  # fmt: skip
    with pytest.raises(ExportError, match="it would add the nodes 'output_idle'"):
        stock(make(nodes, [("input", "output")]))


class Broken(Stock):
    """Promises what it does not do."""

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        return graph, ()


def test_the_promise_is_checked(make: Make) -> None:
    nodes, edges = everything()
    with pytest.raises(ExportError, match="would not read this graph with its defaults"):
        Broken()(make(nodes, edges, dt=1))


class Changing(Full):
    """Not what its name says."""

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        return graph.with_notes([]), ()


def test_full_changes_nothing(make: Make) -> None:
    nodes, edges = everything()
    graph = make(nodes, edges, dt=1)
    assert get_profile("full")(graph)[0].nodes == graph.nodes
    with pytest.raises(InvalidGraphError, match="the profile 'full' changed a graph"):
        Changing()(graph)


def test_profiles_by_name() -> None:
    assert list(PROFILES) == ["full", "stock"]
    with pytest.raises(InvalidInputError, match="no profile 'stok'; did you mean 'stock'"):
        get_profile("stok")
    with pytest.raises(InvalidInputError, match="no profile 3; there are full, stock"):
        get_profile(3)  # type: ignore[arg-type]
