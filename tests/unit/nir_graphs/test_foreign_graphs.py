"""What graphs of others mean, and what is refused: rows A4 to A17 of the list of faults, each with its siblings."""

from __future__ import annotations

import json
import math
import pickle
from fractions import Fraction
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.everywhere import (
    BACKENDS,
    Array,
    array,
    block,
    entry,
    graph,
    leave,
    lif,
    quarters,
    rate,
    refused,
    require,
    run_on,
)
from zoo.adapters.base import get_backend
from zoo.errors import GraphWarning, InvalidGraphError, InvalidInputError
from zoo.nir_graphs import importing, metadata, reference
from zoo.nir_graphs.flatten import MAX_DEPTH
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.nodes import FACTS
from zoo.nir_graphs.normalise import normalise

QUICK = ("reference", "snntorch", "norse", "spikingjelly", "sinabs")
T, B = 16, 16


def chain(*names: str) -> list[tuple[str, str]]:
    """Edges from each to the next."""
    return list(pairwise(names))


def scale(factor: float) -> nir.Scale:
    return nir.Scale(array(factor))


def single(node: Any, shape: tuple[int, ...], out: tuple[int, ...] | None = None, **note: Any) -> nir.NIRGraph:
    """in > node > out."""
    return graph({"in": entry(*shape), "node": node, "out": leave(*(out or shape))}, chain("in", "node", "out"), **note)


def kinds(made: nir.NIRGraph, **options: Any) -> list[str]:
    """What kinds of notes a graph gets."""
    return [note.kind for note in normalise(made, **options).notes]


# A4, A17: the length of a step


def test_times_without_dt_are_refused_with_the_smallest() -> None:
    """Named: node, field and value, so that the reader sees the unit."""
    nodes = {
        "in": entry(2), "slow": lif((2,), tau=0.02),
        "fast": nir.CubaLIF(*(np.full(2, n) for n in (0.01, 0.0025, 1, 0, 1))), "d": nir.Delay(array([0.004, 0.003])),
        "out": leave(2),
    }  # fmt: skip
    made = graph(nodes, chain("in", "slow", "fast", "d", "out"))
    refused(made, InvalidInputError, r"dt.*tau_mem 0\.0025 of the node 'fast' \(CubaLIF\)", dt=None)
    del made.nodes["fast"]
    made.edges = chain("in", "slow", "d", "out")
    refused(made, InvalidInputError, r"dt.*delay 0\.003 of the node 'd' \(Delay\)", dt=None)
    assert normalise(made, dt=1e-3).dt == 1e-3


@pytest.mark.parametrize("kind", sorted(k.__name__ for k, facts in FACTS.items() if facts.times))
def test_every_type_with_a_time_needs_dt(kind: str) -> None:
    values = {"delay": np.full(3, 2.0)} if kind == "Delay" else {}
    names = [*FACTS[getattr(nir, kind)].elements]
    node = getattr(nir, kind)(**({name: np.full(3, 2.0) for name in names} | values))
    refused(single(node, (3,)), InvalidInputError, "dt", dt=None)
    assert normalise(single(node, (3,)), dt=1).dt == 1


def test_without_times_dt_is_one_and_said() -> None:
    made = single(nir.IF(np.ones(2), np.ones(2)), (2,))
    flat = normalise(made)
    assert flat.dt == 1.0
    (note,) = flat.notes
    assert note.kind == "dt"
    x = quarters((T, B, 2))
    require(made, x, reference.run(made, x, dt=1).outputs["out"], dt=None, backends=QUICK)


def test_dt_of_the_metadata_and_of_the_caller() -> None:
    made = metadata.put(single(lif((2,)), (2,)), metadata.GraphInfo(dt=0.5))
    assert normalise(made).dt == 0.5
    assert normalise(made, dt=0.25).dt == 0.25
    assert [str(note) for note in normalise(made, dt=0.25).notes] == [
        "dt = 0.25, as the caller says; the metadata says 0.5"
    ]
    assert normalise(made, dt=0.5).notes == ()


def test_a_note_of_the_zoo_that_does_not_say_dt() -> None:
    made = single(lif((2,)), (2,), zoo=json.dumps({"format": 1}))
    with pytest.raises(InvalidInputError, match="length of a step"):
        normalise(made)
    assert normalise(made, dt=2).dt == 2


ONE = [
    1,
    1.0,
    np.float32(1),
    np.float64(1),
    np.int64(1),
    np.array(1.0),
    np.array([1.0]),
    torch.tensor(1.0),
    Fraction(1),
    True,
]


@pytest.mark.parametrize("dt", ONE, ids=lambda dt: type(dt).__name__ + str(getattr(dt, "shape", "")))
def test_dt_of_any_number_type(dt: Any) -> None:
    """A17: it is a number, and what is written again is JSON."""
    flat = normalise(single(lif((2,)), (2,)), dt=dt)
    assert type(flat.dt) is float
    assert flat.dt == 1.0
    assert json.loads(flat.to_nir().metadata["zoo"])["dt"] == 1.0
    x = quarters((T, B, 2))
    require(single(lif((2,)), (2,)), x, reference.run(flat, x).outputs["out"], dt=dt, backends=QUICK)


NO_STEPS = [0, -1, -1e-3, math.nan, math.inf, -math.inf, "1", b"1", "fast", [1, 2], (), {}, 1j, np.zeros(2), object()]


@pytest.mark.parametrize("dt", NO_STEPS, ids=lambda dt: type(dt).__name__ + str(dt)[:12].replace("<", ""))
def test_dt_that_is_no_positive_number(dt: Any) -> None:
    refused(single(lif((2,)), (2,)), InvalidInputError, "dt must be a positive number", dt=dt)


def test_steps_that_are_too_long_for_a_time_constant() -> None:
    """Seconds read as steps: dt / tau of 5000 makes every value explode; one of 1e400 is no number."""
    assert "unstable" in kinds(single(lif((2,), tau=2e-4), (2,)), dt=1)
    assert "unstable" not in kinds(single(lif((2,), tau=0.5), (2,)), dt=1)
    refused(single(lif((2,), tau=1e-310), (2,)), InvalidGraphError, r"'node' \(LIF\).*tau.*overflows")


def test_a_graph_that_is_normalised_keeps_its_dt() -> None:
    flat = normalise(single(lif((2,)), (2,)), dt=0.5)
    assert normalise(flat) is flat
    assert normalise(flat, dt=np.float32(0.5)) is flat
    with pytest.raises(InvalidInputError, match=r"dt = 0\.5"):
        normalise(flat, dt=1)


# names of nodes: row A5


def test_a_subgraph_and_a_node_of_the_same_flat_name() -> None:
    """3 inside and 2 outside make 5."""
    inner = block((1,), {"s": scale(3)}, chain("input", "s", "output"))
    made = graph(
        {"in": entry(1), "block": inner, "block.s": scale(2), "out": leave(1)},
        [("in", "block"), ("in", "block.s"), ("block", "out"), ("block.s", "out")],
    )  # fmt: skip
    require(made, np.ones((T, B, 1)), 5 * np.ones((T, B, 1)))
    assert [str(n) for n in normalise(made, dt=1).notes if n.kind == "name"] == [
        "the node 'block.s' of a subgraph is called 'block.s_', since another node has its name"
    ]


@st.composite
def nested_scales(draw: Any, depth: int = 0) -> tuple[nir.NIRGraph, float]:
    """(a graph of Scales in parallel and in subgraphs, its factor); names are drawn so that flat names collide."""
    words = draw(
        st.lists(
            st.sampled_from(["a", "b", "a.b", "a.a", "a.input", "a.b.a", "b_"]), unique=True, min_size=1, max_size=4
        )
    )
    nodes: dict[str, Any] = {"input": entry(1)}
    edges, total = [], 0.0
    for word in words:
        if depth < 3 and draw(st.booleans()):
            node, factor = draw(nested_scales(depth + 1))
        else:
            factor = float(draw(st.integers(-3, 3)))
            node = scale(factor)
        times = draw(st.integers(1, 2))
        nodes[word] = node
        edges += [("input", word)] * times + [(word, "output")]
        total += times * factor
    nodes["output"] = leave(1)
    return graph(nodes, draw(st.permutations(edges))), total


@settings(max_examples=60, deadline=None, derandomize=True)
@given(nested_scales())
def test_nested_names_never_overwrite_each_other(made: tuple[nir.NIRGraph, float]) -> None:
    found, factor = made
    flat = normalise(found, dt=1)
    assert reference.run(flat, np.ones((1, 1, 1))).outputs["output"].item() == factor
    assert normalise(flat.to_nir()).nodes.keys() == flat.nodes.keys()


# A6: edges into Inputs and out of Outputs


@pytest.mark.parametrize("edge", [("node", "in"), ("in", "in"), ("out", "node"), ("out", "out"), ("out", "in")])
def test_edges_at_the_wrong_end(edge: tuple[str, str]) -> None:
    made = single(lif((2,)), (2,))
    made.edges.append(edge)
    refused(made, InvalidGraphError, f"{edge[0]} -> {edge[1]}.*(into an Input|out of an Output)")


@pytest.mark.parametrize("edge", [("s", "input"), ("output", "s")])
def test_edges_at_the_wrong_end_in_a_subgraph(edge: tuple[str, str]) -> None:
    inner = block((2,), {"s": scale(1)}, [*chain("input", "s", "output"), edge])
    refused(single(inner, (2,)), InvalidGraphError, f"{edge[0]} -> {edge[1]} of the subgraph 'node'")


# A7: the same edge several times


def test_an_edge_listed_several_times_counts_as_often() -> None:
    nodes = {
        "in": entry(2),
        "k": scale(1),
        "out": leave(2),
        "fire": nir.Threshold(array([1.5, 2.5])),
        "spikes": leave(2),
    }
    edges = [("in", "k"), ("in", "k"), ("k", "out"), ("in", "k"), ("k", "fire"), ("fire", "spikes"), ("fire", "spikes")]
    x = quarters((T, B, 2), seed=1, low=-0.5, high=1)
    right = {"out": 3 * x, "spikes": 2.0 * (3 * x > [1.5, 2.5])}
    for backend in BACKENDS:
        found = run_on(backend, graph(nodes, edges), x, dt=1)
        for name, value in right.items():
            np.testing.assert_array_equal(found.outputs[name], value, err_msg=backend)
    assert kinds(graph(nodes, edges), dt=1).count("duplicate edge") == 2


def test_an_edge_into_a_subgraph_listed_twice() -> None:
    made = single(block((1,), {"s": scale(3)}, chain("input", "s", "output")), (1,))
    made.edges += [("in", "node"), ("node", "out")]
    require(made, np.ones((T, B, 1)), 12 * np.ones((T, B, 1)), backends=QUICK)


# A8: batches of matrices


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 4), (2, 2, 3, 4)])
def test_dense_weights_of_other_ranks(shape: tuple[int, ...]) -> None:
    for node in (nir.Linear(np.ones(shape)), nir.Affine(np.ones(shape), np.zeros(shape[:-1]))):
        made = single(node, (*shape[:-2], 4), (*shape[:-2], 3))
        refused(made, InvalidGraphError, rf"'node' \({type(node).__name__}\).*weight of shape")


def test_dense_weights_act_on_the_last_axis() -> None:
    weight, x = quarters((3, 4), seed=2), quarters((T, B, 2, 4), seed=3)
    right = np.stack([x[:, :, row] @ weight.T for row in range(2)], axis=2)
    require(single(nir.Linear(weight), (2, 4), (2, 3)), x, right, backends=QUICK)


# A9: parameters that broadcast


SHAPE = (3, 2, 3)
FORMS = [(), (1,), (1, 1, 1), (3, 1, 1), (1, 2, 1), (1, 1, 3), (3, 1, 3), SHAPE]
VALUES = {
    "tau": 2.0, "tau_mem": 2.0, "tau_syn": 4.0, "r": 2.0, "v_leak": 0.25, "v_threshold": 0.5, "v_reset": -0.25, "w_in": 1.5,
    "threshold": 0.25, "scale": 0.75, "delay": 2.0,
}  # fmt: skip


def with_parameters(kind: type, form: tuple[int, ...], seed: int = 0) -> tuple[nir.NIRNode, nir.NIRNode]:
    """(a node whose parameters have a form, the same with all axes)."""
    rng = np.random.default_rng(seed)
    small, full = {}, {}
    for name in FACTS[kind].elements:
        factors = rng.choice([1.0, 2.0], form)
        small[name] = VALUES[name] * factors
        full[name] = np.array(np.broadcast_to(small[name], SHAPE))
    node = kind(**{name: np.ones(()) for name in small})
    for name, value in small.items():
        setattr(node, name, value)
    return node, kind(**full)


ELEMENTWISE = [kind for kind, facts in FACTS.items() if facts.elements]


@pytest.mark.parametrize("kind", ELEMENTWISE, ids=lambda kind: kind.__name__)
def test_parameters_broadcast(kind: type) -> None:
    x = quarters((T, B, *SHAPE), seed=4)
    for index, form in enumerate(FORMS):
        node, full = with_parameters(kind, form, index)
        right = reference.run(single(full, SHAPE), x, dt=1).outputs["out"]
        if FACTS[kind].spiking:
            rate(right, 0.02, 0.7)
        require(single(node, SHAPE), x, right, backends=QUICK)
        said = kinds(single(node, SHAPE), dt=1)
        assert said.count("broadcast") == (0 if form == SHAPE else len(FACTS[kind].elements))


@pytest.mark.parametrize("kind", [k for k in ELEMENTWISE if k is not nir.Scale], ids=lambda kind: kind.__name__)
def test_parameters_broadcast_in_recurrent_graphs(kind: type) -> None:
    """x > n > conv > n, with every form; the Delay by itself closes its cycle."""
    conv = nir.Conv2d(None, quarters((3, 3, 1, 1), seed=5, low=-0.5, high=0.5), (1, 1), (0, 0), (1, 1), 1, np.zeros(3))
    x = quarters((T, 4, *SHAPE), seed=6, high=1)
    edges = [("in", "n"), ("n", "w"), ("w", "n"), ("n", "out")]
    for index, form in enumerate([(), (1,), (3, 1, 1)]):
        node, full = with_parameters(kind, form, index)
        made, whole = (
            graph({"in": entry(*SHAPE), "n": n, "w": conv, "out": leave(*SHAPE)}, edges) for n in (node, full)
        )
        right = reference.run(whole, x, dt=1).outputs["out"]
        require(made, x, right, backends=("reference", "snntorch", "sinabs"))
        if form == ():
            require(made, x, right, backends=("jax",))


@pytest.mark.parametrize("kind", ELEMENTWISE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("form", [(3,), (2, 3), (1, 3), (3, 1), (1, 3, 2, 3), (2, 1, 1), (3, 2, 2)], ids=str)
def test_parameters_of_ambiguous_or_other_shapes(kind: type, form: tuple[int, ...]) -> None:
    """(3,) on (3, 2, 3) may mean channels or columns: NIR does not say, so neither does the zoo."""
    name = FACTS[kind].elements[-1]
    node, _ = with_parameters(kind, ())
    setattr(node, name, np.ones(form))
    with pytest.raises(InvalidGraphError, match=rf"'node' \({kind.__name__}\) has an? {name} of shape"):
        normalise(single(node, SHAPE), dt=1)


def test_bias_of_one_number_is_said() -> None:
    node = nir.Affine(quarters((3, 2)), array([0.5]))
    x = quarters((T, B, 2))
    require(single(node, (2,), (3,)), x, x @ node.weight.T + 0.5, backends=QUICK)
    assert "broadcast" in kinds(single(node, (2,), (3,)))


# A11, A12: number types of other tools


TYPES: dict[str, Any] = {
    "torch": torch.tensor,
    "torch with gradient": lambda a: torch.tensor(a, requires_grad=True),
    "torch float16": lambda a: torch.tensor(a, dtype=torch.float16),
    "torch bfloat16": lambda a: torch.tensor(a, dtype=torch.bfloat16),
    "torch integers": lambda a: torch.tensor(4 * a).to(torch.int64),
    "big-endian": lambda a: a.astype(">f8"),
    "big-endian float32": lambda a: a.astype(">f4"),
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "integers": lambda a: (4 * a).astype(np.int32),
    "big-endian integers": lambda a: (4 * a).astype(">i2"),
    "bytes": lambda a: np.abs(4 * a).astype(np.uint8),
    "booleans": lambda a: a > 0,
    "Fortran order": np.asfortranarray,
    "a view from the end": lambda a: np.ascontiguousarray(a[::-1])[::-1],
}


@pytest.mark.parametrize("name", TYPES)
def test_number_types(name: str) -> None:
    weight, bias = quarters((3, 4), seed=7), quarters((3,), seed=8)
    given = TYPES[name](weight), TYPES[name](bias), TYPES[name](np.full(3, 0.5))
    plain = [
        np.array(value.detach().double().numpy() if isinstance(value, torch.Tensor) else value, np.float64)
        for value in given
    ]
    nodes = {
        "in": entry(4),
        "w": nir.Affine(given[0], given[1]),
        "z": nir.Threshold(given[2]),
        "out": leave(3),
        "u": leave(3),
    }
    x = quarters((T, B, 4), seed=9)
    u = x @ plain[0].T + plain[1]
    require(
        graph(nodes, [*chain("in", "w", "z", "out"), ("w", "u")]),
        x,
        {"u": u, "out": (u > plain[2]).astype(float)},
        backends=QUICK,
    )
    flat = normalise(graph(nodes, [*chain("in", "w", "z", "out"), ("w", "u")]))
    assert flat.nodes["w"]["weight"].dtype in {np.dtype("=f4"), np.dtype("=f8")}


@pytest.mark.parametrize("kind", [k for k in FACTS if FACTS[k].spiking], ids=lambda kind: kind.__name__)
def test_torch_tensors_as_parameters_of_every_neuron(kind: type) -> None:
    """In-memory exports of three frameworks."""
    _, full = with_parameters(kind, SHAPE, 3)
    node, _ = with_parameters(kind, ())
    for name in FACTS[kind].elements:  # nir itself cannot make a CubaLIF of tensors
        setattr(node, name, torch.tensor(getattr(full, name), requires_grad=True))
    x = quarters((T, B, *SHAPE), seed=10)
    require(single(node, SHAPE), x, reference.run(single(full, SHAPE), x, dt=1).outputs["out"], backends=QUICK)


def test_what_is_rounded_is_said() -> None:
    third = np.ones(2, np.longdouble) / 3
    assert kinds(single(nir.Scale(third), (2,))) == ["dt", "number type"] or np.finfo(np.longdouble).bits == 64
    assert "number type" not in kinds(single(nir.Scale(np.ones(2, np.longdouble)), (2,)))
    assert "number type" not in kinds(single(nir.Scale(np.full(2, 0.1, np.float32)), (2,)))


@pytest.mark.parametrize(
    "value",
    [torch.ones(2).to_mkldnn(), torch.zeros(2, dtype=torch.complex64), torch.zeros(2, device="meta")],
    ids=["opaque", "complex", "meta"],
)
def test_tensors_that_are_no_real_numbers(value: torch.Tensor) -> None:
    node = nir.Scale(np.ones(2))
    node.scale = value
    refused(single(node, (2,)), InvalidGraphError, r"'node' \(Scale\).*scale", backends=("snntorch", "jax"))


def test_nobody_can_change_a_graph_that_was_normalised() -> None:
    """Parameters are copied: what the caller does to his arrays afterwards has no effect."""
    weight, shared = np.ones((2, 2)), torch.ones(2)
    viewed = np.broadcast_to(shared.numpy()[:1], (2,))
    nodes = {"in": entry(2), "w": nir.Linear(weight), "k": nir.Scale(shared), "l": nir.Scale(viewed), "out": leave(2)}
    flat = normalise(graph(nodes, chain("in", "w", "k", "l", "out")))
    weight[:] = 7
    shared[:] = 7
    assert reference.run(flat, np.ones((1, 1, 2))).outputs["out"].tolist() == [[[2.0, 2.0]]]
    with pytest.raises(ValueError, match="read-only"):
        flat.nodes["w"]["weight"][0, 0] = 3


# strings and metadata: A12


@pytest.mark.parametrize("form", [str.encode, np.str_, np.bytes_, np.array], ids=["bytes", "str_", "bytes_", "0-d"])
def test_names_in_edges_of_any_string_type(form: Any) -> None:
    edges: list[Any] = [(form("in"), form("node")), [form("node"), "out"]]
    made = graph({"in": entry(1), "node": scale(3), "out": leave(1)}, edges)
    require(made, np.ones((T, B, 1)), 3 * np.ones((T, B, 1)), backends=QUICK)
    table = np.array([["in", "node"], ["node", "out"]], "S16")
    require(graph(made.nodes, table), np.ones((T, B, 1)), 3 * np.ones((T, B, 1)), backends=QUICK)


def test_edges_without_an_order_are_refused() -> None:
    made = single(scale(1), (1,))
    made.edges = set(made.edges)
    refused(made, InvalidGraphError, "edges of the graph are a set.*list", backends=("snntorch",))


FOREIGN = [
    {"zoo": "lions"}, {"zoo": 5}, {"zoo": np.arange(3)}, {"zoo": {"format": 1}}, {"zoo": "[1]"}, {"zoo": '{"format": "a"}'},
    {"zoo": '{"keepers": 3}'}, {"zoo": '{"format": true}'}, {"zoo": None}, {"zoo": b"\xff"},
]  # fmt: skip


@pytest.mark.parametrize("note", FOREIGN, ids=str)
def test_a_zoo_key_of_another_tool(note: dict[str, Any]) -> None:
    made = single(scale(2), (1,), **note)
    require(made, np.ones((T, B, 1)), 2 * np.ones((T, B, 1)), dt=None, backends=QUICK)
    assert kinds(made)[:2] == ["metadata", "dt"]


def test_metadata_of_others_is_kept() -> None:
    made = single(scale(2), (1,), accuracy=math.nan, weights=np.arange(3), author="Ann")
    made.nodes["node"].metadata = {"core": 5}
    flat = normalise(made)
    assert flat.metadata["author"] == "Ann"
    assert math.isnan(flat.metadata["accuracy"])
    assert flat.nodes["node"].metadata == {"core": 5}
    again = flat.to_nir()
    assert again.metadata["author"] == "Ann"
    assert again.nodes["node"].metadata == {"core": 5}
    made.metadata = "no dictionary"
    made.nodes["node"].metadata = "no dictionary"
    assert normalise(made).metadata == {}


# A15: nodes that nothing enters


def test_dead_nodes_are_removed_by_name() -> None:
    """All of them, also those that read others: a spike of theirs would depend on nothing."""
    made = single(scale(2), (1,))
    names = [f"dead {i}" for i in range(12)]
    made.nodes |= {name: lif((1,)) for name in names} | {
        "block": block((1,), {"k": scale(1)}, chain("input", "k", "output"))
    }
    made.edges += [*chain(*names), ("in", "dead 3")]
    flat = normalise(made, dt=1)
    assert list(flat.nodes) == ["in", "node", "out"]
    said = "\n".join(note for note in flat.notes if note.kind == "dead nodes")
    for name in (*names, "block.input", "block.k"):
        assert f"'{name}'" in said
    require(made, np.ones((T, B, 1)), 2 * np.ones((T, B, 1)), backends=QUICK)


def test_a_node_without_input_that_matters_is_refused_by_name() -> None:
    made = single(scale(2), (1,))
    made.nodes |= {"lonely": lif((1,)), "middle": scale(1), "harmless": scale(1)}
    made.edges += [("lonely", "middle"), ("middle", "out")]
    refused(made, InvalidGraphError, r"'lonely' \(LIF\) has no input, but an Output depends on it")
    made = single(scale(2), (1,))
    made.nodes["second"] = leave(1)
    refused(made, InvalidGraphError, r"'second' \(Output\) has no input")
    made = single(scale(2), (1,))
    made.nodes["block"] = block((1,), {"k": scale(1)}, chain("input", "k", "output"))
    made.edges.append(("block", "out"))
    refused(made, InvalidGraphError, r"border 'block\.input' of a subgraph has no input")


def test_what_nobody_reads_stays() -> None:
    """A neuron without readers has input, so it can be recorded."""
    made = single(scale(2), (1,))
    made.nodes["aside"] = nir.Threshold(array([0.5]))
    made.edges.append(("in", "aside"))
    for backend in QUICK:
        assert run_on(backend, made, np.ones((T, B, 1)), dt=1).spikes["aside"].all()


def test_a_ring_that_nothing_enters_excites_itself() -> None:
    """n > w > n, unconnected to the Input: shapes come from the parameters. With v_leak above threshold it fires."""
    n, w = lif((3,), v_leak=1.0, threshold=0.75), nir.Linear(-0.5 * np.eye(3))
    made = graph({"in": entry(1), "n": n, "w": w, "out": leave(3)}, [("n", "w"), ("w", "n"), ("n", "out")])
    v: Array = np.zeros(3)
    z = v
    right = []
    for _ in range(T):
        v = v + 0.5 * ((1.0 - v) + z @ w.weight.T)
        z = (v > 0.75).astype(float)
        v = np.where(z, 0.0, v)
        right.append(z)
    rate(np.stack(right))
    require(made, np.zeros((T, B, 1)), np.repeat(np.stack(right)[:, None], B, 1))
    small = lif((), v_leak=1.0, threshold=0.75)  # one number: the weight tells the shape
    made.nodes["n"] = small
    require(made, np.zeros((T, B, 1)), np.repeat(np.stack(right)[:, None], B, 1), backends=QUICK)
    made.nodes["w"] = scale(-0.5)
    made.nodes["out"] = nir.Output({"output": None})
    refused(made, InvalidGraphError, "shapes of the nodes .*'n'.*cannot be known", backends=QUICK)


# A16: what was changed is said


def test_every_change_is_in_the_notes_and_one_warning_per_kind() -> None:
    inner = block((2,), {"n": lif((), tau=0.25)}, chain("input", "n", "output"))
    nodes = {
        "in": entry(2), "s": inner, "w": nir.Linear(np.eye(2)), "out": leave(2), "lonely": scale(1),
        "k": nir.Scale(np.ones(2, np.longdouble) / 3),
    }  # fmt: skip
    edges = [("in", "s"), ("in", "s"), ("s", "w"), ("w", "s"), ("s", "k"), ("k", "out")]
    made = graph(nodes, edges, zoo="lions")
    notes = normalise(made, dt=1).notes
    wanted = {
        "subgraph",
        "feedback",
        "broadcast",
        "duplicate edge",
        "dead nodes",
        "metadata",
        "unstable",
        "number type",
    }
    assert {note.kind for note in notes} == wanted - (set() if np.finfo(np.longdouble).bits > 64 else {"number type"})
    for backend in QUICK:
        assert get_backend(backend).build(made, dt=1).graph.notes == notes
    with pytest.warns(GraphWarning) as caught:
        importing.warn_of(notes)
    assert len(caught) == len({note.kind for note in notes})
    assert any("5 more of this kind" in str(w.message) or "4 more of this kind" in str(w.message) for w in caught)
    again = pickle.loads(pickle.dumps(notes))
    assert again == notes
    assert [note.kind for note in again] == [note.kind for note in notes]


def test_a_plain_graph_has_nothing_to_say() -> None:
    assert normalise(metadata.put(single(lif((2,)), (2,)), metadata.GraphInfo())).notes == ()


def test_stated_shapes_that_are_wrong_are_said() -> None:
    """Old files state shapes of convolutions and Flattens that NIR inferred wrongly; the real ones hold."""
    conv = nir.Conv2d((9, 9), np.ones((1, 1, 1, 1)), (1, 1), (0, 0), (1, 1), 1, np.zeros(1))
    flat = nir.Flatten({"input": np.array([7])}, 0, -1)
    made = graph(
        {"in": entry(1, 2, 2), "conv": conv, "flat": flat, "out": leave(4)}, chain("in", "conv", "flat", "out")
    )
    assert kinds(made).count("stated shape") == 2
    require(made, np.ones((T, B, 1, 2, 2)), np.ones((T, B, 4)), backends=QUICK)


# borders of subgraphs


def test_the_sum_at_a_border_comes_first() -> None:
    """x > n, (a + b) > s > n: the border adds a and b before x, whatever the order of the edges into n."""
    big, small = scale(1e16), scale(-1e16)
    inner = block((1,), {"k": scale(1)}, chain("input", "k", "output"))
    nodes = {"in": entry(1), "big": big, "small": small, "s": inner, "out": leave(1)}
    edges = [("in", "big"), ("in", "small"), ("in", "out"), ("big", "s"), ("small", "s"), ("s", "out")]
    require(graph(nodes, edges), np.ones((T, B, 1)), np.ones((T, B, 1)))  # 1 + (1e16 - 1e16)
    flat = [("in", "big"), ("in", "small"), ("in", "out"), ("big", "out"), ("small", "out")]
    require(
        graph({k: v for k, v in nodes.items() if k != "s"}, flat),
        np.ones((T, B, 1)),
        np.zeros((T, B, 1)),
        backends=QUICK,
    )


def test_borders_that_state_another_shape() -> None:
    for wrong in ("input", "output"):
        inner = block((2,), {"k": scale(1)}, chain("input", "k", "output"))
        inner.nodes[wrong] = entry(3) if wrong == "input" else leave(3)
        refused(single(inner, (2,)), InvalidGraphError, rf"border 'node\.{wrong}'.*\(3,\).*\(2,\)", backends=QUICK)
        inner.nodes[wrong] = nir.Input({"input": None}) if wrong == "input" else nir.Output({"output": None})
        assert normalise(single(inner, (2,))).shapes["node.k"] == (2,)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("kind", [nir.Input, nir.Output])
def test_subgraphs_need_one_input_and_one_output(kind: type, count: int) -> None:
    inner = block((2,), {"k": scale(1)}, chain("input", "k", "output"))
    name = kind.__name__.lower()
    if count:
        inner.nodes["second"] = kind({name: np.array([2])})
    else:
        del inner.nodes[name]
        inner.edges = [edge for edge in inner.edges if name not in edge]
    refused(single(inner, (2,)), InvalidGraphError, rf"'node' has {count} {kind.__name__} nodes", backends=QUICK)


def test_the_file_order_of_nodes_does_not_matter() -> None:
    """nir writes nodes in the order of the alphabet."""
    inner = block((2,), {"n": lif((2,)), "k": scale(2)}, chain("input", "k", "n", "output"))
    nodes = {"in": entry(2), "s": inner, "w": nir.Linear(quarters((2, 2), seed=11)), "out": leave(2)}
    edges = [("in", "s"), ("s", "w"), ("w", "s"), ("s", "out")]
    x = quarters((T, B, 2), seed=12)
    first = reference.run(graph(nodes, edges), x, dt=1).outputs["out"]
    turned = graph(dict(sorted(nodes.items(), reverse=True)), edges)
    require(turned, x, first, backends=QUICK)


# sizes


def test_chains_and_fan_in_of_any_size() -> None:
    """20,000 nodes in a row, listed from the end; neither the stack nor a square of the number of nodes is in the way."""
    names = [f"n{i}" for i in range(20_000)]
    nodes = {"out": leave(1), **{name: scale(1) for name in reversed(names)}, "in": entry(1)}
    flat = normalise(graph(nodes, chain("in", *names, "out")))
    assert flat.order[0] == "in"
    assert len(flat.components) == 20_002
    assert reference.run(flat, np.ones((1, 1, 1))).outputs["out"].item() == 1
    assert isinstance(pickle.loads(pickle.dumps(flat)), FlatGraph)
    fan = graph({"in": entry(1), "k": scale(1), "out": leave(1)}, [("in", "k")] * 50_000 + [("k", "out")])
    assert reference.run(fan, np.ones((1, 1, 1))).outputs["out"].item() == 50_000


def test_many_loops_and_many_subgraphs() -> None:
    count = 2_000
    nodes: dict[str, Any] = {"in": entry(1), "out": leave(1)}
    edges = []
    for i in range(count):
        inner = block((1,), {"n": nir.Threshold(array([0.5]))}, chain("input", "n", "output"))
        nodes |= {f"s{i}": inner, f"w{i}": scale(-1)}
        edges += [("in", f"s{i}"), (f"s{i}", f"w{i}"), (f"w{i}", f"s{i}"), (f"s{i}", "out")]
    flat = normalise(graph(nodes, edges))
    assert reference.run(flat, np.ones((2, 1, 1))).outputs["out"].ravel().tolist() == [count, 0]


def test_nesting_without_end() -> None:
    made = single(scale(1), (1,))
    made.nodes["itself"] = made
    refused(made, InvalidGraphError, f"nested more than {MAX_DEPTH}", backends=("snntorch",))
    doubled = block((1,), {}, chain("input", "output"))
    for _ in range(50):
        doubled = block((1,), {"a": doubled, "b": doubled}, chain("input", "a", "b", "output"))
    refused(single(doubled, (1,)), InvalidGraphError, "more than .* nodes and edges", backends=("snntorch",))


# inputs of a run: A10


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_that_do_not_fit(backend: str) -> None:
    nodes = {"a": entry(2), "b": entry(2), "n": lif((2,)), "out": leave(2)}
    runnable = get_backend(backend).build(graph(nodes, [("a", "n"), ("b", "n"), ("n", "out")]), dt=1)
    good = torch.zeros(4, 3, 2)
    bad: list[Any] = [
        {"a": good, "b": good[:3]}, {"a": good, "b": good[:, :2]}, {"a": good, "b": good[..., :1]}, {"a": good},
        {"a": good, "b": good, "c": good}, {"a": good, "c": good}, {"a": good, "b": good[:, 0]}, {"a": good[:0], "b": good[:0]},
        {"a": good[:, :0], "b": good[:, :0]}, good, {},
    ]  # fmt: skip
    for value in (math.nan, math.inf, -math.inf):
        spoiled = good.clone()
        spoiled[-1, -1, -1] = value
        bad.append({"a": good, "b": spoiled})
    for x in bad:
        with pytest.raises(InvalidInputError):
            runnable(x)
        with pytest.raises(InvalidInputError):
            runnable.run(x)
    assert not np.any(runnable({"a": good, "b": good})["out"].detach().numpy())


def right_after_long(x: Array, steps: int) -> Array:
    return np.concatenate([np.zeros_like(x[:steps]), x[:-steps]])


def test_a_delay_of_400_steps() -> None:
    """A14."""
    x = quarters((420, 2, 1), seed=13)
    require(single(nir.Delay(array([400.0])), (1,)), x, right_after_long(x, 400))
