"""Manifests: sha256 and size of every file of a model, checked before any of the files is opened.

huggingface_hub does not verify checksums on download, and HDF5 has a large C parser; so nothing is parsed that is not, byte
for byte, what its publisher wrote. ``manifest.json``::

    {"format": 1, "files": {"config.json": {"sha256": "9f86...", "size": 812}, ...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoo.errors import CorruptFileError, FileMissingError

MANIFEST = "manifest.json"
MANIFEST_LIMIT = 2**20  # bytes
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]  # no folders, nothing hidden


class Entry(BaseModel):
    """What one file must be.

    Attributes:
        sha256: of the whole content, lower-case hexadecimal.
        size: in bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """Every file of one model besides the manifest itself.

    Attributes:
        format: version of this layout.
        files: entry by file name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1] = 1
    files: Annotated[dict[FileName, Entry], Field(max_length=64)]


def digest(path: Path) -> Entry:
    """sha256 and size of a file.

    Raises:
        FileMissingError: the file cannot be read, or is a folder, a pipe or a device.
    """
    if not path.is_file():
        raise FileMissingError(f"cannot read {path}: there is no such file")
    try:
        with path.open("rb") as file:
            return Entry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=file.tell())
    except OSError as error:
        raise FileMissingError(f"cannot read {path}: {error.strerror}") from None


def write_manifest(directory: Path) -> Manifest:
    """Write ``manifest.json`` for all files of a directory."""
    files = sorted(path for path in directory.iterdir() if path.name != MANIFEST)
    manifest = Manifest(files={path.name: digest(path) for path in files})
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """Read ``manifest.json``.

    Raises:
        FileMissingError: the directory has none.
        CorruptFileError: it is not a manifest.
    """
    path = directory / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(MANIFEST_LIMIT + 1)
    except OSError:
        raise FileMissingError(
            f"{directory} is not a model of the zoo: it has no {MANIFEST}; `zoo train` and `zoo import-official` make models"
        ) from None
    try:
        if len(text) > MANIFEST_LIMIT:
            raise CorruptFileError(f"{path} is larger than 1 MiB: this is no manifest")
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]
        where = ".".join(map(str, reason["loc"])) or "file"
        raise CorruptFileError(
            f"{path} is not a valid manifest ({where}: {reason['msg']}); get the model again"
        ) from None


def check_manifest(directory: Path, names: Iterable[str] | None = None) -> Manifest:
    """Check files against the manifest, before anything is opened.

    Args:
        directory: holds ``manifest.json`` and the files.
        names: the files that are going to be used; by default every file of the manifest.

    Raises:
        FileMissingError: a file is missing, or is not in the manifest.
        CorruptFileError: a size or sha256 differs, or the manifest is damaged.
    """
    manifest = read_manifest(directory)
    for name in manifest.files if names is None else names:
        path = directory / name
        if name not in manifest.files:
            raise FileMissingError(f"{directory} has no {name}: its manifest does not list one")
        expected = manifest.files[name]
        size = path.stat().st_size if path.is_file() else expected.size
        if size != expected.size:
            raise CorruptFileError(f"{path} is damaged: {size} bytes instead of {expected.size}; get the model again")
        found = digest(path)
        if found.sha256 != expected.sha256:
            raise CorruptFileError(
                f"{path} is damaged or was changed: its sha256 is {found.sha256[:12]}... instead of "
                f"{expected.sha256[:12]}...; get the model again"
            )
    return manifest
