"""The folder of a run: settings, metrics and checkpoints, for one process at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import FileMissingError, TrainingError
from zoo.support.files import write_atomically
from zoo.training import checkpoint
from zoo.training.config import TrainConfig, parse_train_config

SETTINGS, METRICS, VALIDATION, LOCK = "train.json", "metrics.csv", "validation.csv", ".lock"


class RunFolder:
    """Where a run keeps its files.

    Args:
        path: of the folder.
        keep: checkpoints that stay.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        self.path = path
        self.keep = keep

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the checkpoint of a step."""
        checkpoint.save(self._checkpoints, step, state, keep=self.keep)

    def load(self) -> dict[str, Any] | None:
        """The newest intact checkpoint. Rows of later steps leave the tables: those steps come again."""
        checkpoint.remove_leftovers(self._checkpoints)
        checkpoint.remove_leftovers(self.path)
        state = checkpoint.load_latest(self._checkpoints)
        for table in (METRICS, VALIDATION):
            self._forget(table, after=0 if state is None else state["step"])
        return state

    def log(self, table: str, row: Mapping[str, float]) -> None:
        """Add a row to a table; its first column is ``step``."""
        path = self.path / table
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not path.exists():
            writer.writerow(row)
        writer.writerow([value if isinstance(value, int) else f"{value:.6g}" for value in row.values()])
        with path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def last(self, table: str, column: str) -> float:
        """The last value of a column, 0 where there is none."""
        path = self.path / table
        if not path.exists():
            return 0.0
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return float(rows[-1][column]) if rows else 0.0

    def _forget(self, table: str, *, after: int) -> None:
        path = self.path / table
        if not path.exists():
            return
        header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= after]
        write_atomically(path, header + "".join(kept)) if kept else path.unlink()


@contextmanager
def claim(path: Path, config: TrainConfig) -> Iterator[RunFolder]:
    """Make the folder of a run, or take over the one of an interrupted run with the same settings.

    Raises:
        TrainingError: the folder holds something else, a run with other settings, or one that is going on.
        ConfigError: its settings are damaged.
        FileMissingError: it cannot be made or written.
    """
    if path.exists() and not path.is_dir():
        raise TrainingError(f"{path} is a file; choose another --out")
    if (path / SETTINGS).exists():
        _require_same(path / SETTINGS, config)
    elif path.exists() and any(entry.name not in {LOCK, "checkpoints"} for entry in path.iterdir()):
        raise TrainingError(f"{path} is not empty and holds no run of this program; choose another --out")
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileMissingError(f"cannot make the folder {path}: {error.strerror}; choose another --out") from None
    with _locked(path):
        if not (path / SETTINGS).exists():
            write_atomically(path / SETTINGS, config.model_dump_json(indent=2) + "\n")
        yield RunFolder(path, keep=config.keep)


def _require_same(settings: Path, config: TrainConfig) -> None:
    there = parse_train_config(settings.read_bytes(), source=str(settings)).model_dump()
    ours = config.model_dump()
    other = [f"{name} = {there[name]} there, {ours[name]} here" for name in ours if ours[name] != there[name]]
    if other:
        raise TrainingError(
            f"{settings.parent} holds a run with other settings ({'; '.join(other)}); choose another --out, or repeat them"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with (path / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(
                f"another process is training in {path}; wait for it, or choose another --out"
            ) from None
        yield
