"""Hostile model folders: configurations, manifests, cards, weights. Each ends in one clear error, before it costs anything."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import CheckpointError, ConfigError, CorruptFileError, FileMissingError, ZooError
from zoo.hub.integrity import check_manifest, write_manifest


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(model_folder, copy)
    return copy


def change(folder: Path, name: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit a JSON file, and make the manifest agree: the attacker wrote both."""
    data = json.loads((folder / name).read_text())
    changed = edit(data)
    (folder / name).write_text(json.dumps(data if changed is None else changed))
    write_manifest(folder)


CONFIGS: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("an unknown key", lambda data: data.update(code="import os")),
    ("code for an architecture", lambda data: data.update(arch="os.system")),
    ("a path for an architecture", lambda data: data.update(arch="../evil")),
    ("no classes", lambda data: data.update(class_names=[])),
    ("a million classes", lambda data: data.update(class_names=["a"] * 10**6)),
    ("a class name of a megabyte", lambda data: data.update(class_names=["a" * 10**6])),
    ("10^9 time steps", lambda data: data.update(time_steps=10**9)),
    ("a negative T", lambda data: data.update(time_steps=-1)),
    ("T as text", lambda data: data.update(time_steps="1")),
    ("T as a fraction", lambda data: data.update(time_steps=1.5)),
    ("10^9 levels", lambda data: data.update(levels=10**9)),
    ("a gigantic picture", lambda data: data["input"].update(image_size=[10**6, 10**6])),
    ("a variant that is no argument", lambda data: data.update(variant={"exec": "import os"})),
    ("a dunder variant", lambda data: data.update(variant={"__class__": "x"})),
    ("a variant of the wrong type", lambda data: data.update(variant={"form": 10**400})),
    ("a nested variant", lambda data: data.update(variant={"form": {"a": 1}})),
    ("strides of nothing", lambda data: data["decode"].update(strides=[])),
    ("a list", lambda data: [data]),
    ("a number", lambda _data: 7),
    ("deep nesting", lambda _data: json.loads("[" * 500 + "]" * 500)),
]


@pytest.mark.parametrize(("what", "edit"), CONFIGS, ids=[what for what, _ in CONFIGS])
def test_configurations(folder: Path, what: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    del what
    change(folder, "config.json", edit)
    tracemalloc.start()
    try:
        with pytest.raises((ConfigError, ZooError)) as caught:
            zoo.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
    assert 20 < len(str(caught.value)) < 2000


@pytest.mark.parametrize("text", [b"", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}', b" " * (2**20 + 1)])
@pytest.mark.parametrize("name", ["config.json", "card.json", "manifest.json"])
def test_what_is_no_json(folder: Path, name: str, text: bytes) -> None:
    (folder / name).write_bytes(text)
    if name != "manifest.json":
        write_manifest(folder)
    with pytest.raises((ConfigError, CorruptFileError), match=name.replace(".", r"\.")):
        zoo.load(folder)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "C:\\secret", "", "a" * 200, "model.nir\x00", "café"]
)
def test_manifests_name_plain_files_only(folder: Path, name: str) -> None:
    entry = {"sha256": "0" * 64, "size": 1}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": {name: entry}}))
    with pytest.raises(CorruptFileError, match="not a valid manifest"):
        check_manifest(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"sha256": "0" * 63, "size": 1}, {"sha256": "Z" * 64, "size": 1}, {"sha256": "0" * 64, "size": -1},
        {"sha256": "0" * 64, "size": "1"}, {"sha256": "0" * 64}, {"size": 1}, [], {"sha256": "0" * 64, "size": 1, "url": "x"},
    ],
)  # fmt: skip
def test_entries_of_manifests(folder: Path, entry: Any) -> None:
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": {"config.json": entry}}))
    with pytest.raises(CorruptFileError, match="not a valid manifest"):
        check_manifest(folder)
    many = {f"f{index}": {"sha256": "0" * 64, "size": 1} for index in range(100)}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": many}))
    with pytest.raises(CorruptFileError, match="not a valid manifest"):
        check_manifest(folder)


def test_links_and_devices_in_place_of_files(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"top secret")
    for target in (secret, Path("/dev/zero"), tmp_path / "nowhere", folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").symlink_to(target)
        with pytest.raises((CorruptFileError, FileMissingError)):
            zoo.load(folder)
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises((CorruptFileError, FileMissingError)):
        zoo.load(folder)


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


ENTRY = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
HEADERS: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("a header of a terabyte", safetensors(b"{}", length=2**40)),
    ("a header of 2^64 - 1 bytes", safetensors(b"{}", length=2**64 - 1)),
    ("no JSON", safetensors(b"import os", bytes(12))),
    ("deep nesting", safetensors(b"[" * 100_000, bytes(12))),
    ("two tensors in one place", safetensors(json.dumps({"a": ENTRY, "b": ENTRY}).encode(), bytes(12))),
    ("a hole", safetensors(json.dumps({"a": {**ENTRY, "data_offsets": [4, 16]}}).encode(), bytes(16))),
    ("past the end", safetensors(json.dumps({"a": {**ENTRY, "data_offsets": [0, 2**40]}}).encode(), bytes(12))),
    ("bytes behind the end", safetensors(json.dumps({"a": ENTRY}).encode(), bytes(100))),
    ("another shape", safetensors(json.dumps({"a": {**ENTRY, "shape": [4]}}).encode(), bytes(12))),
    ("a shape that overflows", safetensors(json.dumps({"a": {**ENTRY, "shape": [2**63, 2]}}).encode(), bytes(12))),
    ("an unknown type", safetensors(json.dumps({"a": {**ENTRY, "dtype": "PICKLE"}}).encode(), bytes(12))),
    ("the same name twice", safetensors(b'{"a":' + json.dumps(ENTRY).encode() + b',"a":' + json.dumps(ENTRY).encode() + b"}",
                                        bytes(12))),
    ("other tensors", safetensors(json.dumps({"a": ENTRY}).encode(), bytes(12))),
]  # fmt: skip


@pytest.mark.parametrize("content", [content for _, content in HEADERS], ids=[what for what, _ in HEADERS])
def test_weights(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    write_manifest(folder)
    with pytest.raises((CheckpointError, CorruptFileError), match=r"model\.safetensors"):
        zoo.load(folder)


def test_weights_that_are_not_finite(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name, value in weights.items() if value.is_floating_point() and value.numel())
    for value in (float("nan"), float("inf")):
        weights[name].flatten()[0] = value
        save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / "model.safetensors")
        write_manifest(folder)
        with pytest.raises(CheckpointError, match="not finite"):
            zoo.load(folder)


def test_cards(folder: Path) -> None:
    for edit in (
        lambda data: data.update(name="../evil"),
        lambda data: data.update(extra=1),
        lambda data: data.update(metrics=[{"name": "a", "value": "1", "dataset": "b"}]),
        lambda data: data.update(description="a" * 10_000),
        lambda data: data.update(hub={"repo": "a/b", "commit": "main", "manifest": "0" * 64}),
        lambda data: data.update(hub={"repo": "../b", "commit": "0" * 40, "manifest": "0" * 64}),
    ):
        original = (folder / "card.json").read_text()
        change(folder, "card.json", edit)
        with pytest.raises(ConfigError, match=r"card\.json"):
            zoo.info(folder)
        (folder / "card.json").write_text(original)
