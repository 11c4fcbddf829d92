"""``zoo conformance``."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import rich.box
import typer
from rich.table import Table

from zoo.cli.common import JsonOption, check_writable, out, split_names, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(conformance)


def conformance(
    subjects: Annotated[
        list[str] | None, typer.Option("--subject", "-s", help="Repeatable; default: all adapters and stock importers.")
    ] = None,
    cases: Annotated[list[str] | None, typer.Option("--case", "-c", help="Repeatable; default: all.")] = None,
    record_results: Annotated[
        bool, typer.Option("--record-results", help="Write results/conformance.csv and docs/conformance.md.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Run every NIR node and its corners on all adapters and stock importers; exit code 1 where an adapter fails."""
    from zoo.equivalence.conformance import document
    from zoo.equivalence.conformance.suite import examine
    from zoo.measuring import ledger
    from zoo.support.files import write_atomically

    check_writable(json)
    folder = ledger.results_folder() if record_results else None
    results = examine(split_names(subjects) if subjects else None, split_names(cases) if cases else None)
    rows = document.rows(results)
    write_json(json, rows)
    if folder is not None:
        page = write_atomically(folder.parent / "docs" / "conformance.md", document.markdown(results))
        out.print(f"recorded in {ledger.write_table('conformance', rows)} and {page}", highlight=False)
    if str(json) != "-":
        _show(rows)
    if any(row["kind"] == "adapter" and row["outcome"] not in {"exact", "refuses"} for row in rows):
        raise typer.Exit(1)


def _show(rows: list[dict[str, object]]) -> None:
    outcomes = ("exact", "refuses", "wrong", "crashes", "hangs")
    table = Table("subject", "version", *outcomes, box=rich.box.SIMPLE)
    for subject in dict.fromkeys(str(row["subject"]) for row in rows):
        mine = [row for row in rows if row["subject"] == subject]
        counts = Counter(str(row["outcome"]) for row in mine)
        table.add_row(subject, str(mine[0]["version"]), *(str(counts[outcome] or "-") for outcome in outcomes))
    out.print(table)
    for row in rows:
        if row["outcome"] != "exact" and row["kind"] == "adapter":
            out.print(
                f"{row['subject']}, {row['case']}: {row['outcome']}: {row['detail']}", highlight=False, markup=False
            )
