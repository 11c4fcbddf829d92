"""Ctrl-C while a detector is trained: say how to continue, and end with the signal's exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from zoo.cli.common import out


def say(text: str) -> None:
    """Print text as it is, in one line however long it is, so that commands in it can be copied."""
    printable = text.encode(errors="backslashreplace").decode()  # names of files may be no text
    out.print(printable, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def interruptible(folder: Path, command: str) -> Iterator[None]:
    """Say how to continue when a signal ends the training inside.

    Args:
        folder: of the run.
        command: the command line that continues it.
    """
    from zoo.training.folder import has_checkpoint
    from zoo.training.interrupts import Interrupted

    try:
        yield
    except KeyboardInterrupt as error:
        code = error.exit_code if isinstance(error, Interrupted) else 130
        if has_checkpoint(folder):
            say(f"interrupted, and the last checkpoint is intact. Continue with:\n{command}")
        else:
            say("interrupted before the first step: nothing is lost")
        raise typer.Exit(code) from None
