"""Files and folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import FileMissingError, InvalidInputError
from zoo.support.files import new_directory, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class CrashError(RuntimeError):
    """Stands for a crash."""


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.json"
    assert write_atomically(target, "one") == target
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(target.parent) == ["report.json"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def crash(_self: Path, _data: bytes) -> int:
        raise CrashError

    monkeypatch.setattr(Path, "write_bytes", crash)
    with pytest.raises(CrashError):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["report.json"]


def test_file_cannot_replace_a_folder_nor_lie_below_a_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="it is a folder"):
        write_atomically(tmp_path, "x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileMissingError, match="cannot be made"):
        write_atomically(tmp_path / "file" / "inside", "x")


def test_folder_appears_when_complete(tmp_path: Path) -> None:
    with new_directory(tmp_path / "model") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "model").exists()
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "a").read_text() == "1"


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    def crash() -> None:
        with new_directory(tmp_path / "model") as folder:
            (folder / "a").write_text("1")
            raise CrashError

    with pytest.raises(CrashError):
        crash()
    assert names(tmp_path) == []


def test_folder_with_something_in_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidInputError, match="not empty"), new_directory(tmp_path):
        pytest.fail("must be refused before anything is written")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_folder_is_replaced_only_when_asked_and_complete(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("1", "2"):
        with new_directory(target, overwrite=True) as folder:
            (folder / content).write_text(content)
    assert names(target) == ["2"]
    with pytest.raises(CrashError), new_directory(target, overwrite=True):
        raise CrashError
    assert names(target) == ["2"]
    assert names(tmp_path) == ["model"]


def test_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with new_directory(tmp_path / "model") as folder:
        (folder / "a").write_text("1")
    assert names(tmp_path / "model") == ["a"]
