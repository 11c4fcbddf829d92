"""Hostile and damaged checkpoints: no code runs, and one clear error results."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from zoo.errors import CheckpointError, CorruptFileError, FileMissingError, ZooError
from zoo.importers.pickles import read_checkpoint


def pack(path: Path, pickled: bytes, *, compress: bool = False, storages: dict[str, bytes] | None = None) -> Path:
    """A zip file as torch.save makes it."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in (storages or {}).items():
            archive.writestr(f"archive/data/{name}", content)
    return path


class Calls:
    """Pickles to a call of ``function(*arguments)``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def marks(tmp_path: Path) -> list[Any]:
    """Objects whose unpickling would leave a mark."""
    mark = tmp_path / "mark"
    return [
        Calls(os.system, f"touch {mark}"),
        Calls(eval, f"open({str(mark)!r}, 'w')"),
        Calls(exec, f"open({str(mark)!r}, 'w')"),
        Calls(Path.touch, mark),
        Calls(getattr, "text", "upper"),
        Calls(__import__, "subprocess"),
        Calls(torch.load, str(mark)),
    ]


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"ema": x}, lambda x: {"model": {"weight": x}}, lambda x: [[x]]]
)
def test_code_is_refused_and_does_not_run(tmp_path: Path, index: int, wrap: Callable[[Any], Any]) -> None:
    hostile = pack(tmp_path / "hostile.pt", pickle.dumps(wrap(marks(tmp_path)[index])))
    with pytest.raises(CheckpointError, match="wants to call"):
        read_checkpoint(hostile)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["os\nsystem", "builtins\neval", "torch.nn.modules.module\nModule.load_state_dict"])
def test_global_opcodes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="wants to call"):
        read_checkpoint(pack(tmp_path / "a.pt", b"c" + name.encode() + b"\n."))


class _Pickler(pickle.Pickler):
    """Writes persistent ids where an object asks for one."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, _Storage) else None


class _Storage:
    def __init__(self, *pid: Any) -> None:
        self.pid = pid


def tensor_pickle(storage: _Storage, offset: Any, size: Any, stride: Any) -> bytes:
    """A state dict with one tensor on the given storage."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=2)
    rebuild = Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict())
    pickler.dump({"weight": rebuild})
    return buffer.getvalue()


STORAGE = _Storage("storage", torch.FloatStorage, "0", "cpu", 4)


def test_a_well_formed_tensor_is_read(tmp_path: Path) -> None:
    values = torch.arange(4.0)
    path = pack(tmp_path / "a.pt", tensor_pickle(STORAGE, 1, (3,), (1,)), storages={"0": values.numpy().tobytes()})
    assert torch.equal(read_checkpoint(path)["weight"], values[1:])


@pytest.mark.parametrize(
    ("storage", "offset", "size", "stride"),
    [
        (STORAGE, 0, (5,), (1,)),
        (STORAGE, 2, (3,), (1,)),
        (STORAGE, -1, (2,), (1,)),
        (STORAGE, 0, (2, 2), (1, -1)),
        (STORAGE, 0, (10**9, 10**9), (0, 0)),
        (_Storage("storage", torch.FloatStorage, "../../../etc/passwd", "cpu", 4), 0, (1,), (1,)),
        (_Storage("storage", torch.FloatStorage, "0", "cpu", 10**12), 0, (1,), (1,)),
        (_Storage("storage", torch.FloatStorage, "1", "cpu", 4), 0, (1,), (1,)),
        (_Storage("file", "/etc/passwd"), 0, (1,), (1,)),
    ],
)
def test_tensors_cannot_reach_outside_their_storage(
    tmp_path: Path, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    path = pack(tmp_path / "a.pt", tensor_pickle(storage, offset, size, stride), storages={"0": bytes(16)})
    with pytest.raises(ZooError):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02}r\xff\xff\xff\x07.", "numbers an object"),  # 134 million objects: 2 GB of room
        (b"}p100000000\n.", "numbers an object"),
        (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "hostile.pt"),  # a text of 2^64 - 1 bytes
        (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b".", "hostile.pt"),
    ],
)
def test_numbers_that_ask_for_memory_are_refused(tmp_path: Path, pickled: bytes, message: str) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ZooError, match=message):
        read_checkpoint(pack(tmp_path / "hostile.pt", pickled))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_compressed_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(pack(tmp_path / "bomb.pt", pickle.dumps({"a": "x" * 10**6}), compress=True))


def test_damaged_files(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    torch.save({"weight": torch.zeros(100)}, good)
    content = good.read_bytes()
    bad = tmp_path / "bad.pt"
    for damaged in (b"", b"text", content[: len(content) // 2], content[:-30]):
        bad.write_bytes(damaged)
        with pytest.raises(CorruptFileError):
            read_checkpoint(bad)
    with pytest.raises(FileMissingError):
        read_checkpoint(tmp_path / "none.pt")


def test_plain_state_dicts_and_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = {"a.weight": torch.randn(2, 3), "a.bias": torch.randn(2).half()}
    torch.save(weights, tmp_path / "a.pt")
    save_file(weights, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        found = read_checkpoint(tmp_path / name)
        assert set(found) == set(weights)
        assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in weights.items())


def test_whole_models_are_read_without_their_classes(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2)))
    torch.save({"epoch": 3, "model": None, "ema": model.half(), "optimizer": None}, tmp_path / "whole.pt")
    found = read_checkpoint(tmp_path / "whole.pt")
    expected = model.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_checkpoint_without_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="no weights"):
        read_checkpoint(tmp_path / "a.pt")
