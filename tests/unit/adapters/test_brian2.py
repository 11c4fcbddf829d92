"""Brian2: sums before weights, Delays of any length, one simulation at a time, sizes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
import torch

from tests.equivalence.graphs import Sketch, full, start
from zoo.adapters.base import get_backend
from zoo.adapters.brian2_wiring import MAX_SYNAPSES, synapses
from zoo.errors import UnsupportedGraphError
from zoo.nir_graphs import reference
from zoo.nir_graphs.normalise import normalise

BACKEND = get_backend("brian2")
TYPES = {torch.float32: np.float32, torch.float64: np.float64}
PAIR = (1, 1, 2)


def two_edges_into(node: nir.NIRNode, shape: tuple[int, ...], out: tuple[int, ...]) -> Sketch:
    """Two inputs, summed by one node."""
    sketch = start(shape)
    sketch.add(nir.Input({"input": np.array(shape)}), [], shape, "second")
    sketch.output([sketch.add(node, ["input", "second"], out, "node")], "out")
    return sketch


def conv(rank: int) -> nir.NIRNode:
    kind: Any = (nir.Conv1d, nir.Conv2d)[rank - 1]
    node: nir.NIRNode = kind(None, full(0.3, (1, 1, *[1] * rank)), 1, 0, 1, 1, np.array([0.1]))
    return node


def window(kind: type, width: int) -> nir.NIRNode:
    node: nir.NIRNode = kind(np.array([1, width]), np.array([1, width]), np.array([0, 0]))
    return node


LINEAR: dict[str, tuple[nir.NIRNode, tuple[int, ...], tuple[int, ...], Callable[[Any, Any], Any]]] = {
    "Scale": (nir.Scale(full(0.3, (1,))), (1,), (1,), lambda s, one: one(0.3) * s),
    "Linear": (nir.Linear(full(0.3, (1, 1))), (1,), (1,), lambda s, one: one(0.3) * s),
    "Affine": (nir.Affine(full(0.3, (1, 1)), np.array([0.1])), (1,), (1,), lambda s, one: one(0.3) * s + one(0.1)),
    "Conv1d": (conv(1), (1, 2), (1, 2), lambda s, one: one(0.3) * s + one(0.1)),
    "Conv2d": (conv(2), PAIR, PAIR, lambda s, one: one(0.3) * s + one(0.1)),
    "SumPool2d": (window(nir.SumPool2d, 2), PAIR, (1, 1, 1), lambda s, _: s[..., :1] + s[..., 1:]),
    "AvgPool2d": (window(nir.AvgPool2d, 2), PAIR, (1, 1, 1), lambda s, one: (s[..., :1] + s[..., 1:]) / one(2)),
}
"""Node, input shape, output shape, and what it makes of the sum of its inputs. No sum has a third term, whose order is free."""


@pytest.mark.parametrize("dtype", TYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("kind", LINEAR)
def test_in_edges_are_summed_before_weights_act(kind: str, dtype: torch.dtype) -> None:
    node, shape, out, equation = LINEAR[kind]
    one = TYPES[dtype]
    first, second = np.random.default_rng(0).normal(size=(2, 20, 10, *shape)).astype(one)
    x = {"input": torch.from_numpy(first), "second": torch.from_numpy(second)}
    found = BACKEND.build(two_edges_into(node, shape, out).graph(), dtype=dtype)(x)["out"].numpy()
    np.testing.assert_array_equal(found, equation(first + second, one))
    if kind != "SumPool2d":
        return
    assert (found != equation(first, one) + equation(second, one)).mean() > 0.1  # weights per edge give other bits


def test_averages_divide() -> None:
    x = np.random.default_rng(0).integers(0, 100, (20, 1, 1, 1, 3)).astype(float)
    sketch = start((1, 1, 3))
    sketch.output([sketch.add(window(nir.AvgPool2d, 3), ["input"], (1, 1, 1), "mean")], "out")
    found = BACKEND.build(sketch.graph(), dtype=torch.float64)(torch.from_numpy(x))["out"].numpy()
    np.testing.assert_array_equal(found, x.sum(-1, keepdims=True) / 3)
    assert (x.sum(-1, keepdims=True) * (1 / 3) != x.sum(-1, keepdims=True) / 3).any()


def test_a_spike_that_weights_per_edge_would_flip() -> None:
    first, second, weight = next(
        (a / 10, b / 10, 3.0)
        for a, b in np.ndindex(10, 10)
        if 3.0 * (a / 10) + 3.0 * (b / 10) > 3.0 * (a / 10 + b / 10)
    )
    sketch = start((1,))
    sketch.add(nir.Input({"input": np.array([1])}), [], (1,), "second")
    scaled = sketch.like(nir.Scale(full(weight, (1,))), ["input", "second"])
    sketch.output([sketch.like(nir.Threshold(full(weight * (first + second), (1,))), [scaled], "spike")], "out")
    x = {name: np.full((16, 16, 1), value) for name, value in {"input": first, "second": second}.items()}
    assert not reference.run(sketch.graph(), x).outputs["out"].any()
    runnable = BACKEND.build(sketch.graph(), dtype=torch.float64)
    assert not runnable({name: torch.from_numpy(value) for name, value in x.items()})["out"].any()


@pytest.mark.parametrize("kind", ["conv2d", "conv1d", "dense", "pool"])
def test_synapses_are_those_of_the_reference(kind: str) -> None:
    """Strides, dilations, groups and uneven padding: each column of the matrix is what the judge makes of one unit of input."""
    rng = np.random.default_rng(1)
    shape: tuple[int, ...]
    if kind == "conv2d":
        node: Any = nir.Conv2d(None, rng.normal(size=(6, 2, 2, 3)), (2, 1), (1, 2), (2, 1), 2, rng.normal(size=6))
        shape = (4, 7, 5)
    elif kind == "conv1d":
        node, shape = nir.Conv1d(None, rng.normal(size=(3, 2, 4)), 1, "same", 1, 1, rng.normal(size=3)), (2, 9)
    elif kind == "dense":
        node, shape = nir.Affine(rng.normal(size=(3, 4)), rng.normal(size=3)), (2, 4)
    else:
        node, shape = nir.SumPool2d(np.array([3, 2]), np.array([2, 1]), np.array([1, 1])), (2, 5, 4)
    builder = start(shape)
    builder.nodes["node"], builder.nodes["out"] = node, nir.Output({"output": None})
    builder.edges += [("input", "node"), ("node", "out")]
    graph = normalise(builder.graph())
    size = int(np.prod(shape))
    units = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(1, size + 1, *shape)
    columns = reference.run(graph, units).outputs["out"].reshape(size + 1, -1)
    wires = synapses(graph.nodes["node"])
    matrix = np.zeros((size, columns.shape[1]))
    np.add.at(matrix, (wires.pre, wires.post), wires.weight)
    bias = np.zeros(columns.shape[1]) if wires.bias is None else wires.bias
    np.testing.assert_allclose(matrix + bias, columns[1:], rtol=1e-12)
    np.testing.assert_allclose(bias, columns[0], rtol=1e-12)


def test_preferences_are_left_as_they_were_and_threads_take_turns() -> None:
    import brian2  # after the backend, which silences its deprecations

    before = brian2.prefs["core.default_float_dtype"]
    sketch = start((4,))
    neuron = sketch.like(sketch.neuron("LIF", (4,)), ["input"], "neuron")
    sketch.output([sketch.like(nir.Delay(full(2, (4,))), [neuron])], "out")
    single, double = (BACKEND.build(sketch.graph(), dtype=dtype) for dtype in TYPES)
    x = torch.rand(16, 16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = {id(runnable): runnable.run(x, record="all") for runnable in (single, double)}
    wrong: list[str] = []

    def work(runnable: Any) -> None:
        for _ in range(2):
            trace = runnable.run(x, record="all")
            for name, value in expected[id(runnable)].potentials.items():
                if not np.array_equal(trace.potentials[name], value) or trace.potentials[name].dtype != value.dtype:
                    wrong.append(name)

    threads = [threading.Thread(target=work, args=(runnable,)) for runnable in (single, double) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert brian2.prefs["core.default_float_dtype"] is before


def test_graphs_that_are_too_large_are_refused_naming_the_node() -> None:
    sketch = start((1000,))
    first = sketch.add(nir.Linear(np.ones((150, 1000))), ["input"], (150,), "first")
    second = sketch.add(nir.Linear(np.ones((500, 150))), [first], (500,), "second")
    sketch.output([second], "out")
    (reason,) = BACKEND.check(sketch.graph())
    assert reason.startswith("node 'second' brings the graph to")
    assert str(MAX_SYNAPSES) in reason
    with pytest.raises(UnsupportedGraphError, match="node 'second'"):
        BACKEND.build(sketch.graph())
    wide = start((5000,))
    wide.output([wide.like(nir.Scale(np.arange(1.0, 5001)), ["input"], "scale")], "out")
    (reason,) = BACKEND.check(wide.graph())
    assert "node 'scale' connects 5000 with 5000 neurons" in reason
