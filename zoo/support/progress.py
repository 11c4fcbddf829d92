"""Progress bars that stay quiet when nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Handle of one bar."""

    def __init__(self, rich: RichProgress | None, task: int) -> None:
        self._rich = rich
        self._task = task

    def advance(self, note: str = "", *, by: int = 1) -> None:
        """Move on, with a short note behind the bar."""
        if self._rich is not None:
            self._rich.update(self._task, advance=by, note=note)  # type: ignore[arg-type]


@contextmanager
def progress_bar(title: str, *, total: int, start: int = 0, quiet: bool = False) -> Iterator[Progress]:
    """A bar on stderr when that is a terminal, otherwise nothing at all.

    Args:
        title: what is being done.
        total: steps in all.
        start: steps done already.
        quiet: no bar, also on a terminal: within another one.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Progress(None, 0)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with RichProgress(*columns, console=console) as rich:
        yield Progress(rich, rich.add_task(title, total=total, completed=start, note=""))
