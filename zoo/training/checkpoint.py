"""Checkpoints that survive a crash at any moment.

A checkpoint is written to a temporary file, flushed to disk, renamed into place, and only then named in ``latest.json``
with its SHA-256. Whatever a crash leaves behind, ``latest.json`` names a complete file or an older complete file.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from zoo.errors import CheckpointError
from zoo.files import write_atomically

LATEST = "latest.json"


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write the checkpoint of a step, point ``latest.json`` at it, and remove all but the newest ``keep``."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = folder / f"step-{step:08d}.pt"
    write_atomically(path, content)
    entry = {"file": path.name, "step": step, "sha256": hashlib.sha256(content).hexdigest()}
    write_atomically(folder / LATEST, json.dumps(entry).encode())
    for old in sorted(folder.glob("step-*.pt"))[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The newest complete checkpoint, or None where there is none yet.

    Raises:
        CheckpointError: ``latest.json`` or the file that it names is damaged.
    """
    pointer = folder / LATEST
    if not pointer.exists():
        return None
    try:
        entry = json.loads(pointer.read_bytes())
        content = (folder / Path(entry["file"]).name).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise CheckpointError(f"{folder / entry['file']} is damaged: its SHA-256 is not the one in {pointer}")
        return torch.load(io.BytesIO(content), weights_only=True)
    except (OSError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"the checkpoint named in {pointer} cannot be read: {error}") from error
