"""``zoo demo``: from one definition to two frameworks, on real handwritten digits, with proof.

1. The detector, in snnTorch, finds digits on test canvases: annotated pictures and a contact sheet.
2. It is written as a standard ``.nir`` file.
3. Norse rebuilds it from that file alone and finds the same digits: a picture of both, side by side.
4. The numpy reference, snnTorch and Norse are compared spike by spike on digits, noise and extremes, in float64 and float32,
   and at a size that the detector was not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rich.box
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from zoo.support.files import write_atomically

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector
    from zoo.detectors.graph import GraphDetector
    from zoo.equivalence.report import Report
    from zoo.result import Result

Pixels = npt.NDArray[np.uint8]

PICTURES = 12
OTHER_SIZE = (128, 160)  # pixels; not square, and not what the detector was trained on
BACKENDS = ("snntorch", "norse")


def run(out_dir: str | Path, *, name: str = "spikeyolo-digits", console: Console | None = None) -> bool:
    """Run the demo and write its files.

    Args:
        out_dir: folder to write into; files of an earlier demo are replaced.
        name: of a model that finds handwritten digits.
        console: where to report progress.

    Returns:
        Whether both frameworks found the same and every comparison passed.

    Raises:
        UnknownModelError, MissingFrameworkError and others: see :func:`zoo.load` and :func:`zoo.verify`.
    """
    import zoo
    from zoo.adapters.base import get_backend

    console = console or Console()
    for backend in BACKENDS:  # before anything is written
        get_backend(backend)
    detector = zoo.load(name)
    out = Path(out_dir)
    console.rule(f"[bold]{name}[/]: snnTorch -> NIR -> Norse")
    _introduce(detector, console)
    found = _find(detector, out, console)
    twin = _rebuild(detector, out, name, console)
    same = _compare_detections(found, twin, out, console)
    passed = _prove(detector, out, name, console)
    console.rule("[bold green]everything agrees[/]" if same and passed else "[bold red]there are differences[/]")
    console.print(f"look into {out}/", highlight=False)
    return same and passed


def _introduce(detector: Detector, console: Console) -> None:
    count = sum(parameter.numel() for parameter in detector.parameters())
    height, width = detector.image_size
    console.print(
        f"{detector.config.arch}: {count:,} parameters, T = {detector.time_steps}, D = {detector.config.levels}, "
        f"{height}x{width} pixels, classes {' '.join(detector.class_names)}",
        highlight=False,
    )


def _canvases() -> list[Pixels]:
    from zoo.data.digits import DigitsDetection

    test = DigitsDetection("test", length=PICTURES, seed=1)
    return [test[index].image for index in range(PICTURES)]


def _find(detector: Detector, out: Path, console: Console) -> list[tuple[Pixels, Result]]:
    """Detect digits and draw what was found."""
    canvases = _canvases()
    found = [(canvas, _one(detector, canvas)) for canvas in canvases]
    drawn = [result.plot() for _, result in found]
    for index, picture in enumerate(drawn, start=1):
        save_picture(picture, out / "pictures" / f"digits-{index:02d}.png")
    save_picture(contact_sheet(drawn, columns=4), out / "contact-sheet.png")
    total = sum(len(result) for _, result in found)
    console.print(f"1. snnTorch found {total} digits on {len(canvases)} unseen canvases: {out / 'contact-sheet.png'}")
    return found


def _one(detector: Detector | GraphDetector, canvas: Pixels) -> Result:
    result: Any = detector.predict(canvas)
    return result


def _rebuild(detector: Detector, out: Path, name: str, console: Console) -> GraphDetector:
    """Write the .nir file and let Norse rebuild the network from it."""
    from zoo.adapters.base import get_backend
    from zoo.detectors.graph import GraphDetector
    from zoo.nir_graphs import io

    path = detector.export(out / f"{name_of(name)}.nir")
    graph = io.read(path)
    kinds = sorted({type(node).__name__ for node in graph.nodes.values()})
    console.print(
        f"2. standard NIR: {path}, {path.stat().st_size / 1e6:.1f} MB, {len(graph.nodes)} nodes of {len(kinds)} types "
        f"({', '.join(kinds)})",
        highlight=False,
    )
    return GraphDetector(get_backend("norse").build(graph), detector.config)


def name_of(name: str) -> str:
    """A model's name without the folders of a path."""
    return Path(name).name


def _compare_detections(
    found: Sequence[tuple[Pixels, Result]], twin: GraphDetector, out: Path, console: Console
) -> bool:
    """Detect again in Norse; draw both side by side."""
    twins = [_one(twin, canvas) for canvas, _ in found]
    differing = [
        index for index, ((_, one), other) in enumerate(zip(found, twins, strict=True)) if not alike(one, other)
    ]
    pairs = [
        np.concatenate([one.plot(), other.plot()], axis=1)
        for (_, one), other in list(zip(found, twins, strict=True))[:4]
    ]
    sheet = contact_sheet(
        [captioned(pair, "snnTorch (definition)", "Norse (from the .nir alone)") for pair in pairs], 2
    )
    save_picture(sheet, out / "snntorch-and-norse.png")
    same = len(found) - len(differing)
    console.print(
        f"3. Norse, from that file alone, finds the same on {same} of {len(found)} canvases: {out / 'snntorch-and-norse.png'}"
    )
    return not differing


def alike(one: Result, other: Result) -> bool:
    """Whether two results have the same classes, boxes within 0.01 pixels and confidences within 1e-4."""
    if len(one) != len(other):
        return False
    same_classes = np.array_equal(np.asarray(one.boxes.cls), np.asarray(other.boxes.cls))
    boxes = np.allclose(np.asarray(one.boxes.xyxy), np.asarray(other.boxes.xyxy), rtol=0, atol=1e-2)
    return bool(same_classes and boxes and np.allclose(one.boxes.conf, other.boxes.conf, rtol=0, atol=1e-4))


def _prove(detector: Detector, out: Path, name: str, console: Console) -> bool:
    """Compare spike by spike, and write the reports."""
    from zoo.equivalence.probes import default_images
    from zoo.equivalence.verification import verify_in_each
    from zoo.nir_graphs import io

    console.print("4. every spike of every neuron node, compared with the numpy reference:")
    reports: list[Report] = []
    for size, count in ((detector.image_size, 16), (OTHER_SIZE, 4)):
        path = out / f"{name_of(name)}{'' if size == detector.image_size else f'-{size[0]}x{size[1]}'}.nir"
        if size != detector.image_size:
            detector.export(path, image_size=size)
        graph = io.read(path)
        images = default_images(detector.config, size, count=count)
        with console.status(f"comparing at {size[0]}x{size[1]} ..."):
            found = verify_in_each(
                detector, BACKENDS, images=images, dtypes=[torch.float64, torch.float32], graph=graph
            )
        console.print(summary(*found))
        reports += found
    write_reports(reports, out)
    console.print(f"   full reports: {out / 'equivalence.json'} and {out / 'equivalence.md'}", highlight=False)
    return all(report.passed for report in reports)


def summary(exact: Report, rounded: Report) -> Table:
    """What a float64 and a float32 report of the same comparison say, side by side."""
    size = exact.image_size or (0, 0)
    table = Table(title=f"{size[0]}x{size[1]} pixels", title_justify="left", title_style="bold", box=rich.box.SIMPLE)
    for index, column in enumerate(("inputs", "backend", "spikes", "float64", "heads", "float32", "heads")):
        table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True)
    for one, other in zip(exact.comparisons, rounded.comparisons, strict=True):
        identical = "identical" if one.mismatches == 0 else f"{one.mismatches:,} differ"
        iou = "identical" if other.mismatches == 0 else f"IoU {other.spike_iou:.4f}"
        heads = [f"{error:.0e}" if error else "equal" for error in (one.head_error, other.head_error)]
        table.add_row(one.inputs, one.backend, f"{one.expected:,}", identical, heads[0], iou, heads[1])
    return table


def write_reports(reports: Sequence[Report], out: Path) -> None:
    """``equivalence.json`` and ``equivalence.md``."""
    data = {
        "passed": all(report.passed for report in reports),
        "reports": [report.to_dict() for report in reports],
    }
    write_atomically(out / "equivalence.json", json.dumps(data, indent=1) + "\n")
    text = "# Equivalence\n\n" + "\n".join(report.to_markdown() for report in reports)
    write_atomically(out / "equivalence.md", text)


def captioned(pair: Pixels, left: str, right: str) -> Pixels:
    """A caption above each half of a picture."""
    height, width = pair.shape[:2]
    canvas = Image.new("RGB", (width, height + 24), "white")
    canvas.paste(Image.fromarray(pair), (0, 24))
    draw = ImageDraw.Draw(canvas)
    draw.text((6, 6), left, fill="black")
    draw.text((width // 2 + 6, 6), right, fill="black")
    return np.asarray(canvas)


def contact_sheet(pictures: Sequence[Pixels], columns: int) -> Pixels:
    """Pictures of one size in rows, with white gaps."""
    height, width = pictures[0].shape[:2]
    gap, rows = 8, -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for index, picture in enumerate(pictures):
        corner = (gap + index % columns * (width + gap), gap + index // columns * (height + gap))
        sheet.paste(Image.fromarray(picture), corner)
    return np.asarray(sheet)


def save_picture(picture: Pixels, path: Path) -> None:
    """Write (H, W, 3) pixels as PNG, whole or not at all."""
    from zoo.support.files import replace_atomically

    with replace_atomically(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
