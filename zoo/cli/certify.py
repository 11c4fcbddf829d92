"""``zoo certify``, ``zoo quantize`` and ``zoo convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import rich.box
import typer
from rich.markup import escape
from rich.table import Table

from zoo.cli.common import JsonOption, NameArgument, check_writable, out, parse_size, write_json
from zoo.cli.interruptions import interruptible
from zoo.errors import InvalidInputError
from zoo.nir_graphs.certificate import LIMITS, Certificate, InputGrid

SHOWN = 12
"""Rows of the table: the nodes that take the most bits, or stand in the way."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(certify)
    app.command()(quantize)
    app.command()(convert)


def certify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `zoo list`, a model folder, or a .nir file.")],
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    time_steps: Annotated[int | None, typer.Option("--time-steps", "-T", help="T, if not the model's own.")] = None,
    image_size: Annotated[str | None, typer.Option(metavar="HxW", help="Pixels; by default the model's own.")] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="EXPONENT,LOW,HIGH",
            help="What a .nir file is fed: multiples of 2^EXPONENT in LOW..HIGH.",
        ),
    ] = None,
    dt: Annotated[
        float | None,
        typer.Option(
            help="Length of a step in the unit of a .nir file's time constants; by default from its metadata."
        ),
    ] = None,
    record_results: Annotated[
        bool, typer.Option("--record-results", help="Add a row to results/certificates.csv (in a checkout).")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Prove that a model gives the same bits on every backend; exit code 1 where it may not."""
    import zoo
    from zoo.measuring import ledger

    check_writable(json)
    if record_results:
        ledger.results_folder()
    inputs = None if grid is None else _grid(grid)
    found = zoo.certify(
        name, dtype=dtype, time_steps=time_steps, image_size=parse_size(image_size), inputs=inputs, dt=dt
    )
    write_json(json, found.to_dict())
    if record_results:
        row: dict[str, object] = {
            "model": name,
            "dtype": dtype,
            "time_steps": time_steps or "own",
            "nodes": len(found.nodes),
        }
        row |= {"certified": found.certified, "bits": found.bits, "margin": found.margin, "in_the_way": len(found.why)}
        out.print(f"recorded in {ledger.append_row('certificates', row)}", highlight=False)
    if str(json) != "-":
        out.print(_table(name, found))
        out.print(found.summary(), highlight=False)
    if not found.certified:
        raise typer.Exit(1)


def _grid(text: str) -> InputGrid:
    try:
        exponent, low, high = text.split(",")
        return InputGrid(int(exponent), float(low), float(high))
    except ValueError:
        raise InvalidInputError(f"--input takes EXPONENT,LOW,HIGH, for example -8,0,0.99609375, not {text!r}") from None


def _table(name: str, found: Certificate) -> Table:
    table = Table("node", "type", "bits", "grid", "low", "high", "margin", box=rich.box.SIMPLE, title=name)
    chosen = sorted(found.nodes.items(), key=lambda item: (item[1].problem is None, -item[1].bits))[:SHOWN]
    for node, part in chosen:
        table.add_row(
            escape(node),
            part.kind,
            f"{part.bits:.2f} of {LIMITS[found.dtype]}",
            "-" if part.grid is None else f"2^{part.grid}",
            f"{part.low:.6g}",
            f"{part.high:.6g}",
            "-" if part.margin is None else f"{part.margin:g}",
            style="red" if part.problem else None,
        )
    table.caption = f"the {len(chosen)} tightest of {len(found.nodes)} nodes"
    return table


def quantize(
    name: NameArgument,
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder of the quantised model; must not exist.")],
    bits: Annotated[int, typer.Option(help="Bits of a weight, sign included, 4..16.")] = 8,
    per: Annotated[str, typer.Option(help="One power-of-two grid per layer or per channel.")] = "layer",
    calibration: Annotated[
        int, typer.Option(help="Training pictures that choose the grids; 0: choose by the weights alone.")
    ] = 32,
    data: Annotated[str | None, typer.Option(help="digits, or a folder in COCO layout; default: the card's.")] = None,
    steps: Annotated[int, typer.Option(help="Straight-through fine-tuning; 0: none.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Pictures per step of fine-tuning.")] = 16,
    lr: Annotated[float, typer.Option(help="Peak learning rate of fine-tuning.")] = 1e-4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
) -> None:
    """Round a model's weights to power-of-two grids, and certify it."""
    from zoo.compression.quantized_bundle import quantize_model, run_folder
    from zoo.support.provenance import command_line

    with interruptible(run_folder(out_dir), command_line()):
        model, found = quantize_model(
            name, out_dir, bits=bits, per=per, calibration=calibration, data=data, steps=steps, batch_size=batch_size, lr=lr,
            overwrite=overwrite,
        )  # fmt: skip
    out.print(f"quantised model: {model}\n{found.summary()}\nmeasure it: zoo val {model}", highlight=False)
    if not found.certified:
        raise typer.Exit(1)


def convert(
    name: NameArgument,
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder of the spiking model; must not exist.")],
    time_steps: Annotated[int, typer.Option("--time-steps", "-T", help="T.")] = 64,
    normalisation: Annotated[str, typer.Option(help="One factor per channel or per layer.")] = "channel",
    percentile: Annotated[float, typer.Option(help="Of the activations that becomes one spike per step.")] = 99.9,
    calibration: Annotated[int, typer.Option(help="Training pictures on which activations are measured.")] = 64,
    data: Annotated[str | None, typer.Option(help="digits, or a folder in COCO layout; default: the card's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
) -> None:
    """Convert a trained ANN (spiking-yolo-*) to spikes."""
    from zoo.compression.converted_bundle import convert_model

    model = convert_model(
        name, out_dir, time_steps=time_steps, normalisation=normalisation, percentile=percentile, calibration=calibration,
        data=data, overwrite=overwrite,
    )  # fmt: skip
    out.print(f"spiking model: {model}\nmeasure it: zoo val {model}", highlight=False)
