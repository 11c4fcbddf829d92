"""Hostile and damaged ``.nir`` files: nothing outside the file is read, and one clear error results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from zoo.errors import CorruptGraphError, FileMissingError
from zoo.nir_graphs import io

SECRET = 42.0


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    """A good file with a Linear node."""
    nodes = {
        "input": nir.Input(np.array([3])),
        "linear": nir.Linear(np.ones((2, 3))),
        "output": nir.Output(np.array([2])),
    }
    graph = nir.NIRGraph(nodes, [("input", "linear"), ("linear", "output")], type_check=False)
    return io.write(graph, tmp_path / "good.nir")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Another file of the user's, as HDF5 and as raw bytes."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["weight"] = np.full((2, 3), SECRET)
        file.create_group("group")["weight"] = np.full((2, 3), SECRET)
    (tmp_path / "secret.bin").write_bytes(np.full((2, 3), SECRET).tobytes())
    return tmp_path / "secret.h5"


def _external_link(file: h5py.File, secret: Path) -> None:
    file["node/nodes/linear"].pop("weight")
    file["node/nodes/linear/weight"] = h5py.ExternalLink(str(secret), "/weight")


def _external_group(file: h5py.File, secret: Path) -> None:
    file["node/nodes"].pop("linear")
    file["node/nodes/linear"] = h5py.ExternalLink(str(secret), "/group")


def _external_root(file: h5py.File, secret: Path) -> None:
    file.pop("node")
    file["node"] = h5py.ExternalLink(str(secret), "/group")


def _soft_link(file: h5py.File, _secret: Path) -> None:
    file["node/nodes/linear"].pop("weight")
    file["elsewhere"] = np.ones((2, 3))
    file["node/nodes/linear/weight"] = h5py.SoftLink("/elsewhere")


def _external_storage(file: h5py.File, secret: Path) -> None:
    group = file["node/nodes/linear"]
    group.pop("weight")
    raw = [(str(secret.with_suffix(".bin")), 0, h5py.h5f.UNLIMITED)]
    group.create_dataset("weight", (2, 3), "f8", external=raw)


def _virtual(file: h5py.File, secret: Path) -> None:
    group = file["node/nodes/linear"]
    group.pop("weight")
    layout = h5py.VirtualLayout((2, 3), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "weight", (2, 3))
    group.create_virtual_dataset("weight", layout)


def _cycle(file: h5py.File, _secret: Path) -> None:
    file["node/nodes/linear/metadata"] = file["node"]


def _deep(file: h5py.File, _secret: Path) -> None:
    group = file["node"].create_group("metadata")
    for _ in range(100):
        group = group.create_group("a")


def _huge(file: h5py.File, _secret: Path) -> None:
    group = file["node/nodes/linear"]
    group.pop("weight")
    group.create_dataset("weight", (200_000, 200_000), "f8", chunks=(100, 100))


def _huge_gzip(file: h5py.File, _secret: Path) -> None:
    group = file["node/nodes/linear"]
    group.pop("weight")
    data = group.create_dataset("weight", (40_000, 40_000), "f8", chunks=(1000, 1000), compression="gzip")
    data[0, 0] = 1.0


def _other_filter(file: h5py.File, _secret: Path) -> None:
    group = file["node/nodes/linear"]
    group.pop("weight")
    group.create_dataset("weight", data=np.ones((2, 3)), compression="lzf")


def _unknown_type(file: h5py.File, _secret: Path) -> None:
    file["node/nodes/linear"].pop("type")
    file["node/nodes/linear/type"] = "os.system"


def _missing_type(file: h5py.File, _secret: Path) -> None:
    file["node/nodes/linear"].pop("type")


def _nan(file: h5py.File, _secret: Path) -> None:
    file["node/nodes/linear/weight"][0, 0] = np.nan


def _unknown_edge(file: h5py.File, _secret: Path) -> None:
    edges = file["node/edges"][()]
    edges[0, 0] = b"nobody"
    file["node"].pop("edges")
    file["node"].create_dataset("edges", data=edges, dtype=h5py.string_dtype())


def _extra_field(file: h5py.File, _secret: Path) -> None:
    file["node/nodes/linear/bonus"] = 3


def _objects(file: h5py.File, _secret: Path) -> None:
    group = file["node/nodes/linear"]
    group.pop("weight")
    group.create_dataset("weight", data=np.array([file.ref, file.ref], h5py.ref_dtype))


def _separator(file: h5py.File, _secret: Path) -> None:
    file["node/nodes"].create_group("a/b")


def _no_graph(file: h5py.File, _secret: Path) -> None:
    file.pop("node")


ATTACKS = [
    _external_link, _external_group, _external_root, _soft_link, _external_storage, _virtual, _cycle, _deep, _huge,
    _huge_gzip, _other_filter, _unknown_type, _missing_type, _nan, _unknown_edge, _extra_field, _objects, _separator, _no_graph,
]  # fmt: skip


def test_the_good_file_is_read(graph_file: Path) -> None:
    assert io.read(graph_file).nodes["linear"].weight.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_ends_in_one_clear_error(
    graph_file: Path, secret: Path, attack: Callable[[h5py.File, Path], None]
) -> None:
    with h5py.File(graph_file, "a") as file:
        attack(file, secret)
    with pytest.raises(CorruptGraphError, match=graph_file.name):
        io.read(graph_file)


@pytest.mark.parametrize("attack", [_external_link, _external_storage, _virtual])
def test_stock_nir_reads_outside_the_file(
    graph_file: Path, secret: Path, attack: Callable[[h5py.File, Path], None]
) -> None:
    """Why the guard exists; when this fails, upstream has closed the hole."""
    with h5py.File(graph_file, "a") as file:
        attack(file, secret)
    assert (nir.read(graph_file, type_check=False).nodes["linear"].weight == SECRET).all()


def test_damaged_files(graph_file: Path, tmp_path: Path) -> None:
    content = graph_file.read_bytes()
    bad = tmp_path / "bad.nir"
    for damaged in (b"", b"text", content[:100], content[: len(content) // 2], content[:-200]):
        bad.write_bytes(damaged)
        with pytest.raises(CorruptGraphError):
            io.read(bad)
    for missing in (tmp_path / "none.nir", tmp_path):
        with pytest.raises(FileMissingError):
            io.read(missing)
