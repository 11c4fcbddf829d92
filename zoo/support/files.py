"""Files that are either written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import FileMissingError, InvalidInputError


def sync(path: Path) -> None:
    """Flush a file or directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _existing_parent(path: Path) -> Path:
    parent = path.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileMissingError(f"cannot write {path}: the folder {parent} cannot be made: {error.strerror}") from None
    if not os.access(parent, os.W_OK):
        raise FileMissingError(f"cannot write {path}: the folder {parent} is not writable")
    return parent


def check_file(path: str | Path) -> None:
    """Refuse early a path that :func:`replace_atomically` would refuse, before long work is done.

    Raises:
        InvalidInputError: the path is a folder.
        FileMissingError: a folder above it is a file, or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInputError(f"cannot write {path}: it is a folder; name a file")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise FileMissingError(f"cannot write {path}: {parent} is not a folder")
    if not os.access(parent, os.W_OK):
        raise FileMissingError(f"cannot write {path}: the folder {parent} is not writable")


@contextmanager
def replace_atomically(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path``, to be filled in the ``with`` block, that replaces it when the block ends well.

    Readers see the old or the new content, never a part. Folders on the way are made.

    Raises:
        FileMissingError: the folder cannot be made or written.
        InvalidInputError: the path is a folder.
    """
    path = Path(path)
    parent = _existing_parent(path)
    if path.is_dir():
        raise InvalidInputError(f"cannot write {path}: it is a folder; name a file")
    descriptor, name = tempfile.mkstemp(dir=parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(parent)


def write_atomically(path: str | Path, data: str | bytes) -> Path:
    """Write a file so that it is seen complete or not at all; see :func:`replace_atomically`."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def new_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A directory that appears under its name only when the ``with`` block has ended without an error.

    Args:
        path: the directory to be.
        overwrite: replace a directory that is there; otherwise only an empty one may be there.

    Yields:
        A temporary directory beside it, to be filled.

    Raises:
        InvalidInputError: the path exists and must not be replaced.
        FileMissingError: the folder above cannot be made or written.
    """
    path = Path(path)
    check_replaceable(path, overwrite=overwrite)
    parent = _existing_parent(path)
    temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for file in temporary.rglob("*"):
            sync(file)
        sync(temporary)
        _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync(parent)


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuse early what :func:`new_directory` would refuse, before long work is done.

    Raises:
        InvalidInputError: the path is a file, or a directory with something in it that must not be replaced.
    """
    if path.exists() and not path.is_dir():
        raise InvalidInputError(f"cannot write the folder {path}: a file of that name exists")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InvalidInputError(f"cannot write the folder {path}: it exists and is not empty; choose another name")


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.replace(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
    path.replace(old)
    try:
        new.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old)
