"""Checkpoints: whatever a crash or a disk does, an intact one is found or the error says what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zoo.errors import CheckpointError
from zoo.training import checkpoint


def state(step: int) -> dict[str, object]:
    return {"step": step, "weight": torch.full((3,), float(step))}


def steps_there(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.pt"))


def test_round_trip_keeps_the_newest(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, step, state(step), keep=2)
    assert steps_there(tmp_path) == [20, 30]
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 30
    assert torch.equal(loaded["weight"], torch.full((3,), 30.0))


def test_nothing_there_yet(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path) is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoint.save(tmp_path, 10, state(10), keep=2)
    newest = checkpoint.save(tmp_path, 20, state(20), keep=2)
    content = newest.read_bytes()
    if damage == "remove":
        newest.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        newest.write_bytes(content[:middle] if damage == "truncate" else flipped)
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 10
    (tmp_path / "step-000000010.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint.*is intact.*SHA-256"):
        checkpoint.load_latest(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"checkpoints": [{"file": "x"}]}', '{"checkpoints": 3}', "\xff"],
)
def test_a_damaged_pointer_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / checkpoint.LATEST).write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"latest\.json is damaged"):
        checkpoint.load_latest(tmp_path)


def test_the_pointer_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    entry = {"file": "../secret.pt", "step": 1, "sha256": ""}
    (tmp_path / checkpoint.LATEST).write_text(json.dumps({"checkpoints": [entry]}))
    with pytest.raises(CheckpointError, match="outside its folder"):
        checkpoint.load_latest(tmp_path)


def test_reading_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    checkpoint.save(tmp_path, 1, {"step": 1, "payload": Hostile()}, keep=1)
    with pytest.raises(CheckpointError, match="holds more than"):
        checkpoint.load_latest(tmp_path)
    assert not (tmp_path / "executed").exists()


KILL = """
import os, signal, sys
from pathlib import Path
import torch
from zoo.training import checkpoint

def state(step): return {"step": step, "weight": torch.full((3,), float(step))}

def die_at(point):
    calls = 0
    def counted(function):
        def wrapper(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)
        return wrapper
    os.fsync, Path.replace, Path.unlink = counted(os.fsync), counted(Path.replace), counted(Path.unlink)
    Path.write_bytes = counted(Path.write_bytes)

root = Path(sys.argv[1])
for point in range(1, 100):
    folder = root / str(point)
    folder.mkdir()
    checkpoint.save(folder, 10, state(10), keep=1)
    child = os.fork()
    if child == 0:
        die_at(point)
        checkpoint.save(folder, 20, state(20), keep=1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    loaded = checkpoint.load_latest(folder)
    assert loaded["step"] in (10, 20) and torch.equal(loaded["weight"], torch.full((3,), float(loaded["step"])))
    print(point, "finished" if status == 0 else "killed", loaded["step"], flush=True)
    checkpoint.remove_leftovers(folder)
    checkpoint.save(folder, 30, state(30), keep=1)
    assert sorted(p.name for p in folder.iterdir()) == ["latest.json", "step-000000030.pt"]
    if status == 0:
        break
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_killed_at_any_write_it_finds_the_old_or_the_new_one(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILL, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    outcomes = [line.split() for line in run.stdout.splitlines()]
    assert len(outcomes) >= 10  # two files, each written, flushed, renamed, folder flushed; and one removed
    assert [outcome[1] for outcome in outcomes[:-1]] == ["killed"] * (len(outcomes) - 1)
    assert {outcome[2] for outcome in outcomes} == {"10", "20"}
    assert outcomes[-1][1:] == ["finished", "20"]
