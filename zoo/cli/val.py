"""Measuring a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from zoo.cli.common import (
    BackendOption,
    DeviceOption,
    JsonOption,
    NameArgument,
    check_writable,
    out,
    write_json,
)
from zoo.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(val)


def val(
    name: NameArgument,
    backend: BackendOption = "snntorch",
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, digits-events, or the folder of a data set (see `zoo data check`). Default: the card's."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the data set. Default: test, else val.")] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Number of images. Default: 500 of a generated set, and all images of a folder."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of a generated set.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    conf: Annotated[float, typer.Option(help="Least class score.")] = 0.001,
    iou: Annotated[float, typer.Option(help="Overlap above which the weaker box is dropped.")] = 0.7,
    max_det: Annotated[int, typer.Option(help="Detections per picture at most.")] = 300,
    trainable: Annotated[
        bool, typer.Option("--trainable", help="The float weights from before quantisation, in snnTorch.")
    ] = False,
    device: DeviceOption = "cpu",
    record_results: Annotated[
        bool, typer.Option("--record-results", help="Add a row to results/val.csv (in a checkout).")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Measure mAP as COCO does."""
    import zoo
    from zoo.data import open_dataset, split_of
    from zoo.evaluation import evaluate
    from zoo.measuring import ledger
    from zoo.support.progress import progress_bar

    check_writable(json)
    if record_results:
        ledger.results_folder()
    detector = zoo.load(name, backend=backend, device=device, trainable=trainable)
    source = data or (detector.card.dataset if detector.card is not None else "")
    if not source:
        raise InvalidInputError(f"{name} does not say what it was trained on: choose a data set with --data")
    dataset = open_dataset(source, split, length=length, seed=seed, spec=detector.config.input)
    with progress_bar("measuring", total=len(dataset)) as bar:
        metrics = evaluate(detector, dataset, batch_size=batch_size, conf=conf, iou=iou, max_det=max_det, progress=bar)
    weights = "trainable" if trainable else "deployed"
    measured = {
        "model": name,
        "weights": weights,
        "backend": backend,
        "data": source,
        "split": split or split_of(dataset),
        "seed": seed,
        **metrics.to_dict(),
    }
    write_json(json, measured)
    if record_results:
        _record(measured, conf=conf, iou=iou, max_det=max_det)
    if str(json) != "-":
        _show(measured)


def _record(measured: dict[str, Any], **conditions: object) -> None:
    from zoo.measuring import ledger

    kept = {"mAP75"}  # not a column of the table
    scalars = {
        key: value for key, value in measured.items() if isinstance(value, str | int | float) and key not in kept
    }
    out.print(f"recorded in {ledger.append_row('val', {**scalars, **conditions})}", highlight=False)


def _show(measured: dict[str, Any]) -> None:
    table = Table(title=f"{escape(measured['model'])} on {measured['backend']}", show_header=False)
    for key, value in measured.items():
        if isinstance(value, dict | list):
            continue
        table.add_row(key, f"{value:.4f}" if isinstance(value, float) else escape(str(value)))
    out.print(table)
