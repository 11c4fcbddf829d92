"""Files of other tools: every way to store strings and numbers is read, alike in both readers, and runs alike (row A12)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch

import zoo
from zoo.errors import CorruptGraphError, InvalidGraphError
from zoo.nir_graphs import io, reference, untrusted
from zoo.nir_graphs.normalise import normalise

READERS = [io, untrusted]
WEIGHT = np.array([[0.5, -1.25, 2.0], [1.5, 0.25, -0.75]], np.float32)
Edit = Callable[[h5py.File], None]


def small(metadata: dict[str, Any] | None = None, **kept: Any) -> nir.NIRGraph:
    """input (3,) -> Linear -> Threshold 1 -> output (2,)."""
    nodes = {
        "input": nir.Input(np.array([3])),
        "linear": nir.Linear(kept.get("weight", WEIGHT), metadata=metadata or {}),
        "fire": nir.Threshold(np.ones(2, np.float32)),
        "output": nir.Output(np.array([2])),
    }
    edges = [("input", "linear"), ("linear", "fire"), ("fire", "output")]
    return nir.NIRGraph(nodes, edges, metadata=metadata or {}, type_check=False)


def run(graph: nir.NIRGraph) -> Any:
    """The spikes of 16 steps and 16 samples."""
    x = np.random.default_rng(0).integers(-2, 3, (16, 16, 3)).astype(float)
    return reference.run(graph, x, record="all").spikes["fire"]


def measured(action: Callable[[], Any]) -> tuple[Any, int]:
    """(the result, bytes that it took at most)."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return io.write(small(), tmp_path / "a.nir")


def replaced(group: h5py.Group, key: str, **options: Any) -> None:
    """Store a value in another way."""
    data = options.pop("data", None)
    data = group[key][()] if data is None else data
    group.pop(key)
    group.create_dataset(key, data=data, **options)


def _fixed_types(file: h5py.File) -> None:
    for group in (file["node"], *file["node/nodes"].values()):
        replaced(group, "type", data=np.array(group["type"][()], "S16"))


def _fixed_edges(file: h5py.File) -> None:
    replaced(file["node"], "edges", data=file["node/edges"][()].astype("S16"))


def _types_as_arrays_of_one(file: h5py.File) -> None:
    for group in (file["node"], *file["node/nodes"].values()):
        replaced(group, "type", data=np.array([group["type"][()]], object), dtype=h5py.string_dtype())


def _fixed_types_as_arrays_of_one(file: h5py.File) -> None:
    for group in file["node/nodes"].values():
        replaced(group, "type", data=np.array([group["type"][()]], "S16"))


def _stored(**options: Any) -> Edit:
    return lambda file: replaced(file["node/nodes/linear"], "weight", **options)


EDITS: dict[str, Edit] = {
    "types of fixed length": _fixed_types,
    "edges of fixed length": _fixed_edges,
    "types as arrays of one": _types_as_arrays_of_one,
    "fixed types as arrays of one": _fixed_types_as_arrays_of_one,
    "lzf": _stored(compression="lzf", chunks=True),
    "szip": _stored(data=np.tile(WEIGHT, 1), compression="szip", chunks=(2, 3), compression_opts=("nn", 2)),
    "gzip, shuffle, checksum": _stored(compression="gzip", shuffle=True, fletcher32=True, chunks=True),
    "big-endian float32": _stored(data=WEIGHT.astype(">f4")),
    "big-endian float64": _stored(data=WEIGHT.astype(">f8")),
    "longdouble": _stored(data=WEIGHT.astype(np.longdouble)),
    "float16": _stored(data=WEIGHT.astype(np.float16)),
    "threshold as big-endian integers": lambda file: replaced(
        file["node/nodes/fire"], "threshold", data=np.ones(2, ">i8")
    ),
    "threshold as bool": lambda file: replaced(file["node/nodes/fire"], "threshold", data=np.ones(2, bool)),
    "threshold as a numpy scalar": lambda file: replaced(file["node/nodes/fire"], "threshold", data=np.uint8(1)),
    "no version": lambda file: file.pop("version"),
}


@pytest.mark.parametrize("name", EDITS)
def test_every_way_to_store_a_graph_is_read(path: Path, name: str) -> None:
    with h5py.File(path, "a") as file:
        EDITS[name](file)
    np.testing.assert_array_equal(run(io.read(path)), run(small()))


@pytest.mark.parametrize("weight", ["big-endian float32", "longdouble", "float16", "lzf", "szip"])
def test_they_survive_the_other_process(path: Path, weight: str) -> None:
    with h5py.File(path, "a") as file:
        for name in ("fixed types as arrays of one", "edges of fixed length", weight, "threshold as bool"):
            EDITS[name](file)
        stored = file["node/nodes/linear/weight"].dtype
    graph = untrusted.read(path)
    assert graph.nodes["linear"].weight.dtype == stored
    np.testing.assert_array_equal(run(graph), run(small()))


def test_the_negative_control_differs() -> None:
    assert (run(small(weight=-WEIGHT)) != run(small())).any()
    assert 0.05 < run(small()).mean() < 0.5


@pytest.mark.parametrize("reader", READERS, ids=["io", "untrusted"])
def test_numbers_of_convolutions_as_arrays_of_one(tmp_path: Path, reader: Any) -> None:
    """Stride, padding, dilation and groups as arrays of one, padding as text in an array, as some tools store them."""
    weight = np.random.default_rng(1).integers(-2, 3, (4, 2, 3, 3)).astype(np.float32)
    nodes = {
        "input": nir.Input(np.array([2, 5, 5])),
        "conv": nir.Conv2d((5, 5), weight, 1, "same", 1, 1, np.zeros(4, np.float32)),
        "flat": nir.Flatten({"input": np.array([4, 5, 5])}, 0, -1),
        "output": nir.Output(np.array([100])),
    }
    graph = nir.NIRGraph(nodes, [("input", "conv"), ("conv", "flat"), ("flat", "output")], type_check=False)
    path = io.write(graph, tmp_path / "a.nir")
    with h5py.File(path, "a") as file:
        conv, flat = file["node/nodes/conv"], file["node/nodes/flat"]
        for key in ("stride", "dilation", "groups"):
            replaced(conv, key, data=np.array([1]))
        replaced(conv, "padding", data=np.array(["same"], "S8"))
        replaced(flat, "start_dim", data=np.array([0]))
        replaced(flat, "end_dim", data=np.array([-1]))
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 5, 5))
    expected = reference.run(graph, x).outputs["output"]
    np.testing.assert_array_equal(reference.run(reader.read(path), x).outputs["output"], expected)


FREE = {
    "nan": np.float64("nan"),
    "infinite": np.array([np.inf, 1.0]),
    "complex": np.array([1 + 2j]),
    "nothing": None,
    "words": ["a", "b"],
    "word": "text",
    "raw": b"bytes",
    "flag": True,
    "number": 3,
    "deep": {"deeper": {"nan": np.nan}},
    "zoo": {"of": "another tool"},
}


@pytest.mark.parametrize("reader", READERS, ids=["io", "untrusted"])
def test_metadata_of_others_may_be_anything(tmp_path: Path, reader: Any) -> None:
    """NaN, infinity, complex numbers, missing values, keys of others: only parameters must be finite."""
    graph = reader.read(io.write(small(FREE), tmp_path / "a.nir"))
    for found in (graph.metadata, graph.nodes["linear"].metadata):
        assert np.isnan(found["nan"])
        assert np.isnan(found["deep"]["deeper"]["nan"])
        assert found["infinite"].tolist() == [np.inf, 1.0]
        assert found["complex"].tolist() == [1 + 2j]
        assert found["nothing"] is None
        assert list(found["words"]) == ["a", "b"]
        assert (found["word"], found["raw"], found["flag"], found["number"]) == ("text", "bytes", True, 3)
        assert found["zoo"] == {"of": "another tool"}
    np.testing.assert_array_equal(run(graph), run(small()))
    again = reader.read(io.write(graph, tmp_path / "b.nir"))
    assert again.metadata.keys() == graph.metadata.keys()


def test_a_node_may_be_called_metadata_or_nodes(tmp_path: Path) -> None:
    """Their parameters are checked like any other's, and their metadata may be NaN."""
    for name in ("metadata", "nodes", "node", "type", "edges"):
        nodes = {
            "input": nir.Input(np.array([3])),
            name: nir.Linear(WEIGHT, metadata={"nan": np.nan}),
            "output": nir.Output(np.array([2])),
        }
        graph = nir.NIRGraph(nodes, [("input", name), (name, "output")], type_check=False)
        path = io.write(graph, tmp_path / "a.nir")
        np.testing.assert_array_equal(io.read(path).nodes[name].weight, WEIGHT)
        with h5py.File(path, "a") as file:
            file[f"node/nodes/{name}/weight"][0, 0] = np.nan
        with pytest.raises(CorruptGraphError, match=f"{name}/weight contains NaN"):
            io.read(path)


def _bad_edges(file: h5py.File) -> None:
    replaced(file["node"], "edges", data=np.arange(6).reshape(3, 2))


def _compound(file: h5py.File) -> None:
    replaced(file["node/nodes/linear"], "weight", data=np.zeros(2, [("a", "f4")]))


def _complex(file: h5py.File) -> None:
    replaced(file["node/nodes/linear"], "weight", data=WEIGHT + 1j)


def _metadata_is_no_group(file: h5py.File) -> None:
    file["node/nodes/linear/metadata"] = 3


def _not_utf8(file: h5py.File) -> None:
    replaced(file["node/nodes/linear"], "type", data=np.array(b"Lin\xff", "S4"))


def _empty(file: h5py.File) -> None:
    replaced(file["node/nodes/linear"], "weight", data=h5py.Empty("f4"))


def _no_edges(file: h5py.File) -> None:
    file["node"].pop("edges")


def _nbit(file: h5py.File) -> None:
    replaced(file["node/nodes/linear"], "weight", data=np.ones((2, 3), np.int32), scaleoffset=2)


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (_bad_edges, "the edges of the root are no pairs of node names"),
        (_no_edges, "the edges of the root are no pairs"),
        (_compound, "nodes/linear/weight has the type .*, which is neither numbers nor text"),
        (_complex, "nodes/linear/weight has the type complex64"),
        (_metadata_is_no_group, "the metadata of the node 'linear' is no group"),
        (_not_utf8, "nodes/linear/type holds text that is no UTF-8"),
        (_empty, "nodes/linear/weight is empty"),
        (_nbit, "nodes/linear/weight is compressed by the filter 6"),
    ],
)
def test_what_cannot_be_read_is_named(path: Path, edit: Edit, found: str) -> None:
    with h5py.File(path, "a") as file:
        edit(file)
    with pytest.raises(CorruptGraphError, match=found):
        io.read(path)


def test_what_cannot_be_read_is_named_by_the_other_process(path: Path) -> None:
    with h5py.File(path, "a") as file:
        _complex(file)
    with pytest.raises(CorruptGraphError, match=r"a\.nir is not .*nodes/linear/weight has the type complex64"):
        untrusted.read(path)


@pytest.mark.parametrize("kind", [nir.CubaLIF, nir.CubaLI])
def test_a_small_file_takes_little_memory(tmp_path: Path, kind: Any) -> None:
    """nir multiplies w_in with a dense array of ones, here of 512 MB; the values are constants that take no room."""
    fields = {"tau_syn": 2.0, "tau_mem": 4.0, "r": 1.0, "v_leak": 0.0, "w_in": 3.0}
    if kind is nir.CubaLIF:
        fields |= {"v_threshold": 1.0, "v_reset": 0.0}
    node = kind(**{name: np.full((2, 2), value) for name, value in fields.items()})
    graph = nir.NIRGraph({"n": node}, [], type_check=False)
    path = io.write(graph, tmp_path / "a.nir")
    with h5py.File(path, "a") as file:
        for name, value in fields.items():
            file["node/nodes/n"].pop(name)
            file["node/nodes/n"].create_dataset(name, shape=(64, 1000, 1000), dtype="f8", fillvalue=value)
    read, memory = measured(lambda: io.read(path).nodes["n"])
    assert memory < 10e6
    assert {name: float(getattr(read, name)[1, 2, 3]) for name in fields} == fields
    assert not any(any(getattr(read, name).strides) for name in fields)
    assert tuple(read.input_type["input"]) == tuple(read.output_type["output"]) == (64, 1000, 1000)


# numbers in memory: what is converted is said


@pytest.mark.parametrize(
    ("weight", "kinds"),
    [
        (WEIGHT.astype(">f4"), {"number form"}),
        (WEIGHT.astype(np.longdouble), {"number form"}),
        (WEIGHT.astype(np.longdouble) + np.longdouble(2) ** -60, {"number type"}),
        (WEIGHT.astype(np.float16), set()),
        (torch.tensor(WEIGHT, requires_grad=True), set()),
        (torch.tensor(WEIGHT).bfloat16(), set()),
        (WEIGHT.tolist(), set()),
    ],
)
def test_numbers_of_any_kind_become_native(weight: Any, kinds: set[str]) -> None:
    nodes = dict(small().nodes)
    nodes["linear"] = nir.Linear(WEIGHT)
    nodes["linear"].weight = weight
    flat = normalise(nir.NIRGraph(nodes, small().edges, type_check=False))
    assert flat.nodes["linear"]["weight"].dtype in {np.dtype(np.float32), np.dtype(np.float64)}
    assert {note.kind for note in flat.notes if "weight" in note} == kinds
    np.testing.assert_array_equal(flat.nodes["linear"]["weight"], WEIGHT)


def test_constants_of_another_number_type_take_no_room() -> None:
    """64 million big-endian integers would be 512 MB as dense float64."""
    huge = np.broadcast_to(np.array(3, ">i8"), (64, 1024, 1024))
    nodes = {
        "input": nir.Input(np.array(huge.shape)), "s": nir.Scale(huge), "output": nir.Output(np.array(huge.shape)),
    }  # fmt: skip
    graph = nir.NIRGraph(nodes, [("input", "s"), ("s", "output")], type_check=False)
    flat, memory = measured(lambda: normalise(graph))
    assert memory < 10e6
    assert flat.nodes["s"].number("scale") == 3.0


@pytest.mark.parametrize(
    ("weight", "rule"),
    [
        (np.zeros((2, 0)), "without numbers"),
        (np.full((2, 3), np.longdouble("1e4000")), "NaN or infinity"),
        (np.full((2, 3), 2**63 + 1, np.uint64), "float64 cannot hold"),
        (np.full((2, 3), 1j), "real numbers"),
        (torch.zeros(2, 3, device="meta"), "no array of numbers"),
        ([[1, 2], [3]], "no array of numbers"),
        (np.array([["a", "b", "c"]]), "real numbers"),
    ],
)
def test_what_is_no_number_is_refused_with_node_and_field(weight: Any, rule: str) -> None:
    nodes = dict(small().nodes)
    nodes["linear"] = nir.Linear(WEIGHT)
    nodes["linear"].weight = weight
    with pytest.raises(InvalidGraphError, match=rf"the node 'linear' \(Linear\) has a weight .*{rule}"):
        normalise(nir.NIRGraph(nodes, small().edges, type_check=False))


# writing


def test_torch_tensors_are_written(tmp_path: Path) -> None:
    """In-memory exports of frameworks hold tensors, some with a gradient (row A11)."""
    graph = small()
    graph.nodes["linear"].weight = torch.tensor(WEIGHT, requires_grad=True)
    np.testing.assert_array_equal(io.read(io.write(graph, tmp_path / "a.nir")).nodes["linear"].weight, WEIGHT)


def renamed(name: str) -> nir.NIRGraph:
    graph = small()
    nodes = {name if key == "linear" else key: node for key, node in graph.nodes.items()}
    edges = [tuple(name if end == "linear" else end for end in edge) for edge in graph.edges]
    return nir.NIRGraph(nodes, edges, type_check=False)


def with_field(field: str, value: Any) -> nir.NIRGraph:
    graph = small()
    setattr(graph.nodes["linear"], field, value)
    return graph


@pytest.mark.parametrize(
    ("graph", "rule"),
    [
        (renamed("block/linear"), r"the node name 'block/linear' cannot be written.*'/'.*'block.linear'"),
        (renamed(""), "not empty"),
        (renamed(".."), r"the node name '\.\.' cannot"),
        (renamed("a\0b"), "cannot be written"),
        (renamed("\ud800"), "no valid Unicode"),
        (with_field("weight", None), "the node 'linear' has no weight"),
        (with_field("weight", np.full((2, 3), np.nan)), "the weight of node 'linear' contains NaN"),
        (with_field("weight", np.array([object()])), "the weight of node 'linear' cannot be written"),
        (with_field("weight", np.zeros(2, [("a", "f4")])), "the weight of node 'linear' cannot be written"),
        (with_field("weight", torch.zeros(2, 3, device="meta")), "the weight of node 'linear' cannot be written"),
        (with_field("metadata", {"a/b": 1}), r"the key 'a/b' in the metadata of node 'linear' cannot be written"),
        (with_field("metadata", {3: 1}), "the key 3 in the metadata of node 'linear'"),
        (with_field("metadata", {"a": {"b": object()}}), "'b' in 'a' in the metadata of node 'linear'"),
        (with_field("metadata", [1]), "the metadata of node 'linear' must be a dictionary"),
        (nir.NIRGraph(dict(small().nodes), [("input", "nobody")], type_check=False), "'nobody', which does not exist"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_before_anything_is_written(
    tmp_path: Path, graph: nir.NIRGraph, rule: str
) -> None:
    path = tmp_path / "a.nir"
    path.write_bytes(b"what was there")
    with pytest.raises(InvalidGraphError, match=rule):
        io.write(graph, path)
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_mostly_zero_and_short_numbers_are_compressed_others_are_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0).normal(size=(256, 256))
    sparse = np.where(np.arange(256) % 4 == 0, random, 0.0)
    sizes = []
    for weight in (random, sparse, np.round(random * 16) / 16):
        graph = nir.NIRGraph({"linear": nir.Linear(weight.astype(np.float32))}, [], type_check=False)
        path = io.write(graph, tmp_path / "a.nir")
        np.testing.assert_array_equal(io.read(path).nodes["linear"].weight, weight.astype(np.float32))
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.5 * sizes[0]
    assert sizes[2] < 0.5 * sizes[0]


def test_a_flat_graph_is_written_as_it_is(tmp_path: Path) -> None:
    flat = normalise(small({"author": "somebody"}), dt=2.0)
    read = normalise(io.read(io.write(flat, tmp_path / "a.nir")))
    assert (read.dt, read.edges, list(read.nodes)) == (2.0, flat.edges, sorted(flat.nodes))
    assert read.metadata["author"] == "somebody"


def test_the_public_door_reads_them_too(path: Path) -> None:
    with h5py.File(path, "a") as file:
        _fixed_types(file)
        _fixed_edges(file)
        replaced(file["node/nodes/linear"], "weight", data=WEIGHT.astype(">f4"), compression="lzf", chunks=True)
    runnable = zoo.import_nir(path, backend="reference")
    x = torch.tensor(np.random.default_rng(0).integers(-2, 3, (16, 16, 3)).astype(np.float32))
    np.testing.assert_array_equal(runnable(x)["output"].numpy(), run(small()))
