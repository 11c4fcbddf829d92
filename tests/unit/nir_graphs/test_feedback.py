"""Cycles without a Delay: z_{t-1} of the neuron in them, whatever lies around it. Right values from equations written here.

In all of them x is the input, z the spikes and N one step of the neuron: z_t = N(drive_t).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest

from tests.everywhere import BACKENDS, Array, array, block, entry, graph, leave, lif, quarters, rate, refused, require
from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs.normalise import normalise

T, B, N = 24, 16, 4
W = array([[0.0, -0.5, 0.75, 0.25], [0.5, 0.0, -0.75, 0.0], [-0.25, 0.5, -0.5, 1.0], [0.0, 0.75, 0.0, -1.0]])
V = array([[0.5, 0.0, 0.0, -0.5], [0.0, 0.5, 0.25, 0.0], [0.25, 0.0, 0.5, 0.0], [-0.5, 0.25, 0.0, 0.5]])
BIAS = array(0.25, -0.25, 0.5, 0.0)
QUICK = ("reference", "snntorch", "norse", "spikingjelly", "sinabs")
Drive = Callable[[Array, Array], Array]


def rest() -> Array:
    """Potentials, or spikes, before the first step."""
    return np.zeros((B, N))


# what a neuron does in a step, and its NIR form


def lif_step(v: Array, drive: Array) -> tuple[Array, Array]:
    v = v + 0.5 * (drive - v)
    z = v > 0.5
    return np.where(z, 0.0, v), z.astype(float)


def if_step(v: Array, drive: Array) -> tuple[Array, Array]:
    v = v + drive
    z = v > 1.0
    return np.where(z, -0.25, v), z.astype(float)


def threshold_step(v: Array, drive: Array) -> tuple[Array, Array]:
    return v, (drive > 0.75).astype(float)


NEURONS: dict[str, tuple[Callable[[], Any], Callable[[Array, Array], tuple[Array, Array]]]] = {
    "LIF": (lambda: lif((N,)), lif_step),
    "IF": (lambda: nir.IF(np.ones(N), np.ones(N), np.full(N, -0.25)), if_step),
    "Threshold": (lambda: nir.Threshold(np.full(N, 0.75)), threshold_step),
}


def recurrent(x: Array, kind: str, drive: Drive) -> Array:
    """z_t = N(drive(x_t, z_{t-1})) from rest."""
    v, z, out = np.zeros(x.shape[1:]), np.zeros(x.shape[1:]), []
    for now in x:
        v, z = NEURONS[kind][1](v, drive(now, z))
        out.append(z)
    return np.stack(out)


def one_step_late(x: Array, kind: str, drive: Drive) -> Array:
    """The reading that delays the edge into the neuron: external input and biases come one step late."""
    v, before, out, z = np.zeros(x.shape[1:]), np.zeros(x.shape[1:]), [], np.zeros(x.shape[1:])
    for now in x:
        v, z = NEURONS[kind][1](v, before)
        before = drive(now, z)
        out.append(z)
    return np.stack(out)


# the same equations in many forms

IN, OUT = entry(N), leave(N)
LINEAR, AFFINE = nir.Linear(W), nir.Affine(W, BIAS)


def sequence(*names: str) -> list[tuple[str, str]]:
    return list(pairwise(names))


def unwrapped(n: Any) -> nir.NIRGraph:
    return graph({"in": IN, "n": n, "w": LINEAR, "out": OUT}, [("in", "n"), ("n", "w"), ("w", "n"), ("n", "out")])


def neuron_in_block(n: Any) -> nir.NIRGraph:
    """A1."""
    s = block((N,), {"n": n}, sequence("input", "n", "output"))
    return graph({"in": IN, "s": s, "w": LINEAR, "out": OUT}, [("in", "s"), ("s", "w"), ("w", "s"), ("s", "out")])


def neuron_in_deep_block(n: Any) -> nir.NIRGraph:
    s = block((N,), {"n": n}, sequence("input", "n", "output"))
    for _ in range(3):
        s = block((N,), {"s": s}, sequence("input", "s", "output"))
    return graph({"w": LINEAR, "out": OUT, "s": s, "in": IN}, [("w", "s"), ("s", "out"), ("s", "w"), ("in", "s")])


def both_in_block(n: Any) -> nir.NIRGraph:
    s = block((N,), {"n": n, "w": LINEAR}, [("input", "n"), ("n", "w"), ("w", "n"), ("n", "output")])
    return graph({"in": IN, "s": s, "out": OUT}, sequence("in", "s", "out"))


def weight_in_block(n: Any) -> nir.NIRGraph:
    s = block((N,), {"w": LINEAR}, sequence("input", "w", "output"))
    return graph({"in": IN, "n": n, "s": s, "out": OUT}, [("in", "n"), ("n", "s"), ("s", "n"), ("n", "out")])


def through_identities(n: Any) -> nir.NIRGraph:
    s = block((N,), {}, sequence("input", "output"))
    nodes = {"in": IN, "n": n, "i": s, "j": s, "w": LINEAR, "out": OUT}
    return graph(nodes, [("in", "n"), *sequence("n", "i", "w", "j", "n"), ("n", "out")])


def input_through_weight(n: Any) -> nir.NIRGraph:
    """A2: the weight sees the sum of input and feedback."""
    return graph({"in": IN, "fc": LINEAR, "n": n, "out": OUT}, [("in", "fc"), ("fc", "n"), ("n", "fc"), ("n", "out")])


def input_through_weight_in_block(n: Any) -> nir.NIRGraph:
    s = block((N,), {"fc": LINEAR, "n": n}, sequence("input", "fc", "n", "output"))
    return graph({"in": IN, "s": s, "out": OUT}, [("in", "s"), ("s", "s"), ("s", "out")])


def bias_in_loop(n: Any) -> nir.NIRGraph:
    """A3: snnTorch's RLeaky."""
    return graph({"in": IN, "n": n, "w": AFFINE, "out": OUT}, [("in", "n"), ("n", "w"), ("w", "n"), ("n", "out")])


def bias_before_neuron(n: Any) -> nir.NIRGraph:
    return graph({"in": IN, "fc": AFFINE, "n": n, "out": OUT}, [("n", "fc"), ("in", "fc"), ("fc", "n"), ("n", "out")])


def two_weights(n: Any) -> nir.NIRGraph:
    nodes = {"in": IN, "n": n, "w": LINEAR, "b": AFFINE, "out": OUT}
    return graph(nodes, [("in", "n"), ("n", "w"), ("n", "b"), ("w", "n"), ("b", "n"), ("n", "out")])


def chain_of_weights(n: Any) -> nir.NIRGraph:
    nodes = {"in": IN, "n": n, "w": nir.Affine(V, BIAS), "b": LINEAR, "out": OUT}
    return graph(nodes, [("in", "n"), *sequence("n", "w", "b", "n"), ("n", "out")])


def self_loop(n: Any) -> nir.NIRGraph:
    return graph({"in": IN, "n": n, "out": OUT}, [("n", "n"), ("in", "n"), ("n", "out")])


def twice(n: Any) -> nir.NIRGraph:
    return graph({"in": IN, "n": n, "out": OUT}, [("n", "n"), ("in", "n"), ("n", "n"), ("n", "out")])


def scaled(n: Any) -> nir.NIRGraph:
    scale = nir.Scale(array([-0.5]))
    return graph({"in": IN, "n": n, "k": scale, "out": OUT}, [("in", "n"), ("n", "k"), ("k", "n"), ("n", "out")])


FORMS: dict[str, tuple[Callable[[Any], nir.NIRGraph], Drive]] = {
    "unwrapped": (unwrapped, lambda x, z: x + z @ W.T),
    "neuron in a block": (neuron_in_block, lambda x, z: x + z @ W.T),
    "neuron in blocks in blocks": (neuron_in_deep_block, lambda x, z: x + z @ W.T),
    "both in a block": (both_in_block, lambda x, z: x + z @ W.T),
    "weight in a block": (weight_in_block, lambda x, z: x + z @ W.T),
    "through identities": (through_identities, lambda x, z: x + z @ W.T),
    "input through the weight": (input_through_weight, lambda x, z: (x + z) @ W.T),
    "input through the weight, in a block": (input_through_weight_in_block, lambda x, z: (x + z) @ W.T),
    "bias in the loop": (bias_in_loop, lambda x, z: x + z @ W.T + BIAS),
    "bias before the neuron": (bias_before_neuron, lambda x, z: (x + z) @ W.T + BIAS),
    "two weights": (two_weights, lambda x, z: x + z @ W.T + (z @ W.T + BIAS)),
    "chain of weights": (chain_of_weights, lambda x, z: x + (z @ V.T + BIAS) @ W.T),
    "self-loop": (self_loop, lambda x, z: x + z),
    "self-loop twice": (twice, lambda x, z: x + z + z),
    "through a Scale": (scaled, lambda x, z: x - 0.5 * z),
}

EVERYWHERE = (
    "neuron in a block",
    "neuron in blocks in blocks",
    "input through the weight",
    "bias in the loop",
    "self-loop",
)
"""On JAX and Brian2 too, which compile every graph."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", NEURONS)
def test_the_output_of_the_neuron_acts_one_step_later(kind: str, form: str) -> None:
    build, drive = FORMS[form]
    x = quarters((T, B, N), seed=len(form), low=-1.75, high=1.5 if kind == "Threshold" else 2.0)
    right = recurrent(x, kind, drive)
    rate(right)
    assert not np.array_equal(right, one_step_late(x, kind, drive))  # the naive way
    assert not np.array_equal(right, recurrent(x, kind, lambda now, z: drive(now, 0 * z)))  # feedback matters
    made = build(NEURONS[kind][0]())
    everywhere = kind == "LIF" and form in EVERYWHERE
    require(made, x, right, backends=BACKENDS if everywhere else QUICK)
    assert [note.kind for note in normalise(made, dt=1).notes].count("feedback") == 1


def test_wrapped_and_unwrapped_say_the_same_where_a_border_sums() -> None:
    """The block gives out n + A n; outside the cycle it is that of the same step, inside that of the step before."""
    inner = {"n": lif((N,)), "a": nir.Linear(V)}
    s = block((N,), inner, [("input", "n"), ("n", "a"), ("n", "output"), ("a", "output")])
    made = graph({"in": IN, "s": s, "w": LINEAR, "out": OUT}, [("in", "s"), ("s", "w"), ("w", "s"), ("s", "out")])
    flat = graph(
        {"in": IN, **inner, "w": LINEAR, "out": OUT},
        [("in", "n"), ("n", "a"), ("n", "w"), ("a", "w"), ("w", "n"), ("n", "out"), ("a", "out")],
    )
    x = quarters((T, B, N), seed=3)
    v, z, right = rest(), rest(), []
    for now in x:
        before = z
        v, z = lif_step(v, now + (z + z @ V.T) @ W.T)
        right.append(z + before @ V.T)  # A lies in the cycle, so it reads the step before
    require(flat, x, np.stack(right))
    require(made, x, np.stack(right))


def test_a_border_that_sums_one_neuron_twice() -> None:
    s = block((N,), {"n": lif((N,))}, [("input", "n"), ("n", "output"), ("n", "output")])
    made = graph({"in": IN, "s": s, "w": LINEAR, "out": OUT}, [("in", "s"), ("s", "w"), ("w", "s"), ("s", "out")])
    x = quarters((T, B, N), seed=4)
    z = recurrent(x, "LIF", lambda now, z: now + 2 * z @ W.T)
    rate(z)
    require(made, x, 2 * z)


def test_nested_borders_that_sum() -> None:
    """Four times the neuron, through two borders; the outer one is read inside and outside of the cycle."""
    s = block((N,), {"n": lif((N,))}, [("input", "n"), ("n", "output"), ("n", "output")])
    s = block((N,), {"s": s}, [("input", "s"), ("s", "output"), ("s", "output")])
    scale = nir.Scale(array([-0.25]))
    made = graph({"in": IN, "s": s, "k": scale, "out": OUT}, [("in", "s"), ("s", "k"), ("k", "s"), ("s", "out")])
    x = quarters((T, B, N), seed=5)
    z = recurrent(x, "LIF", lambda now, z: now - z)
    rate(z)
    require(made, x, 4 * z)


def test_an_explicit_delay_stays_what_it_is() -> None:
    """A cycle with a Delay of 3 beside one without any."""
    nodes = {"in": IN, "n": lif((N,)), "w": LINEAR, "d": nir.Delay(array(3.0)), "v": nir.Linear(V), "out": OUT}
    edges = [("in", "n"), ("n", "w"), ("w", "n"), ("n", "d"), ("d", "v"), ("v", "n"), ("n", "out")]
    x = quarters((T, B, N), seed=6)
    v, past, right = rest(), [rest()] * 3, []
    for now in x:
        v, z = lif_step(v, now + past[-3] @ V.T + past[-1] @ W.T)
        past.append(z)
        right.append(z)
    rate(np.stack(right))
    require(graph(nodes, edges), x, np.stack(right))


def test_what_is_read_beside_the_neuron() -> None:
    """The weight of the loop is itself an output: it reads the step before."""
    nodes = {"in": IN, "n": lif((N,)), "w": LINEAR, "out": OUT, "current": leave(N)}
    x = quarters((T, B, N), seed=7)
    z = recurrent(x, "LIF", lambda now, z: now + z @ W.T)
    before = np.concatenate([np.zeros((1, B, N)), z[:-1]])
    edges = [("in", "n"), ("n", "w"), ("w", "n"), ("n", "out"), ("w", "current")]
    require(graph(nodes, edges), x, {"out": z, "current": before @ W.T})


# several neurons in one cycle


def pair(**extra: Any) -> nir.NIRGraph:
    nodes = {"in": IN, "a": lif((N,)), "w": LINEAR, "b": lif((N,), threshold=0.25), "out": OUT, **extra}
    return graph(nodes, [("in", "a"), ("a", "w"), ("w", "b"), ("b", "a"), ("b", "out")])


def test_two_neurons_in_a_cycle_are_refused_naming_edges_and_neurons() -> None:
    refused(pair(), InvalidGraphError, r"'a -> w'.*'b -> a'.*2 neurons \('.*delayed_edges")
    s = block((N,), {"b": lif((N,))}, sequence("input", "b", "output"))
    wrapped = graph({"in": IN, "a": lif((N,)), "s": s, "out": OUT}, [("in", "a"), ("a", "s"), ("s", "a"), ("s", "out")])
    refused(wrapped, InvalidGraphError, r"'a -> s\.b'.*2 neurons")


def late_pair(x: Array, where: str) -> Array:
    va, vb, out = rest(), rest(), []
    a, b = rest(), rest()
    for now in x:
        before = a
        va, a = lif_step(va, now + b)
        current = (before if where != "b" else a) @ W.T
        vb = vb + 0.5 * (current - vb)
        b = (vb > 0.25).astype(float)
        vb = np.where(vb > 0.25, 0.0, vb)
        out.append(b)
    return np.stack(out)


@pytest.mark.parametrize("edge", [("b", "a"), ["b", "a"]])
def test_unless_the_caller_names_the_edge(edge: Any) -> None:
    x = quarters((T, B, N), seed=8)
    right = late_pair(x, "b")
    rate(right)
    require(pair(), x, right, delayed_edges=[edge])
    require(pair(), x, right, delayed_edges=[edge, edge], backends=QUICK)


@pytest.mark.parametrize("edge", [("a", "w"), ("w", "b")])
def test_another_edge_means_another_network(edge: tuple[str, str]) -> None:
    """The Delay before or after the weight is the same; a's own feedback is then of the same step."""
    x = quarters((T, B, N), seed=8)
    va, vb, a, right = rest(), rest(), rest(), []
    for now in x:
        vb = vb + 0.5 * (a @ W.T - vb)
        b = (vb > 0.25).astype(float)
        vb = np.where(vb > 0.25, 0.0, vb)
        va, a = lif_step(va, now + b)
        right.append(b)
    assert not np.array_equal(np.stack(right), late_pair(x, "b"))
    require(pair(), x, np.stack(right), delayed_edges=[edge], backends=QUICK)


def test_edges_of_subgraphs_are_named_as_in_the_file() -> None:
    """By the subgraph's name, by the names inside it, or by the flat names; all mean the same edge."""
    s = block((N,), {"b": lif((N,), threshold=0.25), "w": LINEAR}, sequence("input", "w", "b", "output"))
    made = graph({"in": IN, "a": lif((N,)), "s": s, "out": OUT}, [("in", "a"), ("a", "s"), ("s", "a"), ("s", "out")])
    x = quarters((T, B, N), seed=8)
    for edge in (("s", "a"), ("s.b", "a")):
        require(made, x, late_pair(x, "b"), delayed_edges=[edge], backends=QUICK)
    early = run_early(x)
    for edge in (("a", "s"), ("s.input", "s.w"), ("a", "s.w"), ("s.w", "s.b")):
        require(made, x, early, delayed_edges=[edge], backends=QUICK)
    late_everywhere = np.concatenate([np.zeros((1, B, N)), late_pair(x, "b")[:-1]])
    require(made, x, late_everywhere, delayed_edges=[("s.b", "s.output")], backends=QUICK)  # for the Output too


def run_early(x: Array) -> Array:
    va, vb, a, out = rest(), rest(), rest(), []
    for now in x:
        vb = vb + 0.5 * (a @ W.T - vb)
        b = (vb > 0.25).astype(float)
        vb = np.where(vb > 0.25, 0.0, vb)
        va, a = lif_step(va, now + b)
        out.append(b)
    return np.stack(out)


def test_an_edge_into_a_block_with_several_readers() -> None:
    """Only one of the readers lies in the cycle; the edge is late for both, since it is one edge."""
    s = block((N,), {"b": lif((N,), threshold=0.25), "w": LINEAR}, sequence("input", "w", "b", "output"))
    s.nodes["aside"] = nir.Scale(array([1.0]))
    s.edges.append(("input", "aside"))
    made = graph({"in": IN, "a": lif((N,)), "s": s, "out": OUT}, [("in", "a"), ("a", "s"), ("s", "a"), ("s", "out")])
    x = quarters((T, B, N), seed=8)
    require(made, x, run_early(x), delayed_edges=[("a", "s")], backends=QUICK)
    flat = normalise(made, dt=1, delayed_edges=[("a", "s")])
    assert flat.sources["s.aside"] == flat.sources["s.w"] == ("a.delay",)


@pytest.mark.parametrize(
    ("edges", "match"),
    [
        ([("a", "b")], "a -> b, which is no edge"),
        ([("nowhere", "b")], "no edge"),
        ([("in", "a")], "in -> a, which is on no cycle"),
        ([("b", "out")], "on no cycle"),
        (["ab"], "pairs of node names"),
        ([("a",)], "pairs of node names"),
        ([(1, 2)], "pairs of node names"),
        ("ab", "pairs of node names"),
        (7, "pairs of node names"),
    ],
)
def test_edges_that_cannot_be_late(edges: Any, match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        normalise(pair(), dt=1, delayed_edges=edges)


def test_a_graph_that_is_normalised_takes_no_delayed_edges() -> None:
    flat = normalise(pair(), dt=1, delayed_edges=[("b", "a")])
    assert normalise(flat) is flat
    with pytest.raises(InvalidInputError, match="delayed_edges"):
        normalise(flat, delayed_edges=[("b", "a")])


def test_other_cycles_of_the_same_neurons_are_still_read() -> None:
    """The caller names one edge; the self-loop that is left has one neuron."""
    made = pair()
    made.edges.append(("a", "a"))
    x = quarters((T, B, N), seed=9)
    va, vb, a, b, right = rest(), rest(), rest(), rest(), []
    for now in x:
        va, a = lif_step(va, now + b + a)
        vb = vb + 0.5 * (a @ W.T - vb)
        b = (vb > 0.25).astype(float)
        vb = np.where(vb > 0.25, 0.0, vb)
        right.append(b)
    require(made, x, np.stack(right), delayed_edges=[("b", "a")], backends=QUICK)


def test_cycles_without_a_neuron_are_refused() -> None:
    scales = {"in": IN, "k": nir.Scale(array(0.5)), "l": nir.Scale(array(0.5)), "out": OUT}
    ring = [("in", "k"), ("k", "l"), ("l", "k"), ("l", "out")]
    refused(graph(scales, ring), InvalidGraphError, r"'k -> l'.*no neuron")
    nodes = {**scales, "n": lif((N,))}
    beside = [("in", "n"), ("n", "k"), ("k", "l"), ("l", "k"), ("l", "n"), ("n", "out")]
    refused(graph(nodes, beside), InvalidGraphError, r"(?s)'l'.*'k'|'k'.*'l'.*without a neuron")
    identity = block((N,), {}, sequence("input", "output"))
    refused(
        graph({"in": IN, "s": identity, "out": OUT}, [("in", "s"), ("s", "s"), ("s", "out")]),
        InvalidGraphError,
        "no neuron",
    )
    refused(
        graph({"in": IN, "s": identity, "out": OUT}, [("in", "out"), ("s", "s"), ("s", "out")]),
        InvalidGraphError,
        "no neuron",
    )


# order and notes


def test_feedback_is_summed_last_in_edge_order() -> None:
    """1e16 + 1 - 1e16: what comes late is added after what comes at once, whatever the order of the file."""
    big, small = nir.Scale(array(1e16)), nir.Scale(array(-1e16))
    nodes = {"in": entry(1), "big": big, "small": small, "n": nir.Threshold(array(0.5)), "out": leave(1)}
    edges = [("n", "n"), ("in", "big"), ("in", "small"), ("big", "n"), ("small", "n"), ("n", "out")]
    for shift in range(len(edges)):
        turned = edges[shift:] + edges[:shift]
        flat = normalise(graph(nodes, turned), dt=1)
        assert flat.sources["n"][-1] == "n.delay"
        assert set(flat.sources["n"][:2]) == {"big", "small"}


def test_late_edges_do_not_depend_on_hashing() -> None:
    """Several edges are named: Delays come in the order of the file, whatever the order in which they are named."""
    made = pair()
    made.nodes |= {"c": lif((N,)), "d": lif((N,))}
    made.edges += [("in", "c"), ("c", "d"), ("d", "c"), ("d", "out")]
    named = [("d", "c"), ("b", "a")]
    first, second = (normalise(made, dt=1, delayed_edges=order) for order in (named, named[::-1]))
    assert list(first.nodes) == list(second.nodes)
    assert first.edges == second.edges
    assert [name for name in first.nodes if name.endswith(".delay")] == ["b.delay", "d.delay"]


def test_the_new_delay_takes_a_name_that_is_free() -> None:
    made = unwrapped(lif((N,)))
    made.nodes["n.delay"] = nir.Scale(array(1.0))
    made.edges += [("in", "n.delay"), ("n.delay", "out")]
    flat = normalise(made, dt=1)
    assert flat.sources["n"] == ("in", "w")
    assert flat.sources["w"] == ("n.delay_",)
    (note,) = [note for note in flat.notes if note.kind == "feedback"]
    assert "'n'" in note
    assert "'w'" in note
    assert "'n.delay_'" in note
