"""Training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.common import out, parse_settings
from zoo.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(train)


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
        variant=parse_settings(variant or []),
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
