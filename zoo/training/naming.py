"""Names of models: lower case letters, digits, ``.``, ``+`` and ``-``, as the Hub and every file system take them."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

_UNINFORMATIVE = {"data", "dataset"}
LONGEST = 100


def legal_name(text: str) -> str:
    """The legal model name that is closest to a text: ``My_Model (2)`` becomes ``my-model-2``. Empty where nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9.+]+", "-", plain).strip(".+-")[:LONGEST].rstrip(".+-")


def data_name(data: str) -> str:
    """What a data set is called: the name of its folder, or of the folder that holds its ``data.yaml``."""
    path = Path(data)
    if os.path.isfile(data):  # noqa: PTH113 - also of a name that is too long for a file
        path = path.parent if path.stem.lower() in _UNINFORMATIVE else path.with_suffix("")
    return (path if path.name and path.name != ".." else path.absolute().resolve()).name


def default_name(arch: str, data: str) -> str:
    """The name of a model that was given none: architecture and data."""
    return legal_name(f"{arch}-{data_name(data)}") or "model"
