"""What every pass promises is checked on every application, and its input stays as it was."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.passes.base import Notes, Pass, rebuilt, unique

Make = Callable[..., FlatGraph]


@pytest.fixture
def graph(make: Make) -> FlatGraph:
    nodes = {"input": nir.Input(np.array([2])), "s": nir.Scale(np.array(3.0)), "output": nir.Output(np.array([2]))}
    return make(nodes, [("input", "s"), ("s", "output")], dt=0.5)


class Rescaled(Pass):
    """Puts another Scale in place of ``s``; ``broken`` breaks its promise."""

    def __init__(self, factor: float = 2.0, *, broken: bool = False) -> None:
        self.factor, self.broken = factor, broken

    def requires(self, graph: FlatGraph) -> None:
        if "s" not in graph.nodes:
            raise InvalidGraphError("there is no node 's'")

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        nodes: dict[str, Any] = {**graph.nodes, "s": nir.Scale(np.full(2, self.factor))}
        return rebuilt(graph, nodes, graph.edges), (Note("scale", "another factor"),)

    def ensures(self, before: FlatGraph, after: FlatGraph) -> None:
        if self.broken or after.names() != before.names():
            raise InvalidGraphError("the promise is broken")


def test_it_returns_a_new_graph_and_its_notes(graph: FlatGraph) -> None:
    content = pickle.dumps(graph)
    result, notes = Rescaled()(graph)
    assert (result.nodes["s"].number("scale"), graph.nodes["s"].number("scale")) == (2.0, 3.0)
    assert notes == ("another factor",)
    assert result.notes == (*graph.notes, *notes)
    assert result.dt == graph.dt == 0.5
    assert pickle.dumps(graph) == content


def test_conditions_before_and_after_are_checked_on_every_application(graph: FlatGraph, make: Make) -> None:
    without = make({"input": nir.Input(np.array([2])), "output": nir.Output(np.array([2]))}, [("input", "output")])
    with pytest.raises(InvalidGraphError, match="no node 's'"):
        Rescaled()(without)
    with pytest.raises(InvalidGraphError, match="the promise is broken"):
        Rescaled(broken=True)(graph)


class Narrowed(Rescaled):
    """Changes what is fed in."""

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        nodes = {
            "input": nir.Input(np.array([1])), "s": nir.Scale(np.ones(1)), "output": nir.Output(np.array([1])),
        }  # fmt: skip
        return rebuilt(graph, nodes, graph.edges), ()


class Slowed(Rescaled):
    """Changes dt."""

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        return FlatGraph(graph.nodes, graph.edges, 2 * graph.dt, graph.info, graph.notes, graph.metadata), ()


@pytest.mark.parametrize("kind", [Narrowed, Slowed])
def test_no_pass_may_change_inputs_or_dt(graph: FlatGraph, kind: type[Pass]) -> None:
    with pytest.raises(InvalidGraphError, match="changed the inputs of a graph, or its dt"):
        kind()(graph)


def test_what_is_rebuilt_is_checked_as_at_the_door(graph: FlatGraph) -> None:
    nodes: dict[str, Any] = {**graph.nodes, "s": nir.Scale(np.full(3, 2.0))}
    with pytest.raises(InvalidGraphError, match="the node 's'"):
        rebuilt(graph, nodes, graph.edges)
    with pytest.raises(InvalidGraphError, match="'nobody', which does not exist"):
        rebuilt(graph, graph.nodes, [*graph.edges, ("input", "nobody")])


def test_names_that_are_taken_are_not_taken_again() -> None:
    assert unique(["a", "a_"], "a") == "a__"
    assert unique(["a"], "b") == "b"
