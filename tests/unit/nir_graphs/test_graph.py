"""``FlatGraph``: nothing changes it, everything that it derives is right, and it survives copies, pickles and files."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from zoo.errors import InvalidGraphError
from zoo.nir_graphs import io, reference
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import FlatGraph, FlatNode
from zoo.nir_graphs.metadata import GraphInfo
from zoo.nir_graphs.nodes import FACTS
from zoo.nir_graphs.normalise import normalise

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> Any:
    """Positive random numbers."""
    return RNG.uniform(0.5, 2, shape)


def full(value: float, *shape: int) -> Any:
    return np.full(shape, value)


def neuron(kind: Any, *names: str, shape: tuple[int, ...] = (2, 3, 4)) -> nir.NIRNode:
    node: nir.NIRNode = kind(**{name: numbers(*shape) for name in names})
    return node


def with_fields(node: nir.NIRNode, **fields: Any) -> nir.NIRNode:
    """The same node with other values, of shapes that its constructor would not take."""
    for name, value in fields.items():
        setattr(node, name, value)
    return node


FIRE = ("v_threshold", "v_reset")
CUBA = ("tau_syn", "tau_mem", "r", "v_leak", "w_in")
NODES: dict[str, tuple[nir.NIRNode, tuple[int, ...]]] = {
    "Affine": (nir.Affine(numbers(5, 4), numbers(5)), (4,)),
    "Affine on matrices": (nir.Affine(numbers(5, 4), numbers(5)), (2, 4)),
    "Linear": (nir.Linear(numbers(5, 4).astype(np.float32)), (4,)),
    "Conv1d": (nir.Conv1d(None, numbers(4, 1, 3), 2, 1, 2, 2, numbers(4)), (2, 9)),
    "Conv1d same": (nir.Conv1d(None, numbers(4, 2, 2), 1, "same", 1, 1, numbers(4)), (2, 9)),
    "Conv2d": (nir.Conv2d(None, numbers(4, 1, 3, 2), (2, 1), (1, 0), (1, 2), 2, numbers(4)), (2, 7, 6)),
    "Conv2d same": (nir.Conv2d(None, numbers(4, 2, 2, 3), 1, "same", 1, 1, numbers(4)), (2, 7, 6)),
    "Conv2d valid": (nir.Conv2d(None, numbers(4, 2, 2, 3), 1, "valid", 1, 1, numbers(4)), (2, 7, 6)),
    "SumPool2d": (nir.SumPool2d(np.array([2, 3]), np.array([1, 2]), np.array([1, 0])), (2, 7, 6)),
    "AvgPool2d": (nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), (2, 7, 6)),
    "Flatten": (nir.Flatten({"input": np.array([2, 3, 4])}, 0, -1), (2, 3, 4)),
    "Flatten some axes": (nir.Flatten({"input": np.array([2, 3, 4])}, 1, 2), (2, 3, 4)),
    "Scale": (nir.Scale(numbers(2, 3, 4)), (2, 3, 4)),
    "Scale by a number": (nir.Scale(np.array(2.5)), (2, 3, 4)),
    "Scale per row": (nir.Scale(numbers(1, 3, 1)), (2, 3, 4)),
    "Delay": (nir.Delay(RNG.integers(1, 4, (2, 3, 4)) * 0.5), (2, 3, 4)),
    "Delay by a number": (nir.Delay(np.array(1.5)), (2, 3, 4)),
    "Threshold": (nir.Threshold(numbers(2, 3, 4)), (2, 3, 4)),
    "I": (neuron(nir.I, "r"), (2, 3, 4)),
    "IF": (neuron(nir.IF, "r", *FIRE), (2, 3, 4)),
    "LI": (neuron(nir.LI, "tau", "r", "v_leak"), (2, 3, 4)),
    "LIF": (neuron(nir.LIF, "tau", "r", "v_leak", *FIRE), (2, 3, 4)),
    "LIF per channel": (
        with_fields(
            neuron(nir.LIF, "tau", "r", "v_leak", *FIRE, shape=(2, 1, 1)), tau=np.array(2.0), v_leak=np.zeros(1)
        ),
        (2, 3, 4),
    ),
    "CubaLI": (neuron(nir.CubaLI, *CUBA), (2, 3, 4)),
    "CubaLIF": (neuron(nir.CubaLIF, *CUBA, *FIRE), (2, 3, 4)),
}
"""(node, shape of its input), for every type."""


def graph_of(node: nir.NIRNode, shape: tuple[int, ...], metadata: dict[str, Any] | None = None) -> nir.NIRGraph:
    """Input -> node -> Output."""
    nodes = {"input": nir.Input({"input": np.array(shape)}), "node": node, "out": nir.Output({"output": None})}
    return nir.NIRGraph(nodes, [("input", "node"), ("node", "out")], metadata or {}, type_check=False)


def flat(name: str) -> FlatGraph:
    return normalise(graph_of(*NODES[name]), dt=0.5)


def require_same(one: FlatGraph, other: FlatGraph) -> None:
    """All that makes a graph, down to the types of its numbers."""
    assert one.edges == other.edges
    assert (one.dt, one.info) == (other.dt, other.info)
    assert dict(one.metadata) == dict(other.metadata)
    assert list(one.nodes) == list(other.nodes)
    for name, node in one.nodes.items():
        twin = other.nodes[name]
        assert (node.name, node.type, node.input_shape, node.shape) == (
            twin.name, twin.type, twin.input_shape, twin.shape,
        )  # fmt: skip
        assert dict(node.metadata) == dict(twin.metadata)
        assert set(node.values) == set(twin.values)
        for field, value in node.values.items():
            if isinstance(value, np.ndarray):
                assert (value.dtype, value.shape) == (twin[field].dtype, twin[field].shape), (name, field)
                np.testing.assert_array_equal(value, twin[field])
            else:
                assert value == twin[field], (name, field)
                assert type(value) is type(twin[field])


def test_every_node_type_is_tried_here() -> None:
    assert {type(node) for node, _ in NODES.values()} | {nir.Input, nir.Output} == set(FACTS)


@pytest.mark.parametrize("name", NODES)
def test_back_to_nir_and_here_again(name: str) -> None:
    graph = flat(name)
    again = normalise(graph.to_nir())
    require_same(graph, again)
    assert not again.notes  # everything is in its final form


@pytest.mark.parametrize("name", NODES)
def test_through_a_file_that_stock_nir_reads(name: str, tmp_path: Path) -> None:
    graph = flat(name)
    nir.write(tmp_path / "plain.nir", graph.to_nir())
    require_same(graph, normalise(nir.read(tmp_path / "plain.nir", type_check=False)))
    io.write(graph.to_nir(), tmp_path / "ours.nir")
    require_same(graph, normalise(nir.read(tmp_path / "ours.nir", type_check=False)))


@pytest.mark.parametrize("name", NODES)
def test_pickles_and_copies(name: str) -> None:
    graph = flat(name)
    copied = pickle.loads(pickle.dumps(graph))
    require_same(graph, copied)
    assert (copied.order, copied.components, copied.shapes) == (graph.order, graph.components, graph.shapes)
    assert copied.notes == graph.notes
    assert [note.kind for note in copied.notes] == [note.kind for note in graph.notes]
    assert copy.deepcopy(graph) is graph
    assert copy.copy(graph) is graph
    require_unchangeable(copied)


@pytest.mark.parametrize("name", NODES)
def test_nothing_can_be_changed(name: str) -> None:
    require_unchangeable(flat(name))


def require_unchangeable(graph: FlatGraph) -> None:
    node = graph.nodes["node"]
    changes: list[Any] = [
        lambda: setattr(graph, "dt", 2.0),
        lambda: setattr(node, "shape", ()),
        lambda: graph.nodes.update({}),  # type: ignore[attr-defined]
        lambda: graph.sources.update({}),  # type: ignore[attr-defined]
        lambda: node.values.pop("weight"),  # type: ignore[attr-defined]
        lambda: node.metadata.update(a=1),  # type: ignore[attr-defined]
        lambda: graph.metadata.update(a=1),  # type: ignore[attr-defined]
    ]
    for change in changes:
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(TypeError):
        graph.nodes["node"] = node  # type: ignore[index]
    with pytest.raises(TypeError):
        graph.edges[0] = ("a", "b")  # type: ignore[index]
    arrays = [value for value in node.values.values() if isinstance(value, np.ndarray)]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_later_changes_of_the_nir_graph_do_not_reach_the_flat_one() -> None:
    weight = np.ones((2, 3))
    node = with_fields(nir.Linear(weight), metadata={"names": ["one"]})
    source = graph_of(node, (3,), {"author": "someone", "papers": ["first"]})
    graph = normalise(source)
    weight[...] = 7
    node.metadata["names"].append("two")
    source.metadata["papers"].append("second")
    source.edges.append(("input", "node"))
    source.metadata["author"] = "somebody else"
    source.nodes["more"] = nir.Scale(np.ones(3))
    assert graph.nodes["node"]["weight"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert graph.edges == (("input", "node"), ("node", "out"))
    assert graph.metadata == {"author": "someone", "papers": ["first"]}
    assert graph.nodes["node"].metadata == {"names": ["one"]}
    assert list(graph.nodes) == ["input", "node", "out"]


def test_changes_of_the_nir_form_do_not_reach_back() -> None:
    graph = normalise(graph_of(nir.Linear(np.ones((2, 3))), (3,), {"author": "someone", "papers": ["first"]}))
    made = graph.to_nir()
    made.metadata["author"] = "somebody else"
    made.metadata["papers"].append("second")
    made.nodes.pop("node")
    made.edges.clear()
    assert graph.metadata == {"author": "someone", "papers": ["first"]}
    assert list(graph.nodes) == ["input", "node", "out"]
    with pytest.raises(ValueError, match="read-only"):
        graph.to_nir().nodes["node"].weight[0, 0] = 2


def test_metadata_of_graph_and_nodes_is_kept(tmp_path: Path) -> None:
    node = with_fields(nir.Scale(np.ones(3)), metadata={"layer": "first"})
    info = GraphInfo(dt=1.0, time_steps=4, image_size=(8, 16), input_grid=[-8.0, 0.0, 1.0])
    graph = normalise(graph_of(node, (3,), {"author": "someone"})).with_info(info)
    for again in (normalise(graph.to_nir()), pickle.loads(pickle.dumps(graph))):
        require_same(graph, again)
    nir.write(tmp_path / "graph.nir", graph.to_nir())
    again = normalise(nir.read(tmp_path / "graph.nir", type_check=False))
    assert again.info == info
    assert again.metadata == {"author": "someone"}
    assert again.nodes["node"].metadata == {"layer": "first"}


def test_notes_and_info_are_added_to_a_new_graph() -> None:
    graph = flat("Scale")
    more = graph.with_notes([Note("test", "something was changed")])
    assert [*more.notes] == [*graph.notes, "something was changed"]
    assert more.notes[-1].kind == "test"
    other = graph.with_info(GraphInfo(dt=7.0, time_steps=3))
    assert (other.info.time_steps, other.info.dt, other.dt) == (3, 0.5, 0.5)
    assert graph.info.time_steps is None


def wired(nodes: Mapping[str, nir.NIRNode], *edges: str) -> FlatGraph:
    """A graph of values of shape (2,), its edges written as "a>b"."""
    pairs = [(a, b) for a, _, b in (edge.partition(">") for edge in edges)]
    borders = {name for pair in pairs for name in pair} - set(nodes)
    added = {
        name: nir.Output({"output": None}) if name.startswith("out") else nir.Input({"input": np.array([2])})
        for name in sorted(borders)
    }
    return normalise(nir.NIRGraph({**added, **nodes}, pairs, type_check=False), dt=1)


def scales(names: str) -> dict[str, nir.NIRNode]:
    return {name: nir.Scale(np.ones(2)) for name in names}


def test_sources_and_targets_keep_the_order_of_the_edges() -> None:
    graph = wired(scales("abc"), "in>a", "c>out", "in>b", "b>c", "a>c", "in>c", "b>c", "a>out")
    assert graph.sources["c"] == ("b", "a", "in", "b")
    assert graph.sources["out"] == ("c", "a")
    assert graph.targets["in"] == ("a", "b", "c")
    assert graph.targets["a"] == ("c", "out")
    assert graph.targets["b"] == ("c", "c")
    assert (graph.inputs, graph.outputs) == (("in",), ("out",))


def test_the_order_comes_from_the_edges_not_from_the_file() -> None:
    graph = wired(scales("cba"), "in>a", "a>b", "b>c", "c>out", "in>c")
    assert graph.order == ("in", "a", "b", "c", "out")
    assert graph.components == (("in",), ("a",), ("b",), ("c",), ("out",))
    assert list(graph.nodes) == ["in", "out", "c", "b", "a"]
    assert not any(graph.is_cycle(component) for component in graph.components)
    assert not graph.has_memory


def test_a_delay_reads_the_step_before() -> None:
    nodes = {**scales("ab"), "delay": nir.Delay(np.ones(2))}
    graph = wired(nodes, "in>a", "a>b", "b>delay", "delay>a", "b>out")
    place = {name: index for index, name in enumerate(graph.order)}
    assert place["in"] < place["a"] < place["b"] < place["out"]
    assert place["delay"] < place["a"]
    cycles = [component for component in graph.components if graph.is_cycle(component)]
    assert [set(component) for component in cycles] == [{"a", "b", "delay"}]
    position = {name: i for i, component in enumerate(graph.components) for name in component}
    assert position["in"] < position["a"] == position["b"] == position["delay"] < position["out"]
    assert graph.has_memory


def test_two_cycles_that_share_nothing_are_two_components() -> None:
    nodes = {**scales("ab"), "d": nir.Delay(np.ones(2)), "e": nir.Delay(np.ones(2))}
    graph = wired(nodes, "in>a", "a>d", "d>a", "a>b", "b>e", "e>b", "b>out")
    assert [set(c) for c in graph.components if graph.is_cycle(c)] == [{"a", "d"}, {"b", "e"}]


def test_a_delay_that_reads_itself_is_a_cycle() -> None:
    graph = wired({"d": nir.Delay(np.ones(2)), **scales("a")}, "in>a", "a>d", "d>d", "d>out")
    assert [c for c in graph.components if graph.is_cycle(c)] == [("d",)]
    # what came in one step ago and all before
    found = reference.run(graph, np.ones((4, 1, 2)))
    assert found.outputs["out"][:, 0, 0].tolist() == [0, 1, 2, 3]


def test_a_cycle_without_a_delay_or_a_neuron_is_refused() -> None:
    with pytest.raises(InvalidGraphError, match="'a -> b', 'b -> a' form a cycle without a Delay"):
        wired(scales("ab"), "in>a", "a>b", "b>a", "b>out")


def test_nodes_by_type_and_by_facts() -> None:
    nodes = {"t": nir.Threshold(np.ones(2)), **scales("ab"), "i": nir.I(np.ones(2))}
    graph = wired(nodes, "in>a", "a>t", "t>b", "b>i", "i>out")
    assert graph.names(nir.Scale) == ("a", "b")
    assert graph.names(nir.I, nir.Threshold) == ("t", "i")
    assert graph.where(lambda facts: facts.spiking) == ("t",)
    assert graph.where(lambda facts: facts.stateful) == ("i",)
    assert graph.has_memory
    assert graph.nodes["t"].kind == "Threshold"


def test_parameters_are_compact_and_known_as_numbers_where_they_are_one() -> None:
    values = np.ones((2, 3, 4))
    values[1] = 5
    node = normalise(graph_of(nir.Scale(values), (2, 3, 4))).nodes["node"]
    assert node["scale"].tolist() == [[[1]], [[5]]]
    assert node.number("scale") is None
    np.testing.assert_array_equal(node.full("scale"), values)
    single: FlatNode = normalise(graph_of(nir.Scale(np.full((2, 3, 4), 2.5)), (2, 3, 4))).nodes["node"]
    assert single.number("scale") == 2.5
    assert single["scale"].shape == ()
    assert single.full("scale").shape == (2, 3, 4)


def test_shapes_of_all_nodes() -> None:
    graph = flat("Conv2d")
    # (7 + 2 - 2 - 1)//2 + 1 = 4 rows, 6 - 2*(2 - 1) = 4 columns
    assert graph.shapes == {"input": (2, 7, 6), "node": (4, 4, 4), "out": (4, 4, 4)}
    assert graph.nodes["node"].input_shape == (2, 7, 6)
    pooled = flat("SumPool2d")
    # 7 + 2 - 2 + 1 = 8 rows, (6 - 3)//2 + 1 = 2 columns
    assert pooled.shapes["out"] == (2, 8, 2)
    assert flat("Flatten some axes").shapes["out"] == (2, 12)
    assert flat("Affine on matrices").shapes["out"] == (2, 5)
