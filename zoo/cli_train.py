"""The commands that make and measure models: train, val, import-official."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from zoo.cli_common import BackendOption, DeviceOption, JsonOption, NameArgument, check_writable, out, write_json
from zoo.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(train)
    app.command()(val)
    app.command("import-official")(import_official)
    app.command("write-dataset")(write_dataset)


def train(
    arch: Annotated[str, typer.Argument(metavar="ARCH", help="For example spikeyolo-pico.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; an interrupted one continues.")],
    data: Annotated[
        str, typer.Option(help="digits, digits-events, or a folder in COCO layout or (events) in GEN1 layout.")
    ] = "digits",
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 6000,
    batch_size: Annotated[int, typer.Option(help="Pictures per step.")] = 32,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-3,
    time_steps: Annotated[int | None, typer.Option("--time-steps", "-T", help="T.")] = None,
    levels: Annotated[int | None, typer.Option("--levels", "-D", help="D.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels; by default the architecture's own.")] = None,
    train_length: Annotated[int, typer.Option(help="Pictures of a generated training set.")] = 30_000,
    weight_decay: Annotated[float, typer.Option(help="On convolution weights.")] = 0.01,
    warmup_steps: Annotated[int, typer.Option(help="Linear rise of the learning rate.")] = 100,
    ema_decay: Annotated[float, typer.Option(help="Of the averaged weights that are kept.")] = 0.998,
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Suppress overlapping boxes across classes.")
    ] = False,
    variant: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Argument of the architecture, such as ts=3; repeatable."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="Go on from the trainable weights of a model instead of random ones."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order of pictures and everything else.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    name: Annotated[str | None, typer.Option(help="Of the model; by default ARCH-DATA.")] = None,
) -> None:
    """Train a detector in snnTorch. The model folder is OUT/model."""
    import zoo
    from zoo.training import make_train_config, train_model

    config = make_train_config(
        arch=arch,
        data=data,
        train_length=train_length,
        time_steps=time_steps,
        levels=levels,
        image_size=image_size,
        class_agnostic=class_agnostic,
        variant=_variant(variant or []),
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        ema_decay=ema_decay,
        seed=seed,
        checkpoint_every=checkpoint_every,
        threads=threads,
    )
    detector = None if start is None else zoo.load(start, trainable=True)
    if detector is not None and detector.config.arch != arch:
        raise InvalidInputError(f"{start} is of the architecture {detector.config.arch}, not {arch}")
    model = train_model(config, out_dir, name=name, start=detector)
    out.print(f"trained model: {model}\nmeasure it: zoo val {model}", highlight=False)


def _variant(settings: list[str]) -> dict[str, Any]:
    """``["ts=3", "sampler=fixed"]`` -> numbers, truth values, and what is neither as text."""
    import json

    found: dict[str, Any] = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not (name and separator and value):
            raise InvalidInputError(f"--set takes NAME=VALUE, for example ts=3, not {setting!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def val(
    name: NameArgument,
    backend: BackendOption = "snntorch",
    data: Annotated[
        str | None,
        typer.Option(help="digits, digits-events, or a folder in COCO or (events) GEN1 layout; default: the card's."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    length: Annotated[int, typer.Option(help="Pictures; the first so many of a folder.")] = 500,
    seed: Annotated[int, typer.Option(help="Of a generated set.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Pictures at a time.")] = 32,
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
    from zoo import benchmarks
    from zoo.data import open_dataset
    from zoo.evaluation import evaluate
    from zoo.progress import progress_bar

    check_writable(json)
    if record_results:
        benchmarks.results_folder()
    detector = zoo.load(name, backend=backend, device=device, trainable=trainable)
    source = data or (detector.card.dataset if detector.card is not None else "")
    if not source:
        raise InvalidInputError(f"{name} does not say what it was trained on: choose a data set with --data")
    dataset = open_dataset(source, split, length=length, seed=seed, spec=detector.config.input)
    if tuple(dataset.class_names) != tuple(detector.class_names):
        raise InvalidInputError(f"{name} and the data set {source} do not have the same classes")
    with progress_bar("measuring", total=len(dataset)) as bar:
        metrics = evaluate(detector, dataset, batch_size=batch_size, conf=conf, iou=iou, max_det=max_det, progress=bar)
    weights = "trainable" if trainable else "deployed"
    measured = {
        "model": name,
        "weights": weights,
        "backend": backend,
        "data": source,
        "split": split,
        "seed": seed,
        **metrics.to_dict(),
    }
    write_json(json, measured)
    if record_results:
        _record(measured, conf=conf, iou=iou, max_det=max_det)
    if str(json) != "-":
        _show(measured)


def _record(measured: dict[str, Any], **conditions: object) -> None:
    from zoo import benchmarks

    scalars = {key: value for key, value in measured.items() if isinstance(value, str | int | float)}
    out.print(f"recorded in {benchmarks.append_row('val', {**scalars, **conditions})}", highlight=False)


def _show(measured: dict[str, Any]) -> None:
    table = Table(title=f"{escape(measured['model'])} on {measured['backend']}", show_header=False)
    for key, value in measured.items():
        if isinstance(value, dict):
            continue
        table.add_row(key, f"{value:.4f}" if isinstance(value, float) else escape(str(value)))
    out.print(table)


def import_official(
    arch: Annotated[str, typer.Argument(metavar="ARCH", help="For example spikeyolo-s.")],
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="File of the authors; no code from it runs.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Model folder to make.")],
    num_classes: Annotated[int, typer.Option(help="Of the checkpoint.")] = 80,
    time_steps: Annotated[
        int | None,
        typer.Option(
            "--time-steps", "-T", help="T that it was trained with; by default 1 for spikeyolo, none for an ANN."
        ),
    ] = None,
    levels: Annotated[int | None, typer.Option("--levels", "-D", help="D that it was trained with.")] = None,
    class_names: Annotated[str | None, typer.Option(help="Comma-separated, in the order of the classes.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels; by default the architecture's own.")] = None,
    dataset: Annotated[str, typer.Option(help="That the checkpoint was trained on.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Argument of the architecture, such as ts=3; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model; by default the folder's name.")] = None,
) -> None:
    """Convert a checkpoint of an architecture's authors into a model folder for zoo.load(OUT)."""
    import zoo
    from zoo import benchmarks
    from zoo.files import check_replaceable
    from zoo.hub import bundle

    check_replaceable(out_dir, overwrite=False)
    if time_steps is None and arch.startswith("spikeyolo-"):
        time_steps = 1
    variant: dict[str, Any] = _variant(settings or []) | ({} if image_size is None else {"image_size": image_size})
    if class_names is not None:
        variant["class_names"] = [part.strip() for part in class_names.split(",")]
    detector = zoo.import_official(
        arch, checkpoint, num_classes=num_classes, time_steps=time_steps, levels=levels, **variant
    ).float()
    differs = getattr(detector.network, "differs", "")
    fields = {
        "name": name or arch,
        "dataset": dataset,
        "description": f"Converted from the checkpoint {checkpoint.name}, which its authors published. {differs}".strip(),
        "provenance": {**benchmarks.origin(), "source": checkpoint.name},
    }
    bundle.write(
        out_dir, detector.fuse(), card_fields=fields, trainable_state=detector.state_dict(), require_graph=False
    )
    if not (out_dir / bundle.GRAPH).exists():
        out.print(f"[yellow]no {bundle.GRAPH}:[/] {escape(bundle.read_card_of(out_dir).description)}")
    out.print(f"model folder: {out_dir}; load it with zoo.load({str(out_dir)!r})", highlight=False)


def write_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="digits (COCO layout) or digits-events (GEN1 layout).")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; the split becomes a part of it.")],
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    length: Annotated[int, typer.Option(help="Pictures or clips.")] = 500,
    seed: Annotated[int, typer.Option(help="Another seed gives others of the same split.")] = 0,
) -> None:
    """Write a generated data set as files in the layout that real ones have."""
    from zoo.data import DIGIT_EVENTS, DIGITS, open_dataset
    from zoo.data.coco import write_coco
    from zoo.data.digit_events import write_recordings

    if name not in {DIGITS, DIGIT_EVENTS}:
        raise InvalidInputError(f"there is no generated data set {name!r}; there are {DIGITS} and {DIGIT_EVENTS}")
    if name == DIGITS:
        write_coco(open_dataset(DIGITS, split, length=length, seed=seed), out_dir, split=split)
    else:
        write_recordings(out_dir / split, split, length=length, seed=seed)  # type: ignore[arg-type]
    out.print(f"{length} of {name}, {split}: {out_dir}", highlight=False)
