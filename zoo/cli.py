"""The ``zoo`` command. Its verbs mirror the functions of the package.

Exit code 0: fine. 1: a check failed. 2: bad input or usage, with one clear line on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import rich.box
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo import cli_cards, cli_certify, cli_claims, cli_conformance, cli_hub, cli_speed, cli_train
from zoo.cli_common import (
    PICTURES,
    RECORDINGS,
    BackendOption,
    DeviceOption,
    JsonOption,
    NameArgument,
    check_writable,
    find_pictures,
    out,
    parse_size,
    split_names,
    write_json,
)
from zoo.errors import InvalidInputError, ZooError

app = typer.Typer(
    name="zoo",
    help="A zoo of spiking object detectors on NIR, the Neuromorphic Intermediate Representation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 or 2.

    Args:
        arguments: instead of those of the process.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="zoo")
    except ZooError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        sys.exit(2)


def _version(value: bool) -> None:
    if value:
        import zoo

        out.print(f"nir-zoo {zoo.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


@app.command("list")
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


@app.command()
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


@app.command()
def predict(
    name: NameArgument,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Pictures or .dat recordings of events, or folders of them."),
    ],
    backend: BackendOption = "snntorch",
    conf: Annotated[float, typer.Option(help="Least class score, 0..1.")] = 0.25,
    iou: Annotated[float, typer.Option(help="Overlap above which the weaker box is dropped, 0..1.")] = 0.7,
    max_det: Annotated[int, typer.Option(help="Detections per picture at most.")] = 300,
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder of the annotated pictures.")] = Path(
        "predictions"
    ),
    step: Annotated[
        float | None, typer.Option(help="Recordings: milliseconds from one picture to the next; default: one window.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Recordings: also write a moving picture, .gif or .webp.")
    ] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = None,
) -> None:
    """Detect objects in pictures, or along recordings of events, and write annotated copies."""
    import zoo
    from zoo.progress import progress_bar
    from zoo.results import check_video, save_video

    check_writable(json)
    check_writable(video)
    detector = zoo.load(name, backend=backend, device=device)
    takes_events = detector.config.input.events is not None
    if not takes_events and (step is not None or video is not None):
        raise InvalidInputError(f"{name} takes pictures: --step and --video are for recordings of events")
    if video is not None:
        check_video(video)
    paths = find_pictures(sources, RECORDINGS if takes_events else PICTURES)
    targets = _targets(paths, out_dir)
    results: list[Any] = []
    table = Table("picture", "class", "confidence", "x1", "y1", "x2", "y2", title=f"{name} on {backend}")
    limits: dict[str, Any] = {"conf": conf, "iou": iou, "max_det": max_det}
    if takes_events:
        detector.check_recordings(paths)
        with progress_bar("predicting", total=len(paths)) as bar:
            for path, target in zip(paths, targets, strict=True):
                for result in detector.predict_recording(path, step_us=_microseconds(step), **limits):
                    picture = target.with_name(f"{target.stem}-{(result.time_us or 0) / 1000:09.1f}ms.png")
                    _add_rows(table, picture, detector.class_names, result)
                    results.append(result)
                    result.save(picture)
                bar.advance()
    else:
        results = detector.predict(paths, **limits)  # type: ignore[assignment]
        for path, target, result in zip(paths, targets, results, strict=True):
            _add_rows(table, path, detector.class_names, result)
            result.save(target)
    if video is not None:
        save_video(results, video, milliseconds=round(step or 200))
    write_json(json, {"model": name, "backend": backend, "results": [result.to_dict() for result in results]})
    if str(json) != "-":
        out.print(table)
        out.print(f"annotated pictures: {out_dir}/", highlight=False)


def _microseconds(step: float | None) -> int | None:
    if step is not None and not 0.001 <= step <= 1e6:
        raise InvalidInputError(f"--step takes milliseconds, 0.001 or more, not {step}")
    return None if step is None else round(1000 * step)


def _add_rows(table: Table, picture: Path, class_names: Sequence[str], result: Any) -> None:
    boxes = result.boxes
    for box, score, index in zip(boxes.xyxy, boxes.conf, boxes.cls, strict=True):
        corners = [f"{float(value):.1f}" for value in box]
        table.add_row(escape(str(picture)), class_names[int(index)], f"{float(score):.3f}", *corners)
    if not len(result):
        table.add_row(escape(str(picture)), "nothing found", "", "", "", "", "")


def _targets(paths: Sequence[Path], folder: Path) -> list[Path]:
    """A file for each picture, numbered where names repeat."""
    names = [f"{path.stem}.png" for path in paths]
    return [folder / (name if names.count(name) == 1 else f"{index:03d}-{name}") for index, name in enumerate(names, 1)]


@app.command()
def export(
    name: NameArgument,
    path: Annotated[Path, typer.Option("--output", "--out", "-o", metavar="FILE", help="The .nir file to write.")],
    image_size: Annotated[str | None, typer.Option(metavar="HxW", help="Pixels; by default the model's own.")] = None,
    single_output: Annotated[
        bool, typer.Option("--single-output", help="One Output node, for tools that accept one only.")
    ] = False,
) -> None:
    """Write a model as a standard .nir file."""
    import zoo

    check_writable(path)
    zoo.export(name, path, image_size=parse_size(image_size), single_output=single_output)
    out.print(f"{path}: {path.stat().st_size / 1e6:.2f} MB", highlight=False)


@app.command()
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
    from zoo import benchmarks
    from zoo.files import write_atomically

    check_writable(json)
    check_writable(markdown)
    if record_results:
        benchmarks.results_folder()
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
        from zoo.recording import write_recording

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
            benchmarks.append_row("equivalence", row)
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def demo(
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")] = Path("demo-out"),
    name: Annotated[str, typer.Option("--model", help="A name of `zoo list`, or a model folder.")] = "spikeyolo-digits",
) -> None:
    """Find handwritten digits, export to NIR, rebuild in Norse from the file alone, and prove that both agree."""
    from zoo.demo import run

    if not run(out_dir, name=name, console=out):
        raise typer.Exit(1)


cli_train.register(app)
cli_certify.register(app)
cli_conformance.register(app)
cli_speed.register(app)
cli_claims.register(app)
cli_hub.register(app)
cli_cards.register(app)

if __name__ == "__main__":
    main()
