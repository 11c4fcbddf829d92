"""What the commands share: output, options and the reading of arguments."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from zoo.errors import FileMissingError, InvalidInputError
from zoo.support.files import write_atomically

# a pipe or a log has no width of its own: wide enough that no table loses its numbers
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write machine-readable output; - is standard output.")
]
BackendOption = Annotated[str, typer.Option("--backend", "-b", help="snntorch (the definition), reference, norse, ...")]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A name of `zoo list`, a model folder, or hf-hub:ORG/REPO@REVISION.")
]
DeviceOption = Annotated[str, typer.Option(help="Torch device.")]


def write_json(path: Path | None, data: Any) -> None:
    """Write data for ``--json``; nothing without it."""
    if path is None:
        return
    text = json.dumps(_plain(data), indent=1, allow_nan=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        write_atomically(path, text)


def _plain(data: Any) -> Any:
    """Numbers that are not finite (an average over no objects) as null: JSON has no other word for them."""
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def check_writable(path: Path | None) -> None:
    """Refuse a file that cannot be written before long work is done.

    Raises:
        InvalidInputError: the path is a folder.
    """
    if path is not None and path.is_dir():
        raise InvalidInputError(f"cannot write {path}: it is a folder; name a file")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``640`` or ``480x640`` as (height, width).

    Raises:
        InvalidInputError: neither.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise InvalidInputError(f"an image size is one number or HEIGHTxWIDTH, for example 480x640, not {text!r}")
    height = int(match[1])
    return height, int(match[2] or height)


def split_names(values: Iterable[str]) -> list[str]:
    """``["a,b", "c"]`` -> ``["a", "b", "c"]``."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


RECORDINGS = {".dat"}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"}


def find_pictures(sources: Iterable[str], endings: Collection[str] = PICTURES) -> list[Path]:
    """Files as they are, and those of folders that have one of the endings, in alphabetical order.

    Raises:
        FileMissingError: no such file, or a folder without such files.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if not path.exists():
            raise FileMissingError(f"there is no file {path}")
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in endings)
            if not inside:
                kind = "pictures" if endings is PICTURES else f"files {', '.join(sorted(endings))}"
                raise FileMissingError(f"the folder {path} holds no {kind}")
            found += inside
        else:
            found.append(path)
    return found


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """``["ts=3", "sampler=fixed"]`` -> numbers, truth values, and what is neither as text.

    Raises:
        InvalidInputError: not NAME=VALUE.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not (name and separator and value):
            raise InvalidInputError(f"settings are written NAME=VALUE, for example ts=3, not {setting!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
