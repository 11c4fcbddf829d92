"""Every backend's table of nodes against ``nodes.FACTS``: each type is run as the judge runs it or refused, never forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import pytest
import torch

from tests.equivalence.graphs import Array, full
from zoo.adapters.base import BACKENDS, get_backend
from zoo.errors import UnsupportedGraphError
from zoo.nir_graphs import metadata, nodes, reference
from zoo.nir_graphs.nodes import FACTS, NodeFacts

STEPS, BATCH = 16, 16
LINE: tuple[int, ...] = (4,)
ROW: tuple[int, ...] = (4, 9)
MAP: tuple[int, ...] = (4, 6, 5)
RNG = np.random.default_rng(0)


def eighths(*shape: int) -> Array:
    return RNG.integers(-8, 9, shape) / 8


def neuron(kind: type, **fields: float) -> nir.NIRNode:
    """A neuron on a map: one parameter differs between elements, one between channels, the others are one number."""
    values = {"r": full(1, MAP), "v_leak": full(0.125, MAP), "tau": full(2, MAP), "w_in": full(1, MAP)}
    values |= {"tau_syn": full(2, MAP), "tau_mem": full(4, MAP), "v_reset": full(-0.25, MAP)}
    values["v_threshold"] = RNG.integers(2, 6, MAP) / 4
    values["r"] = np.array(np.broadcast_to(RNG.integers(4, 9, (4, 1, 1)) / 4, MAP))
    values |= {name: full(value, MAP) for name, value in fields.items()}
    node: nir.NIRNode = kind(**{name: values[name] for name in FACTS[kind].elements})
    return node


def _pool(kind: type) -> nir.NIRNode:
    node: nir.NIRNode = kind(np.array([3, 2]), np.array([2, 1]), np.array([1, 0]))
    return node


NODES: dict[type, tuple[nir.NIRNode, tuple[int, ...]]] = {
    nir.Input: (nir.Input({"input": np.array(MAP)}), MAP),
    nir.Output: (nir.Output({"output": np.array(MAP)}), MAP),
    nir.Affine: (nir.Affine(eighths(5, 4), eighths(5)), LINE),
    nir.Linear: (nir.Linear(eighths(5, 9)), ROW),
    nir.Conv1d: (nir.Conv1d(None, eighths(6, 2, 3), 2, 2, 2, 2, eighths(6)), ROW),
    nir.Conv2d: (nir.Conv2d(None, eighths(6, 2, 2, 3), (2, 1), (1, 2), (1, 2), 2, eighths(6)), MAP),
    nir.SumPool2d: (_pool(nir.SumPool2d), MAP),
    nir.AvgPool2d: (_pool(nir.AvgPool2d), MAP),
    nir.Flatten: (nir.Flatten({"input": np.array(MAP)}, 1, 2), MAP),
    nir.Scale: (nir.Scale(eighths(*MAP)), MAP),
    nir.Delay: (nir.Delay(1.0 + np.arange(120).reshape(MAP) % 4), MAP),
    nir.Threshold: (nir.Threshold(RNG.integers(0, 6, MAP) / 4), MAP),
    nir.I: (neuron(nir.I), MAP),
    nir.IF: (neuron(nir.IF), MAP),
    nir.LI: (neuron(nir.LI), MAP),
    nir.LIF: (neuron(nir.LIF), MAP),
    nir.CubaLI: (neuron(nir.CubaLI), MAP),
    nir.CubaLIF: (neuron(nir.CubaLIF), MAP),
}
"""A node of each type, with corners in its parameters, and the shape of its input."""


def graph_of(kind: type) -> nir.NIRGraph:
    """Input -> the node -> Output; an Input or an Output stands for itself."""
    node, shape = NODES[kind]
    members = {"input": nir.Input({"input": np.array(shape)}), "node": node, "out": nir.Output({"output": None})}
    edges = [("input", "node"), ("node", "out")]
    if kind is nir.Input:
        del members["input"], edges[0]
    if kind is nir.Output:
        del members["out"], edges[1]
    return metadata.put(nir.NIRGraph(members, edges, type_check=False), metadata.GraphInfo(dt=1.0))


def test_every_type_has_a_node_here_and_an_equation() -> None:
    assert set(NODES) == set(FACTS)
    assert {*reference.STEPS, nir.Delay} == set(FACTS)


@pytest.mark.parametrize("kind", FACTS, ids=[kind.__name__ for kind in FACTS])
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_type_is_run_as_the_judge_does_or_refused(backend: str, kind: type) -> None:
    graph, shape = graph_of(kind), NODES[kind][1]
    x = np.random.default_rng(1).integers(-4, 9, (STEPS, BATCH, *shape)) / 4
    expected = reference.run(graph, x, record="all")
    if FACTS[kind].spiking:
        assert 0.05 < expected.spikes["node"].mean() < 0.6
    reasons = get_backend(backend).check(graph)
    if reasons:
        assert any("node 'node'" in reason for reason in reasons)
        with pytest.raises(UnsupportedGraphError, match="node 'node'"):
            get_backend(backend).build(graph)
        return
    trace = get_backend(backend).build(graph, dtype=torch.float64).run(torch.from_numpy(x), record="all")
    for part in ("spikes", "outputs", "potentials"):
        found, wanted = getattr(trace, part), getattr(expected, part)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value)  # all numbers are dyadic: no rounding is in the way


@dataclass(eq=False)
class Doubled(nir.NIRNode):
    """A type that the table knows and no backend."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_type_that_a_backend_lacks_is_refused_by_name(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(_fields: Any, x: Any, _dt: float) -> Any:
        return {}, x

    monkeypatch.setitem(nodes.FACTS, Doubled, NodeFacts(Doubled, same))
    builder = graph_of(nir.Scale)
    builder.nodes["node"] = Doubled()
    (reason,) = get_backend(backend).check(builder)
    assert reason == f"node 'node' is a Doubled, which the backend {backend} does not run"
    with pytest.raises(UnsupportedGraphError, match="Doubled"):
        get_backend(backend).build(builder)
