"""The folder of a run: settings, metrics and checkpoints, for one process at a time."""

from __future__ import annotations

import csv
import errno
import io
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.errors import FileMissingError, TrainingError, ZooError
from zoo.support.files import write_atomically
from zoo.training import checkpoint
from zoo.training.config import TrainConfig, fields_of, parse_train_config

SETTINGS, METRICS, VALIDATION, LOCK = "train.json", "metrics.csv", "validation.csv", ".lock"


class RunFolder:
    """Where a run keeps its files. Nothing is written before :meth:`begin`.

    Args:
        path: of the folder.
        config: settings of the run.
    """

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        self.config = config
        self._lock = FileLock(path / LOCK, timeout=0)

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def load(self) -> dict[str, Any] | None:
        """The newest intact checkpoint, or None where there is none yet.

        Raises:
            CheckpointError: the checkpoints are damaged.
        """
        return checkpoint.load_latest(self._checkpoints)

    def begin(self, step: int, *, checkpoint_bytes: int) -> None:
        """Make the folder ready for the steps after ``step``. Rows of later steps leave the tables: those steps come again.

        Raises:
            TrainingError: the disk lacks the space for the checkpoints and the model, or another process trains in the folder.
            FileMissingError: the folder cannot be made or written.
        """
        is_new = not self.path.exists()
        self._require_space(checkpoint_bytes)
        with self.writing(self.path):
            try:
                self._checkpoints.mkdir(parents=True, exist_ok=True)
                self.lock()
                _require_ours(self.path, self.config)  # another process may have begun in the meantime
                for place in (self._checkpoints, self.path):
                    checkpoint.remove_leftovers(place)
                write_atomically(self.path / SETTINGS, self.config.model_dump_json(indent=2) + "\n")
            except (OSError, ZooError):
                if is_new and not (self.path / SETTINGS).exists():
                    shutil.rmtree(self.path, ignore_errors=True)
                raise
            for table in (METRICS, VALIDATION):
                self._forget(table, after=step)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the checkpoint of a step.

        Raises:
            TrainingError: it cannot be written; those before it are intact.
        """
        with self.writing(self._checkpoints):
            checkpoint.save(self._checkpoints, step, state, keep=self.config.keep)

    def log(self, table: str, row: Mapping[str, float]) -> None:
        """Add a row to a table; its first column is ``step``.

        Raises:
            TrainingError: it cannot be written.
        """
        path = self.path / table
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not path.exists():
            writer.writerow(row)
        writer.writerow([value if isinstance(value, int) else f"{value:.6g}" for value in row.values()])
        with self.writing(path), path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def last(self, table: str, column: str) -> float:
        """The last value of a column, 0 where there is none."""
        path = self.path / table
        if not path.exists():
            return 0.0
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return float(rows[-1][column]) if rows else 0.0

    def lock(self) -> None:
        """Hold the folder until :meth:`close`; the system lets go of it when the process ends, however it ends."""
        with self.writing(self.path):
            try:
                self._lock.acquire()
            except Timeout:
                raise TrainingError(
                    f"another process is training in {self.path}; wait for it, or choose another --out"
                ) from None

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.release(force=True)

    def _forget(self, table: str, *, after: int) -> None:
        path = self.path / table
        if not path.exists():
            return
        header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= after]
        write_atomically(path, header + "".join(kept)) if kept else path.unlink()

    def _require_space(self, checkpoint_bytes: int) -> None:
        """Room for the checkpoints that are kept, one more while it is written, and the model."""
        config = self.config
        most = min(config.keep, config.steps // config.checkpoint_every + 2)
        there = sum(file.stat().st_size for file in self._checkpoints.glob("*.pt"))
        needed = max(0, (most + 1) * checkpoint_bytes - there) + checkpoint_bytes
        free = shutil.disk_usage(_existing(self.path)).free
        if free < needed:
            raise TrainingError(
                f"the disk of {self.path} has {free / 1e6:,.1f} MB free, and this run needs {needed / 1e6:,.1f} MB for "
                f"{most} checkpoints and the model; free some space, choose another --out, or lower --keep"
            )

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Errors of the disk as one clear sentence.

        Raises:
            TrainingError: instead of an ``OSError``.
        """
        try:
            yield
        except FileMissingError:
            raise
        except OSError as error:
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            what = "the disk is full" if is_full else str(error.strerror)
            raise TrainingError(f"cannot write {path}: {what}. {_advice(self.path)}") from None


def _existing(path: Path) -> Path:
    """The path, or the first folder above it that there is."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _advice(path: Path) -> str:
    try:
        intact = has_checkpoint(path)
    except OSError:
        intact = False
    if intact:
        return f"The last checkpoint is intact: put this right, then continue with `{resume_command(path)}`"
    return "Put this right, or choose another --out"


@contextmanager
def claim(path: Path, config: TrainConfig) -> Iterator[RunFolder]:
    """The folder of a new run, or that of an interrupted run with the same recipe.

    Raises:
        TrainingError: the folder holds something else, a run with another recipe, or one that is going on.
        ConfigError: its settings are damaged.
    """
    folder = RunFolder(path, config)
    with folder.writing(path):
        _require_ours(path, config)
        is_there = (path / SETTINGS).exists()
        place = _existing(path)
    if not os.access(place, os.W_OK | os.X_OK):
        raise TrainingError(f"cannot write {path}: {place} is not writable. {_advice(path)}")
    try:
        if is_there:
            folder.lock()
        yield folder
    finally:
        folder.close()


def _require_ours(path: Path, config: TrainConfig) -> None:
    if path.exists() and not path.is_dir():
        raise TrainingError(f"{path} is a file; choose another --out")
    if (path / SETTINGS).exists():
        require_same_recipe(path / SETTINGS, config)
    elif path.exists() and any(entry.name not in {LOCK, "checkpoints"} for entry in path.iterdir()):
        raise TrainingError(f"{path} is not empty and holds no run of this program; choose another --out")


def resume_command(path: str | Path) -> str:
    """The command line that continues the run of a folder."""
    return shlex.join(["zoo", "train", "--resume", str(path)])


def has_checkpoint(path: Path) -> bool:
    """Whether a folder holds a run that has written a checkpoint."""
    return (path / "checkpoints" / checkpoint.LATEST).is_file()


def read_run(path: Path) -> TrainConfig:
    """Settings of the run that a folder holds.

    Raises:
        FileMissingError: it holds none.
        ConfigError: they are damaged.
    """
    settings = path / SETTINGS
    try:
        return parse_train_config(settings.read_bytes(), source=str(settings))
    except OSError as error:
        raise FileMissingError(f"{path} holds no run that could be continued: {settings}: {error.strerror}") from None


def require_same_recipe(settings: Path, config: TrainConfig) -> None:
    """Refuse to continue a run with settings that decide its weights and are not those that it began with.

    Raises:
        TrainingError: names the fields.
        ConfigError: the settings are damaged.
    """
    there = parse_train_config(settings.read_bytes(), source=str(settings))
    other = [
        f"{name} = {getattr(there, name)!r} there, {getattr(config, name)!r} here"
        for name in fields_of("recipe")
        if getattr(there, name) != getattr(config, name)
    ]
    if other:
        raise TrainingError(
            f"{settings.parent} holds a run with another recipe ({'; '.join(other)}): choose another --out, repeat its "
            f"settings, or continue it with `{resume_command(settings.parent)}`"
        )
