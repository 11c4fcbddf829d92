"""The ``zoo`` command. Its verbs mirror the functions of the package.

Exit code 0: fine. 1: a check failed. 2: bad input or usage, with one clear line on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from zoo.cli import (
    cards,
    certify,
    claims,
    conformance,
    data,
    datasets,
    demo,
    exactness,
    hub,
    models,
    official,
    predict,
    speed,
    train,
    val,
)
from zoo.cli.common import out
from zoo.errors import ZooError

app = typer.Typer(
    name="zoo",
    help="A zoo of spiking object detectors on NIR, the Neuromorphic Intermediate Representation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 or 2.

    Args:
        arguments: instead of those of the process.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="zoo")
    except ZooError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        sys.exit(2)


def _version(value: bool) -> None:
    if value:
        import zoo

        out.print(f"nir-zoo {zoo.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


models.register(app)
predict.register(app)
exactness.register(app)
demo.register(app)
train.register(app)
val.register(app)
official.register(app)
datasets.register(app)
data.register(app)
certify.register(app)
conformance.register(app)
speed.register(app)
claims.register(app)
hub.register(app)
cards.register(app)
