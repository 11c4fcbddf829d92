"""Detecting objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from zoo.cli.common import (
    PICTURES,
    RECORDINGS,
    BackendOption,
    DeviceOption,
    JsonOption,
    NameArgument,
    check_writable,
    find_pictures,
    out,
    write_json,
)
from zoo.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(predict)


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
    from zoo.result import check_video, save_video
    from zoo.support.progress import progress_bar

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
