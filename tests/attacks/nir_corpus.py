"""Hostile ``.nir`` files, built from a good one. ``python -m tests.attacks.nir_corpus DIR`` writes them all."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import nir
import numpy as np

from zoo.nir_graphs import io

SECRET = 42.0
"""What the attacks want to read: the values of another file."""
Attack = Callable[[h5py.File, Path], None]


def write_good(path: Path) -> Path:
    """A good file with a Linear node."""
    nodes = {
        "input": nir.Input(np.array([3])),
        "linear": nir.Linear(np.ones((2, 3))),
        "output": nir.Output(np.array([2])),
    }
    graph = nir.NIRGraph(nodes, [("input", "linear"), ("linear", "output")], type_check=False)
    return io.write(graph, path)


def write_secret(folder: Path) -> Path:
    """Another file of the user's, as HDF5 and as raw bytes."""
    with h5py.File(folder / "secret.h5", "w") as file:
        file["weight"] = np.full((2, 3), SECRET)
        file.create_group("group")["weight"] = np.full((2, 3), SECRET)
    (folder / "secret.bin").write_bytes(np.full((2, 3), SECRET).tobytes())
    return folder / "secret.h5"


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
    group.create_dataset("weight", data=np.ones((2, 3), np.int32), scaleoffset=2)


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


ATTACKS: list[Attack] = [
    _external_link, _external_group, _external_root, _soft_link, _external_storage, _virtual, _cycle, _deep, _huge,
    _huge_gzip, _other_filter, _unknown_type, _missing_type, _nan, _unknown_edge, _extra_field, _objects, _separator, _no_graph,
]  # fmt: skip


def write_all(folder: Path) -> list[Path]:
    """Every attack as a file, beside the secret that it is after."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = write_secret(folder)
    good = write_good(folder / "good.nir")
    made = []
    for attack in ATTACKS:
        path = folder / f"{attack.__name__.strip('_')}.nir"
        shutil.copyfile(good, path)
        with h5py.File(path, "a") as file:
            attack(file, secret)
        made.append(path)
    return made


if __name__ == "__main__":
    for path in write_all(Path(sys.argv[1])):
        sys.stdout.write(f"{path}\n")
