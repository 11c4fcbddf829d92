"""Checkpoints that survive a crash at any moment.

A checkpoint is written to a temporary file, flushed to disk, renamed into place, and only then named in ``latest.json``
with its SHA-256; only after that are old ones removed. Whatever a crash leaves behind, ``latest.json`` names a complete
file. Should the disk damage the newest file later, the one before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.errors import CheckpointError
from zoo.support.files import write_atomically

LATEST = "latest.json"
_PATTERN = "step-*.pt"


@dataclass(frozen=True)
class Entry:
    """One checkpoint as ``latest.json`` names it.

    Attributes:
        file: name within the folder.
        step: optimiser steps done.
        sha256: of the file.
    """

    file: str
    step: int
    sha256: str


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write the checkpoint of a step, name it first in ``latest.json``, and remove all but the newest ``keep``.

    Args:
        folder: of the checkpoints.
        step: optimiser steps done.
        state: tensors, numbers, strings and containers of these.
        keep: checkpoints that stay.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = folder / f"step-{step:09d}.pt"
    older = [entry for entry in _entries(folder) if entry.step < step]
    write_atomically(path, content)
    entries = [Entry(path.name, step, hashlib.sha256(content).hexdigest()), *older][:keep]
    write_atomically(folder / LATEST, json.dumps({"checkpoints": [asdict(entry) for entry in entries]}, indent=1))
    for old in folder.glob(_PATTERN):
        if old.name not in {entry.file for entry in entries}:
            old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The newest intact checkpoint, or None where there is none yet. Reading it runs no code.

    Raises:
        CheckpointError: ``latest.json`` is damaged, or all that it names is.
    """
    entries = _entries(folder)
    wrong = []
    for entry in entries:
        path = folder / entry.file
        try:
            content = path.read_bytes()
        except OSError as error:
            wrong.append(f"{path.name} cannot be read ({error.strerror})")
            continue
        if hashlib.sha256(content).hexdigest() == entry.sha256:
            return _parse(content, path)
        wrong.append(f"the SHA-256 of {path.name} is not the one in {LATEST}")
    if wrong:
        raise CheckpointError(
            f"no checkpoint in {folder} is intact: {'; '.join(wrong)}. Start the run again in another folder"
        )
    return None


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path} holds more than tensors and numbers, so it is not read") from None
    return state


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that an interrupted write left behind."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Entry]:
    """Checkpoints named in ``latest.json``, newest first."""
    pointer = folder / LATEST
    if not pointer.exists():
        return []
    try:
        entries = [Entry(**entry) for entry in json.loads(pointer.read_bytes())["checkpoints"]]
        if any(Path(entry.file).name != entry.file for entry in entries):
            raise CheckpointError(f"{pointer} names a file outside its folder")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{pointer} is damaged ({error}); start the run again in another folder") from None
    return sorted(entries, key=lambda entry: -entry.step)
