"""Writing generated data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.common import (
    out,
)
from zoo.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("write-dataset")(write_dataset)


def write_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="digits (COCO layout) or digits-events (GEN1 layout).")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; the split becomes a part of it.")],
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    length: Annotated[int, typer.Option(help="Pictures or clips.")] = 500,
    seed: Annotated[int, typer.Option(help="Another seed gives others of the same split.")] = 0,
) -> None:
    """Write a generated data set as files in the layout that real ones have."""
    from zoo.data import DIGIT_EVENTS, DIGITS, open_dataset
    from zoo.data.coco import write_coco
    from zoo.data.digit_events import write_recordings

    if name not in {DIGITS, DIGIT_EVENTS}:
        raise InvalidInputError(f"there is no generated data set {name!r}; there are {DIGITS} and {DIGIT_EVENTS}")
    if name == DIGITS:
        write_coco(open_dataset(DIGITS, split, length=length, seed=seed), out_dir, split=split)
    else:
        write_recordings(out_dir / split, split, length=length, seed=seed)  # type: ignore[arg-type]
    out.print(f"{length} of {name}, {split}: {out_dir}", highlight=False)
