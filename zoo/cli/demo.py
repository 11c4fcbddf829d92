"""The demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.common import (
    out,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(demo)


def demo(
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")] = Path("demo-out"),
    name: Annotated[str, typer.Option("--model", help="A name of `zoo list`, or a model folder.")] = "spikeyolo-digits",
) -> None:
    """Find handwritten digits, export to NIR, rebuild in Norse from the file alone, and prove that both agree."""
    from zoo.demo import run

    if not run(out_dir, name=name, console=out):
        raise typer.Exit(1)
