"""Removal of what no Output depends on: named, and without effect on anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest

from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.passes.dead_nodes import dead_nodes

Make = Callable[..., FlatGraph]


@pytest.fixture
def nodes() -> dict[str, nir.NIRNode]:
    return {
        "input": nir.Input(np.array([2])),
        "unused": nir.Input(np.array([2])),
        "linear": nir.Linear(np.array([[1.0, -0.5], [0.5, 1.0]])),
        "fire": nir.Threshold(np.full(2, 1.5)),
        "probe": nir.LIF(np.full(2, 2.0), np.ones(2), np.zeros(2), np.ones(2), np.zeros(2)),
        "probe of probe": nir.Scale(np.ones(2)),
        "output": nir.Output(np.array([2])),
    }


def test_dead_nodes_go_and_are_named(nodes: dict[str, nir.NIRNode], make: Make, equal: Any) -> None:
    edges = [
        ("input", "linear"),
        ("linear", "fire"),
        ("linear", "probe"),
        ("probe", "probe of probe"),
        ("fire", "output"),
    ]
    graph = make(nodes, edges, dt=1)
    after, notes = dead_nodes(graph)
    assert list(after.nodes) == ["input", "unused", "linear", "fire", "output"]  # Inputs belong to the interface
    assert notes == ("removed 'probe', 'probe of probe': no Output depends on them",)
    assert notes[0].kind == "dead nodes"
    x = {name: np.random.default_rng(0).integers(-2, 4, (16, 16, 2)).astype(float) for name in graph.inputs}
    del graph, edges
    kept = make({k: v for k, v in nodes.items() if not k.startswith("probe")},
                [("input", "linear"), ("linear", "fire"), ("fire", "output")], dt=1)  # fmt: skip
    trace = equal(kept, after, x)
    assert 0.05 < trace.spikes["fire"].mean() < 0.5


def test_nodes_in_a_cycle_that_reaches_an_output_stay(nodes: dict[str, nir.NIRNode], make: Make) -> None:
    """Also those that only the next step reads."""
    nodes["late"] = nir.Delay(np.ones(2))
    edges = [("input", "linear"), ("late", "linear"), ("linear", "fire"), ("fire", "probe"), ("probe", "late"),
             ("probe", "probe of probe"), ("fire", "output")]  # fmt: skip
    graph = make(nodes, edges, dt=1)
    after, _ = dead_nodes(graph)
    assert set(graph.nodes) - set(after.nodes) == {"probe of probe"}


def test_a_graph_without_dead_nodes_is_returned_as_it_is(make: Make) -> None:
    nodes = {"input": nir.Input(np.array([2])), "output": nir.Output(np.array([2]))}
    graph = make(nodes, [("input", "output")])
    assert dead_nodes(graph)[1] == ()
    assert dead_nodes(graph)[0].nodes == graph.nodes
