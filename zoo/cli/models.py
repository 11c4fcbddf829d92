"""The commands that show what there is: list and info."""

from __future__ import annotations

from typing import Annotated, Any

import rich.box
import typer
from rich.markup import escape
from rich.table import Table

from zoo.cli.common import (
    JsonOption,
    NameArgument,
    out,
    write_json,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("list")(list_command)
    app.command()(info)


def list_command(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, for example 'spikeyolo*'.")] = "*",
    dataset: Annotated[str | None, typer.Option(help="Only models trained on this data set.")] = None,
    available: Annotated[bool, typer.Option("--available", help="Only models whose weights exist.")] = False,
    json: JsonOption = None,
) -> None:
    """List the models."""
    import zoo

    cards = [zoo.info(name) for name in zoo.list_models(pattern, dataset=dataset, available=available)]
    table = Table("name", "data", "weights", "size", "T", "D", "mAP50-95", "mAP50", box=rich.box.SIMPLE)
    for column in table.columns:
        column.no_wrap = True
    for card in cards:
        scores = ["-" if (value := card.metric(name)) is None else f"{value:.4f}" for name in ("mAP50-95", "mAP50")]
        count = f"{card.parameters / 1e6:.1f} M" if card.parameters else "-"
        table.add_row(
            card.name,
            card.dataset,
            "yes" if card.available else "not yet",
            count,
            str(card.time_steps),
            str(card.levels),
            *scores,
        )
    write_json(json, [card.to_dict() for card in cards])
    if str(json) != "-":
        out.print(table)


def info(name: NameArgument, json: JsonOption = None) -> None:
    """Show the card of a model."""
    import zoo

    card = zoo.info(name)
    write_json(json, card.to_dict())
    if str(json) == "-":
        return
    table = Table(title=card.name, show_header=False)
    for key, value in card.to_dict().items():
        if key not in {"format", "name"} and value and (text := _shown(value)):
            table.add_row(key, escape(text))
    out.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        given = {
            key: inner for key, inner in value.items() if inner not in (None, "") and (key, inner) != ("images", 0)
        }
        return "\n".join(f"{key}: {_shown(inner)}" for key, inner in given.items())
    if isinstance(value, list):
        separator = "\n" if any(isinstance(inner, dict) for inner in value) else ", "
        return separator.join(_shown(inner).replace("\n", ", ") for inner in value)
    return str(value)
