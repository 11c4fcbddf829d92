"""The commands that move a model to other frameworks and compare it there: export and verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.common import (
    JsonOption,
    NameArgument,
    check_writable,
    find_pictures,
    out,
    parse_size,
    split_names,
    write_json,
)
from zoo.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(export)
    app.command()(verify)


def export(
    name: NameArgument,
    path: Annotated[Path, typer.Option("--output", "--out", "-o", metavar="FILE", help="The .nir file to write.")],
    image_size: Annotated[str | None, typer.Option(metavar="HxW", help="Pixels; by default the model's own.")] = None,
    single_output: Annotated[
        bool, typer.Option("--single-output", help="One Output node, for tools that accept one only.")
    ] = False,
    profile: Annotated[
        str,
        typer.Option(
            help="full, the smallest form, or stock, an equal graph that nir.read(path) loads with its defaults."
        ),
    ] = "full",
) -> None:
    """Write a model as a standard .nir file.

    Other tools must read the profile full with nir.read(path, type_check=False), since nir 1.0.8 infers wrong types of grouped
    and of non-square convolutions.
    """
    import zoo

    check_writable(path)
    zoo.export(name, path, image_size=parse_size(image_size), single_output=single_output, profile=profile)
    out.print(f"{path}: {path.stat().st_size / 1e6:.2f} MB", highlight=False)


def verify(
    name: NameArgument,
    backends: Annotated[
        list[str] | None, typer.Option("--backend", "--backends", "-b", help="Repeatable; default: all installed.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float64 is judged spike for spike; float32 is reported.")] = "float32",
    images: Annotated[
        list[str] | None, typer.Option("--images", metavar="PATH", help="Pictures; default: digits, noise, extremes.")
    ] = None,
    time_steps: Annotated[int | None, typer.Option("--time-steps", "-T", help="T, if not the model's own.")] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write spikes, potentials and rasters; compares 4 images of each group by default."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the folder of --record if it is there.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table as Markdown.")] = None,
    record_results: Annotated[
        bool, typer.Option("--record-results", help="Add rows to results/equivalence.csv (in a checkout).")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Compare every spike between the definition, the reference and other backends; exit code 1 where they differ."""
    import zoo
    from zoo.measuring import ledger
    from zoo.support.files import write_atomically

    check_writable(json)
    check_writable(markdown)
    if record_results:
        ledger.results_folder()
    if record is not None and record.exists() and not overwrite:
        raise InvalidInputError(f"{record} exists already; choose another folder or --overwrite")
    report = zoo.verify(
        name,
        split_names(backends or ["all"]),
        images=find_pictures(images) if images else None,
        time_steps=time_steps,
        dtype=dtype,
        record=record is not None,
    )
    if record is not None and report.graph is not None:
        from zoo.equivalence.recording import write_recording

        write_recording(report, report.graph, record, overwrite=overwrite)
        out.print(f"recorded in {record}: start with {record / 'README.md'}", highlight=False)
    write_json(json, report.to_dict())
    if markdown is not None:
        write_atomically(markdown, report.to_markdown())
    if str(json) != "-":
        out.print(report.table())
        for note in report.notes():
            out.print(note, highlight=False, markup=False)
    if record_results:
        for row in report.summary():
            ledger.append_row("equivalence", row)
    if not report.passed:
        raise typer.Exit(1)
