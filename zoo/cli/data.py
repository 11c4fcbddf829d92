"""Looking at data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import rich.box
import typer
from rich.markup import escape
from rich.table import Table

from zoo.cli.common import JsonOption, check_writable, out, write_json

if TYPE_CHECKING:
    from zoo.data.check import SetContents

CLASSES_SHOWN = 100

data_app = typer.Typer(help="Data sets: what is understood of them.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(data_app, name="data")


@data_app.callback()
def _group() -> None:
    """Look at data sets."""


@data_app.command()
def check(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Folder of a data set, a data.yaml, or a COCO annotation file.")
    ],
    split: Annotated[str | None, typer.Option(help="Check this split only. Default: all splits.")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write some images with their boxes as one image."),
    ] = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help="Format to use where the folder has several: coco, yolo, voc, ...")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Read annotations and the headers of images, but no pixels and no events.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Show how a data set is understood, and its first wrong entries; exit code 1 where something is wrong or left out."""
    from zoo.data.check import check_dataset
    from zoo.data.sheet import check_ending, contact_sheet

    check_writable(json)
    if sheet is not None:
        check_writable(sheet)
        check_ending(sheet)
    contents = check_dataset(path, split, format=format_name, decode=not quick)
    write_json(json, contents.to_dict())
    if str(json) != "-":
        _show(contents)
    if sheet is not None and contents.datasets:
        contact_sheet(contents.datasets, sheet)
        if str(json) != "-":
            out.print(f"contact sheet: {sheet}", highlight=False, markup=False, soft_wrap=True)
    if not contents.fine:
        raise typer.Exit(1)


def _show(contents: SetContents) -> None:
    found = contents.found
    out.print(f"{found.root}: {found.format.title}", highlight=False, markup=False)
    if found.others:
        out.print(
            f"The folder also has the layout of {', '.join(found.others)}: choose with --format.",
            highlight=False,
            markup=False,
        )
    out.print(_splits(contents))
    if contents.class_names:
        out.print(_classes(contents))
    for part in contents.splits:
        lines = [*part.notes]
        lines += [f"left out: {one}" for one in part.skipped[:5]]
        if len(part.skipped) > 5:
            lines.append(f"left out: {len(part.skipped) - 5:,} more")
        if part.faults.count:
            lines.append(f"{part.faults.count:,} wrong entries, first:")
            lines += [f"  {line}" for line in part.faults.first]
        for line in lines:
            out.print(f"{part.name}: {line}", highlight=False, markup=False, soft_wrap=True)


def _splits(contents: SetContents) -> Table:
    table = Table(
        "split", "images", "without objects", "objects", "crowds", "small / medium / large", "image sizes (width x height)",
        box=rich.box.SIMPLE,
    )  # fmt: skip
    for part in contents.splits:
        sizes = list(dict.fromkeys(f"{side[1]}x{side[0]}" for side in (part.smallest, part.median, part.largest)))
        table.add_row(
            escape(part.name),
            f"{part.images:,}",
            f"{part.empty:,}",
            f"{sum(part.objects):,}",
            f"{part.crowds:,}",
            " / ".join(f"{count:,}" for count in part.sizes),
            " to ".join([sizes[0], sizes[-1]]) if len(sizes) > 1 else sizes[0],
        )
    return table


def _classes(contents: SetContents) -> Table:
    table = Table("", "class", *(escape(part.name) for part in contents.splits), box=rich.box.SIMPLE)
    for index, name in enumerate(contents.class_names[:CLASSES_SHOWN]):
        counts = [f"{part.objects[index]:,}" if index < len(part.objects) else "-" for part in contents.splits]
        table.add_row(str(index), escape(name), *counts)
    if len(contents.class_names) > CLASSES_SHOWN:
        table.add_row("", f"and {len(contents.class_names) - CLASSES_SHOWN} more (--json has all)")
    return table
