"""Edges that occur twice: led through a node of their own, in the same order of the sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest

from zoo.nir_graphs import reference
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.passes.single_edges import single_edges

Make = Callable[..., FlatGraph]
NODES = {
    "input": nir.Input(np.array([1])),
    "a": nir.Scale(np.array([1.0])),
    "b": nir.Scale(np.array([1e16])),
    "c": nir.Scale(np.array([-1e16])),
    "sum": nir.Scale(np.array([1.0])),
    "fire": nir.Threshold(np.array([0.5])),
    "output": nir.Output(np.array([1])),
}
INTO = [("input", "a"), ("input", "b"), ("input", "c")]
OUT = [("sum", "fire"), ("fire", "output")]


@pytest.mark.parametrize("order", ["abac", "baca", "aabc", "bcaa", "abcabc", "aaaa"])
@pytest.mark.filterwarnings("ignore::zoo.errors.GraphWarning")
def test_sums_keep_their_order_to_the_bit(order: str, make: Make, equal: Any, stock_read: Any) -> None:
    """1 + 1e16 + 1 - 1e16 depends on the order: 0 or 2."""
    nodes = {name: node for name, node in NODES.items() if name not in "abc" or name in order}
    graph = make(nodes, [*(edge for edge in INTO if edge[1] in order), *((name, "sum") for name in order), *OUT])
    after, notes = single_edges(graph)
    assert len(set(after.edges)) == len(after.edges)
    assert len(notes) == len(order) - len(set(order))
    x = {"input": np.arange(1, 17.0).reshape(16, 1, 1).repeat(16, 1)}
    equal(graph, after, x)
    equal(graph, stock_read(after), x)


def test_a_factor_of_two_would_be_wrong(make: Make) -> None:
    x = np.ones((1, 1, 1))
    twice = reference.run(make(NODES, [*INTO, *((n, "sum") for n in "abac"), *OUT]), x, record=["sum"])
    double = make({**NODES, "a": nir.Scale(np.array([2.0]))}, [*INTO, *((n, "sum") for n in "abc"), *OUT])
    assert twice.potentials["sum"] != reference.run(double, x, record=["sum"]).potentials["sum"]


def test_names_do_not_collide(make: Make, equal: Any) -> None:
    nodes = {**NODES, "a.again": nir.Scale(np.array([5.0]))}
    graph = make(nodes, [*INTO, ("input", "a.again"), ("a.again", "sum"), ("a", "sum"), ("a", "sum"), *OUT])
    after, _ = single_edges(graph)
    assert "a.again_" in after.nodes
    equal(graph, after)


def test_a_graph_without_double_edges_is_returned_as_it_is(make: Make) -> None:
    graph = make(NODES, [*INTO, ("a", "sum"), *OUT])
    assert single_edges(graph)[1] == ()
