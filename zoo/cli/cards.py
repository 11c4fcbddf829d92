"""``zoo count`` and ``zoo card``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import rich.box
import typer
from rich.table import Table

from zoo.cli.common import JsonOption, NameArgument, check_writable, out, write_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(count)
    app.command()(card)


def count(
    name: NameArgument,
    images: Annotated[int, typer.Option(min=1, help="Handwritten digits, or clips of moving ones.")] = 16,
    record_results: Annotated[
        bool, typer.Option("--record-results", help="Add a row to results/activity.csv (in a checkout).")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Count spikes and synaptic operations per picture, as NeuroBench does."""
    import zoo
    from zoo.measuring import ledger
    from zoo.measuring.activity import CONVENTION
    from zoo.measuring.activity import count as run

    check_writable(json)
    if record_results:
        ledger.results_folder()
    found = run(zoo.load(name), images=images)
    row: dict[str, object] = {"model": name, **found.per_image(), "images": found.images, "convention": CONVENTION}
    write_json(json, row)
    if record_results:
        out.print(f"recorded in {ledger.append_row('activity', row)}", highlight=False)
    if str(json) != "-":
        table = Table("per picture, all time steps", "", box=rich.box.SIMPLE, title=name)
        table.add_row("spikes per neuron and time step", f"{found.spike_rate:.4f}")
        for key in ("effective_acs", "effective_macs", "dense_macs"):
            table.add_row(key.replace("_", " "), f"{found.per_image()[key]:,.0f}")
        out.print(table)
        out.print(CONVENTION, highlight=False)


def card(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder; its card's name picks the rows.")],
    results: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Tables; default: this checkout's results/.")
    ] = None,
) -> None:
    """Fill a model's card with what was measured: mAP, spikes, equivalence, certificate. Weights stay as they are."""
    from zoo.errors import InvalidInputError
    from zoo.hub import bundle
    from zoo.measuring import ledger

    name = bundle.read_card_of(folder).name
    fields = ledger.card_fields(name, folder=results)
    if not fields:
        raise InvalidInputError(
            f"the tables say nothing of {name}; measure it first: zoo val, zoo verify, zoo certify, zoo count, with "
            "--record-results"
        )
    bundle.rewrite_card(folder, **fields)
    out.print(f"{folder / bundle.CARD}: {', '.join(fields)}", highlight=False)
