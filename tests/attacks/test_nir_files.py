"""Hostile and damaged ``.nir`` files: nothing outside the file is read, and one clear error results, in whichever process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from tests.attacks import nir_corpus
from tests.attacks.nir_corpus import ATTACKS, SECRET, Attack
from zoo.errors import CorruptGraphError, FileMissingError
from zoo.nir_graphs import io, untrusted

READERS = [io, untrusted]


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    return nir_corpus.write_good(tmp_path / "good.nir")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return nir_corpus.write_secret(tmp_path)


@pytest.mark.parametrize("reader", READERS)
def test_the_good_file_is_read(graph_file: Path, reader: Any) -> None:
    assert reader.read(graph_file).nodes["linear"].weight.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_ends_in_one_clear_error(graph_file: Path, secret: Path, attack: Attack, reader: Any) -> None:
    with h5py.File(graph_file, "a") as file:
        attack(file, secret)
    with pytest.raises(CorruptGraphError, match=graph_file.name):
        reader.read(graph_file)


@pytest.mark.parametrize("attack", [nir_corpus._external_link, nir_corpus._external_storage, nir_corpus._virtual])
def test_stock_nir_reads_outside_the_file(graph_file: Path, secret: Path, attack: Attack) -> None:
    """Why the guard exists; when this fails, upstream has closed the hole."""
    with h5py.File(graph_file, "a") as file:
        attack(file, secret)
    assert (nir.read(graph_file, type_check=False).nodes["linear"].weight == SECRET).all()


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files(graph_file: Path, tmp_path: Path, reader: Any) -> None:
    content = graph_file.read_bytes()
    bad = tmp_path / "bad.nir"
    for damaged in (b"", b"text", content[:100], content[: len(content) // 2], content[:-200]):
        bad.write_bytes(damaged)
        with pytest.raises(CorruptGraphError):
            reader.read(bad)
    for missing in (tmp_path / "none.nir", tmp_path):
        with pytest.raises(FileMissingError):
            reader.read(missing)


def test_a_small_file_that_unpacks_to_a_gigabyte_is_refused(graph_file: Path) -> None:
    with h5py.File(graph_file, "a") as file:
        file["node/nodes/linear"].pop("weight")
        file["node/nodes/linear"].create_dataset(
            "weight", data=np.zeros((16_384, 16_384), np.float32), compression="gzip", chunks=(1024, 1024)
        )
    assert graph_file.stat().st_size < 2_000_000
    for reader in READERS:
        with pytest.raises(CorruptGraphError, match="limit for a file of its size"):
            reader.read(graph_file)


def test_a_crash_of_the_library_is_an_error(graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a defect of the HDF5 library would end: the child dies, this process does not."""
    import sys

    crash = "import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(untrusted, "command", lambda: [sys.executable, "-c", crash])
    with pytest.raises(CorruptGraphError, match="signal 11"):
        untrusted.read(graph_file)
    monkeypatch.setattr(untrusted, "command", lambda: [sys.executable, "-c", "print('nonsense')"])
    with pytest.raises(CorruptGraphError, match="failed"):
        untrusted.read(graph_file)
    monkeypatch.setattr(untrusted, "SECONDS", 0.1)
    loop = "import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGXCPU)"
    for late in (loop, "import time; time.sleep(60)"):
        monkeypatch.setattr(untrusted, "command", lambda late=late: [sys.executable, "-c", late])
        with pytest.raises(CorruptGraphError, match="longer than"):
            untrusted.read(graph_file)


def test_every_kind_of_value_survives_the_other_process(tmp_path: Path) -> None:
    """Bit for bit: -0.0, subnormal numbers, views of one number, text, numbers without a shape, nested metadata."""
    weight = np.array([[-0.0, 5e-324, 1e300], [0.1, -1.5, 0.0]])
    nodes = {
        "input": nir.Input(np.array([3])),
        "linear": nir.Linear(weight, metadata={"note": "text", "depth": {"k": np.arange(3, dtype=np.int16)}}),
        "threshold": nir.Threshold(np.broadcast_to(np.float32(-0.0), (2, 64, 64))),
        "zeros": nir.Threshold(np.where(np.arange(100) == 50, -0.0, 0.0)),
        "output": nir.Output(np.array([2])),
    }
    graph = nir.NIRGraph(nodes, [("input", "linear"), ("linear", "output")], type_check=False)
    path = io.write(graph, tmp_path / "a.nir")
    one, other = io.read(path), untrusted.read(path)
    assert one.edges == other.edges
    for field, name in (("weight", "linear"), ("threshold", "threshold"), ("threshold", "zeros")):
        a, b = getattr(one.nodes[name], field), getattr(other.nodes[name], field)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    assert other.nodes["threshold"].threshold.strides == (0, 0, 0)
    assert other.nodes["linear"].metadata["note"] == "text"
    assert other.nodes["linear"].metadata["depth"]["k"].tolist() == [0, 1, 2]
