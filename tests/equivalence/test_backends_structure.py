"""What stock importers get wrong: diamonds, skips in any edge order, several outputs, feedback, and what must be refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import nir
import numpy as np
import pytest
import torch

from tests.equivalence.graphs import Sketch, full, start
from zoo.adapters.base import get_backend
from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs import reference

BACKENDS = ("reference", "snntorch", "norse", "spikingjelly", "sinabs", "jax", "brian2")
WIDTH = 6


def dense(sketch: Sketch, inputs: list[str], name: str) -> str:
    return sketch.add(nir.Linear(sketch.weights(WIDTH, WIDTH)), inputs, (WIDTH,), name)


def lif(sketch: Sketch, inputs: list[str], name: str) -> str:
    shape = (WIDTH,)
    node = nir.LIF(full(3, shape), full(2, shape), full(0, shape), full(0.5, shape), full(0, shape))
    return sketch.like(node, inputs, name)


def diamond(order: int) -> nir.NIRGraph:
    """input -> a, b -> c, with the edges in one of several orders."""
    sketch = start((WIDTH,))
    dense(sketch, ["input"], "a")
    lif(sketch, ["a"], "b")
    dense(sketch, ["input"], "d")
    lif(sketch, ["d", "b"], "c")
    sketch.output(["c"], "out")
    edges = sketch.edges[order:] + sketch.edges[:order]
    sketch.edges = edges[::-1] if order % 2 else edges
    return sketch.graph()


def skip_listed_first() -> nir.NIRGraph:
    """a -> c is listed before a -> b and b -> c."""
    sketch = start((WIDTH,))
    for name, inputs in (("a", ["input"]), ("b", ["a"]), ("c", ["a", "b"])):
        lif(sketch, inputs, name)
    sketch.output(["c"], "out")
    sketch.edges = [("c", "out"), ("a", "c"), ("a", "b"), ("b", "c"), ("input", "a")]
    return sketch.graph()


def two_outputs_with_fan_in() -> nir.NIRGraph:
    sketch = start((WIDTH,))
    lif(sketch, ["input"], "a")
    dense(sketch, ["a"], "b")
    dense(sketch, ["input"], "c")
    sketch.output(["b", "c"], "first")
    sketch.output(["a", "c", "b"], "second")
    return sketch.graph()


def feedback(steps: float) -> nir.NIRGraph:
    """A LIF that hears itself, ``steps`` later, through weights; the delay differs per neuron where steps is 0."""
    sketch = start((WIDTH,))
    lif(sketch, ["input"], "a")
    delay = full(steps, (WIDTH,)) if steps else np.arange(1.0, WIDTH + 1)
    sketch.like(nir.Delay(delay), ["a"], "delay")
    sketch.edges.append((dense(sketch, ["delay"], "back"), "a"))
    sketch.output(["a"], "out")
    return sketch.graph()


def feedback_without_delay() -> nir.NIRGraph:
    """A LIF that hears itself through weights, as snnTorch and Norse write it; its output acts one step later."""
    sketch = start((WIDTH,))
    lif(sketch, ["input"], "a")
    sketch.edges.append((dense(sketch, ["a"], "back"), "a"))
    sketch.output(["a"], "out")
    return sketch.graph()


def oscillator() -> nir.NIRGraph:
    """A LIF driven by its leak, which inhibits itself later; nothing enters the cycle."""
    sketch = start((WIDTH,))
    values = {"tau": 3.0, "r": 2.0, "v_leak": 1.0, "v_threshold": 0.5, "v_reset": 0.0}
    sketch.add(nir.LIF(**{name: full(value, (WIDTH,)) for name, value in values.items()}), [], (WIDTH,), "a")
    delay = sketch.like(nir.Delay(np.arange(1.0, WIDTH + 1)), ["a"])
    sketch.edges.append((sketch.like(nir.Scale(full(-1, (WIDTH,))), [delay]), "a"))
    sketch.output(["a"], "out")
    sketch.output([lif(sketch, ["input"], "b")], "other")
    return sketch.graph()


def subgraph() -> nir.NIRGraph:
    """A LIF with weights in front of it, in a graph of its own."""
    inner = start((WIDTH,), seed=4)
    inner.output([lif(inner, [dense(inner, ["input"], "fc")], "neuron")], "output")
    sketch = start((WIDTH,))
    sketch.add(inner.graph(), [dense(sketch, ["input"], "fc")], (WIDTH,), "block")
    sketch.output([dense(sketch, ["block"], "read-out")], "out")
    return sketch.graph()


def two_loops_in_each_other() -> nir.NIRGraph:
    sketch = start((WIDTH,))
    lif(sketch, ["input"], "a")
    lif(sketch, ["a"], "b")
    for target in ("a", "b"):
        delay = sketch.like(nir.Delay(full(1, (WIDTH,))), ["b"], f"delay.{target}")
        sketch.edges.append((dense(sketch, [delay], f"back.{target}"), target))
    sketch.output(["b"], "out")
    return sketch.graph(shuffled=True)


def soft_reset_at(decay: float) -> nir.NIRGraph:
    sketch = start((WIDTH,))
    levels = sketch.soft_reset([dense(sketch, ["input"], "a"), "input"], 3, decay)
    dense(sketch, levels, "b")
    sketch.output(["b"], "out")
    return sketch.graph()


GRAPHS: dict[str, Callable[[], nir.NIRGraph]] = {
    **{f"diamond {order}": partial(diamond, order) for order in range(4)},
    "skip listed first": skip_listed_first,
    "two outputs with fan-in": two_outputs_with_fan_in,
    "feedback after 1": lambda: feedback(1),
    "feedback after 3": lambda: feedback(3),
    "feedback after 1 to 6": lambda: feedback(0),
    "feedback without Delay": feedback_without_delay,
    "oscillator": oscillator,
    "subgraph": subgraph,
    "two loops in each other": two_loops_in_each_other,
    "soft reset 0.25": lambda: soft_reset_at(0.25),
    "soft reset 0.9": lambda: soft_reset_at(0.9),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_backends_agree_with_the_reference(name: str) -> None:
    graph = GRAPHS[name]()
    x = torch.randn((16, 16, WIDTH), generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3
    expected = reference.run(graph, x.numpy(), record="all")
    assert all(0.01 < spikes.mean() < 0.9 for spikes in expected.spikes.values())
    for backend in BACKENDS:
        runnable = get_backend(backend).build(graph, dtype=torch.float64)
        trace, outputs = runnable.run(x, record="all"), runnable(x)
        assert trace.spikes.keys() == expected.spikes.keys()
        for node, spikes in expected.spikes.items():
            np.testing.assert_array_equal(trace.spikes[node], spikes, err_msg=f"{backend}: {node}")
        for node, output in expected.outputs.items():
            np.testing.assert_allclose(trace.outputs[node], output, rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal(outputs[node].detach().numpy(), trace.outputs[node])


def test_in_edges_are_summed_in_the_order_of_the_edge_list() -> None:
    """(1e16 - 1e16) + 1 is 1, (1e16 + 1) - 1e16 is not."""
    for names, total in ((("big", "minus", "one"), 1.0), (("big", "one", "minus"), 0.0)):
        sketch = start((1,))
        for name, factor in (("one", 1.0), ("big", 1e16), ("minus", -1e16)):
            sketch.like(nir.Scale(full(factor, (1,))), ["input"], name)
        sketch.output(names, "out")
        for backend in BACKENDS:
            out = get_backend(backend).build(sketch.graph(), dtype=torch.float64)(torch.ones(1, 1, 1))
            assert out["out"].item() == total


def test_conv1d_in_all_its_forms() -> None:
    sketch = start((4, 11), seed=2)
    for stride, padding, dilation, groups, kernel in (
        (1, 0, 1, 1, 3), (2, 2, 1, 2, 3), (1, "same", 2, 4, 4), (3, 1, 2, 1, 2), (1, "valid", 1, 1, 5),
    ):  # fmt: skip
        weight = sketch.weights(8, 4 // groups, kernel)
        node = nir.Conv1d(None, weight, stride, padding, dilation, groups, sketch.weights(8))
        pad = padding if isinstance(padding, int) else 0
        size = 11 if padding == "same" else (11 + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        conv = sketch.add(node, ["input"], (8, size))
        spikes = sketch.like(nir.IF(full(1, (8, size)), full(0.5, (8, size)), full(0, (8, size))), [conv])
        sketch.output([spikes], f"out{len(sketch.nodes)}")
    graph, x = sketch.graph(), torch.randn((5, 3, 4, 11), dtype=torch.float64)
    expected = reference.run(graph, x.numpy())
    for backend in BACKENDS:
        for node, output in get_backend(backend).build(graph, dtype=torch.float64)(x).items():
            np.testing.assert_array_equal(output.detach().numpy(), expected.outputs[node])


# refusals


def test_feedback_without_delay_is_a_delay_on_the_output_of_the_neuron() -> None:
    """z_t = LIF(x_t + W z_{t-1}), as the graph with the Delay written out."""
    sketch = start((WIDTH,))
    lif(sketch, ["input"], "a")
    sketch.edges.append((dense(sketch, [sketch.like(nir.Delay(full(1, (WIDTH,))), ["a"])], "back"), "a"))
    sketch.output(["a"], "out")
    x = torch.randn((16, 16, WIDTH), generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3
    for backend in BACKENDS:
        written_out, short = (
            get_backend(backend).build(graph, dtype=torch.float64)
            for graph in (sketch.graph(), feedback_without_delay())
        )
        assert torch.equal(written_out(x)["out"], short(x)["out"])
        assert [note.kind for note in short.notes] == ["feedback"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cycle_that_does_not_say_where_the_step_lies_is_refused(backend: str) -> None:
    for neurons in (0, 2):
        sketch = start((WIDTH,))
        previous = dense(sketch, ["input"], "fc")
        for index in range(neurons):
            previous = lif(sketch, [previous], f"neuron{index}")
        sketch.edges.append((dense(sketch, [previous], "w_rec"), "fc"))
        sketch.output([previous], "out")
        with pytest.raises(InvalidGraphError, match=r"(?s)cycle without a Delay.*nir\.Delay") as caught:
            get_backend(backend).build(sketch.graph())
        assert "w_rec" in str(caught.value)
        with pytest.raises(InvalidGraphError):
            get_backend(backend).check(sketch.graph())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_with_times_needs_dt(backend: str) -> None:
    graph = feedback(1)
    graph.metadata = {}
    with pytest.raises(InvalidInputError, match=r"say dt=.*'delay' \(Delay\)"):
        get_backend(backend).build(graph)
    x = torch.randn((16, 16, WIDTH), dtype=torch.float64)
    runnable, expected = get_backend(backend).build(graph, dt=0.5, dtype=torch.float64), reference.run(graph, x, dt=0.5)
    assert runnable.graph.dt == 0.5
    np.testing.assert_array_equal(runnable(x)["out"].detach().numpy(), expected.outputs["out"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_broken_graphs_are_refused_naming_the_node(backend: str) -> None:
    def require_refusal(change: Callable[[Sketch], object], extra: list[tuple[str, str]], name: str) -> None:
        sketch = start((2, 5, 5))
        sketch.output([sketch.conv(["input"], 2, padding=(1, 1))], "out")
        change(sketch)
        sketch.edges += extra
        with pytest.raises(InvalidGraphError, match=name):
            get_backend(backend).build(sketch.graph())

    scale, half = nir.Scale(full(1, (2, 5, 5))), nir.Delay(full(0.5, (2, 5, 5)))
    require_refusal(lambda _: None, [("nowhere", "out")], "nowhere")
    require_refusal(lambda s: s.nodes.update(lonely=scale), [("lonely", "out")], "lonely")
    require_refusal(lambda s: s.like(half, ["input"], "half"), [], "half")
    require_refusal(lambda s: s.conv(["input"], 2, padding="same", stride=(2, 2)), [], "Conv2d.3")
    require_refusal(lambda s: s.conv(["input"], 4, padding=(3, 1)), [("Conv2d.3", "out")], "out")


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_that_do_not_fit_are_refused(backend: str) -> None:
    runnable = get_backend(backend).build(feedback(1))
    for x in (torch.zeros(3, 2, WIDTH + 1), torch.zeros(3, WIDTH), torch.zeros(0, 2, WIDTH)):
        with pytest.raises(InvalidInputError, match="input"):
            runnable(x)
    with pytest.raises(InvalidInputError, match="nobody"):
        runnable.run(torch.zeros(3, 2, WIDTH), record=["nobody"])
