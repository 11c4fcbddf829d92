"""Importing the authors' checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from zoo.cli.common import (
    out,
    parse_settings,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("import-official")(import_official)


def import_official(
    arch: Annotated[str, typer.Argument(metavar="ARCH", help="For example spikeyolo-s.")],
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="File of the authors; no code from it runs.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Model folder to make.")],
    num_classes: Annotated[int, typer.Option(help="Of the checkpoint.")] = 80,
    time_steps: Annotated[
        int | None,
        typer.Option(
            "--time-steps",
            "-T",
            help="T that it was trained with; by default what is usual for the architecture; none for an ANN.",
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
    from zoo.detectors.registry import find
    from zoo.hub import bundle
    from zoo.support.files import check_replaceable
    from zoo.support.provenance import origin

    check_replaceable(out_dir, overwrite=False)
    family, _ = find(arch)
    if time_steps is None and family.official is not None:
        time_steps = family.official.time_steps
    variant: dict[str, Any] = parse_settings(settings or []) | (
        {} if image_size is None else {"image_size": image_size}
    )
    if class_names is not None:
        variant["class_names"] = [part.strip() for part in class_names.split(",")]
    detector = zoo.import_official(
        arch, checkpoint, num_classes=num_classes, time_steps=time_steps, levels=levels, **variant
    ).float()
    fields = {
        "name": name or arch,
        "dataset": dataset,
        "description": (
            f"Converted from the checkpoint {checkpoint.name}, which its authors published. {detector.network.differs} "
            f"{family.licence}"
        ).replace("  ", " "),
        "provenance": {**origin(), "source": checkpoint.name},
    }
    bundle.write(
        out_dir, detector.fuse(), card_fields=fields, trainable_state=detector.state_dict(), require_graph=False
    )
    if not (out_dir / bundle.GRAPH).exists():
        out.print(f"[yellow]no {bundle.GRAPH}:[/] {escape(bundle.read_card_of(out_dir).description)}")
    out.print(f"model folder: {out_dir}; load it with zoo.load({str(out_dir)!r})", highlight=False)
