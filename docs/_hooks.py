"""MkDocs hooks: the command line reference is written from the command's own help, and modules behind symlinks are found.

``zoo/nir_graphs``, ``zoo/adapters`` and ``zoo/hub`` are symlinks, which the parser behind mkdocstrings does not follow. It is
given a copy of the package in which they are folders, and packages with an ``__init__.py``.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

_COPY = Path(tempfile.gettempdir()) / "nir-zoo-docs"


@event_priority(100)
def on_config(config: Any) -> Any:
    """Point mkdocstrings to the copy, before it reads its settings."""
    root = Path(config["config_file_path"]).parent
    shutil.rmtree(_COPY, ignore_errors=True)
    shutil.copytree(root / "zoo", _COPY / "zoo", ignore=shutil.ignore_patterns("cards", "__pycache__"))
    for folder in (_COPY / "zoo").rglob("*/"):
        (folder / "__init__.py").touch()
    config["plugins"]["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(_COPY)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated page."""
    import typer.main
    from typer.cli import get_docs_for_click

    from zoo.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="zoo", title="Command line")
    files.append(File.generated(config, "reference/cli.md", content=text))
    return files


def on_post_build(config: Any) -> None:
    """Remove the copy."""
    del config
    shutil.rmtree(_COPY, ignore_errors=True)
