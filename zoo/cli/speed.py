"""``zoo benchmark``."""

from __future__ import annotations

from typing import Annotated

import rich.box
import typer
from rich.table import Table

from zoo.cli.common import JsonOption, check_writable, out, parse_size, split_names, write_json
from zoo.errors import UnknownModelError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(benchmark)


def benchmark(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A name of `zoo list`, a model folder, an architecture, `folding`, `sampler` or `fourier`.",
        ),
    ],
    backends: Annotated[list[str] | None, typer.Option("--backend", "-b", help="Repeatable; default: all.")] = None,
    image_size: Annotated[str | None, typer.Option(metavar="HxW", help="Pixels; by default the model's own.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per call.")] = 1,
    repeats: Annotated[int, typer.Option(help="Turns; the fastest counts.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads of torch.")] = 2,
    record_results: Annotated[
        bool, typer.Option("--record-results", help="Add rows to results/speed.csv (in a checkout).")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Time every backend against the snnTorch definition.

    `folding`: T folded into the batch against stepping. `sampler`: EAS-SNN's sampler against its convolutions alone.
    `fourier`: SpikingYOLOX's transforms as convolutions of a NIR graph, and with torch.fft.
    """
    import torch

    from zoo.measuring import ledger

    check_writable(json)
    if record_results:
        ledger.results_folder()
    torch.set_num_threads(threads)
    conditions = {"model": name, "batch_size": batch_size, "threads": threads, "repeats": repeats}
    if name == "folding":
        rows = _folding(repeats)
    elif name == "sampler":
        rows = _sampler(parse_size(image_size) or (640, 640), repeats)
    elif name == "fourier":
        rows = _fourier(parse_size(image_size) or (640, 640), repeats)
    else:
        rows = _backends(name, split_names(backends or ["all"]), parse_size(image_size), batch_size, repeats)
    write_json(json, [conditions | row for row in rows])
    if record_results:
        for row in rows:
            ledger.append_row("speed", conditions | row)
    if str(json) != "-":
        _show(name, rows)


def _folding(repeats: int) -> list[dict[str, object]]:
    from zoo.measuring.speed import time_folding

    found = {kind: time_folding(kind, repeats=repeats) for kind in ("dense", "separable")}
    return [
        {"backend": f"{kind}, {way}", "image_size": "256x16x16", "time_steps": 8, "unit": "ms per step", "value": value,
         "ratio": value / times["folded"]}
        for kind, times in found.items()
        for way, value in times.items()
    ]  # fmt: skip


def _sampler(size: tuple[int, int], repeats: int) -> list[dict[str, object]]:
    from zoo.measuring.speed import time_sampler

    times = time_sampler(size, repeats=repeats)
    return [
        {"backend": part, "image_size": f"{size[0]}x{size[1]}", "time_steps": 4, "unit": "ms per image", "value": value,
         "ratio": value / times["convolutions"]}
        for part, value in times.items()
    ]  # fmt: skip


def _fourier(size: tuple[int, int], repeats: int) -> list[dict[str, object]]:
    from zoo.detectors.spikingyolox.blocks import GLOBAL_SHARE
    from zoo.detectors.spikingyolox.sizes import SIZES
    from zoo.measuring.speed import fourier_cost

    rows: list[dict[str, object]] = []
    common = {"image_size": f"{size[0]}x{size[1]}", "time_steps": 1}
    for name, numbers in SIZES.items():
        channels = int(GLOBAL_SHARE * 8 * numbers.width) // 2
        cost = fourier_cost(channels, (size[0] // 32, size[1] // 32), repeats=repeats)
        where = f"{name}, {channels} channels"
        ratio = cost.graph_ms / cost.fft_ms
        rows += [
            {"backend": f"{where}, NIR", **common, "unit": "weights", "value": cost.weights, "ratio": ""},
            {"backend": f"{where}, NIR", **common, "unit": "MACs", "value": cost.macs, "ratio": ""},
            {"backend": f"{where}, NIR", **common, "unit": "ms per map", "value": cost.graph_ms, "ratio": ratio},
            {"backend": f"{where}, torch.fft", **common, "unit": "ms per map", "value": cost.fft_ms, "ratio": 1},
        ]
    return rows


def _backends(
    name: str, backends: list[str], size: tuple[int, int] | None, batch_size: int, repeats: int
) -> list[dict[str, object]]:
    import zoo
    from zoo.adapters.base import BACKENDS
    from zoo.detectors.registry import architectures
    from zoo.measuring.speed import time_backends

    try:
        detector = zoo.load(name)
    except UnknownModelError:
        if name not in architectures():
            raise
        detector = zoo.create(name, num_classes=80).fuse()
    names = [backend for backend in BACKENDS if backend != "reference"] if "all" in backends else backends
    timings, refused = time_backends(detector, names, image_size=size, batch_size=batch_size, repeats=repeats)
    for backend, why in refused.items():
        out.print(f"refused by {backend}: {why}", highlight=False, markup=False)
    height, width = size or detector.image_size
    return [
        {"backend": one.backend, "image_size": f"{height}x{width}", "time_steps": detector.time_steps,
         "unit": "ms per image", "value": one.milliseconds, "ratio": one.ratio}
        for one in timings
    ]  # fmt: skip


def _show(name: str, rows: list[dict[str, object]]) -> None:
    table = Table("backend", "value", "unit", "ratio", box=rich.box.SIMPLE, title=f"{name} at {rows[0]['image_size']}")
    for row in rows:
        ratio = "" if row["ratio"] == "" else f"{row['ratio']:.2f}"
        value = f"{row['value']:.2f}" if isinstance(row["value"], float) else f"{row['value']:,}"
        table.add_row(str(row["backend"]), value, str(row["unit"]), ratio)
    out.print(table)
