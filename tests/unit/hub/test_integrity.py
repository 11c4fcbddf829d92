"""Manifests: nothing is opened that is not what its publisher wrote."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import CorruptFileError, FileMissingError
from zoo.hub.integrity import check_manifest, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(b"spikes")
    (tmp_path / "b.json").write_text("{}")
    write_manifest(tmp_path)
    return tmp_path


def test_manifest_holds_sha256_and_size_of_every_file(folder: Path) -> None:
    stored = json.loads((folder / "manifest.json").read_text())
    assert stored["format"] == 1
    assert set(stored["files"]) == {"a.bin", "b.json"}
    assert stored["files"]["a.bin"] == {"sha256": hashlib.sha256(b"spikes").hexdigest(), "size": 6}
    assert check_manifest(folder) == read_manifest(folder)


@pytest.mark.parametrize("content", [b"spikeX", b"spike", b"spikes ", b""])
def test_changed_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "a.bin").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"a\.bin is damaged"):
        check_manifest(folder)
    check_manifest(folder, ["b.json"])  # files that are not used are not asked about


def test_missing_and_unlisted_files(folder: Path) -> None:
    (folder / "c.bin").write_bytes(b"")
    with pytest.raises(FileMissingError, match=r"no c\.bin"):
        check_manifest(folder, ["c.bin"])
    (folder / "a.bin").unlink()
    with pytest.raises(FileMissingError, match=r"a\.bin"):
        check_manifest(folder)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="is not a model of the zoo"):
        check_manifest(tmp_path)


GOOD = {"sha256": "0" * 64, "size": 1}


@pytest.mark.parametrize(
    "manifest",
    [
        "not json",
        [],
        {"files": []},
        {"format": 2, "files": {}},
        {"format": 1, "files": {"../../etc/passwd": GOOD}},
        {"format": 1, "files": {"/etc/passwd": GOOD}},
        {"format": 1, "files": {".hidden": GOOD}},
        {"format": 1, "files": {"a": {"sha256": "0" * 63, "size": 1}}},
        {"format": 1, "files": {"a": {"sha256": "0" * 64, "size": -1}}},
        {"format": 1, "files": {"a": {"sha256": "0" * 64, "size": "1"}}},
        {"format": 1, "files": {"a": GOOD}, "run": "code"},
        {"format": 1, "files": {f"f{i}": GOOD for i in range(65)}},
    ],
)
def test_invalid_manifests(tmp_path: Path, manifest: Any) -> None:
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CorruptFileError, match="not a valid manifest"):
        read_manifest(tmp_path)


def test_huge_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(CorruptFileError, match="larger than 1 MiB"):
        read_manifest(tmp_path)
