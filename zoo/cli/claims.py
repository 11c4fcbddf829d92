"""``zoo claims``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import rich.box
import typer
from rich.table import Table

from zoo.cli.common import JsonOption, check_writable, out, write_json

claims = typer.Typer(help="Claims of the papers, measured again.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(claims, name="claims")


@claims.callback()
def _group() -> None:
    """Claims of the papers, measured again."""


@claims.command()
def conversion(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models that hold a trainable ANN.")],
    images: Annotated[int, typer.Option(help="Test pictures.")] = 500,
    time_steps: Annotated[str, typer.Option("--time-steps", "-T", help="Comma-separated.")] = "2,4,8,16,32,64,128,256",
    record_results: Annotated[
        bool,
        typer.Option("--record-results", help="Add rows to results/claims.csv and draw docs/claims-conversion.png."),
    ] = False,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves as PNG.")] = None,
    json: JsonOption = None,
) -> None:
    """mAP50 of converted networks against T: channel-wise or layer-wise, signed neurons or clipping."""
    from zoo.errors import InvalidInputError
    from zoo.measuring import ledger
    from zoo.measuring.claims import draw_conversion, measure_conversion

    check_writable(json)
    try:
        readouts = sorted({int(part) for part in time_steps.split(",")})
    except ValueError:
        raise InvalidInputError(f"-T takes numbers such as 16,64,256, not {time_steps!r}") from None
    folder = ledger.results_folder() if record_results else None
    curves = measure_conversion(names, images=images, readouts=readouts)
    rows = [row for curve in curves for row in curve.rows()]
    write_json(json, rows)
    if folder is not None:
        for row in rows:
            ledger.append_row("claims", row)
        draw_conversion(curves, folder.parent / "docs" / "claims-conversion.png")
    if figure is not None:
        draw_conversion(curves, figure)
    if str(json) != "-":
        table = Table(
            "model", "normalisation", "neuron", "ANN", *(f"T={t}" for t in readouts), "98 % at", box=rich.box.SIMPLE
        )
        for curve in curves:
            values = [f"{value:.3f}" for _, value in curve.points]
            first = "-" if curve.first is None else str(curve.first)
            table.add_row(curve.model, curve.normalisation, curve.neuron, f"{curve.ann:.3f}", *values, first)
        out.print(table)
