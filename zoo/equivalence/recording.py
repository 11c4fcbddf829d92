"""What a comparison recorded, as files: NIR data, rasters, the first divergence, and a page that explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from zoo.equivalence.report import Report
from zoo.nir_graphs.graph import FlatGraph
from zoo.support.files import new_directory

Array = npt.NDArray[Any]
PANELS, ROWS, COLUMNS, RATE = 6, 48, 96, 0.3
"""Nodes of a raster figure; neurons of a panel, samples x steps of a panel, and the spike rate that it shows by preference."""

PAGE = """# {title}

{verdict}

{rule}

## How to read this

The same network was computed several times: as it was defined in snnTorch (`module`), by a plain numpy interpreter in float64
(`reference`, the judge), and by other frameworks from the exported NIR graph alone. A neuron either spikes in a time step or
does not, so that two runs agree when every single spike agrees. Elements that are silent on both sides do not count.

* **mismatches**: places and time steps where exactly one side spikes.
* **spike IoU**: spikes that both sides fire, over spikes that either fires. 1 means identical.
* **first divergence**: the first node, in the order of the graph, that differs in the earliest step.
* **head error**: the largest difference of the network's outputs, relative to the largest output.

{table}

## Rasters

Each panel is one layer's neurons, {rows} of them, on the samples one after another, each with its {steps} time
steps. Black: both sides spike. Red: only one does. {agree}

{pictures}

{divergence}

## Files

{files}

Read them with `nir.read_data(path)`: per node `spikes` (samples, steps, neurons) and `potential`, what was compared with the
threshold (after integration, before the reset). Neurons are in the order of the flattened (channels, height, width).
"""


@dataclass(frozen=True)
class Run:
    """One recorded run: arrays (T, B, ...) by node."""

    spikes: Mapping[str, Array]
    potentials: Mapping[str, Array]


def write_recording(report: Report, graph: FlatGraph, directory: str | Path, *, overwrite: bool = False) -> Path:
    """Write everything that a report recorded.

    Args:
        report: made with ``record=True``.
        graph: what was run.
        directory: appears only when complete.
        overwrite: replace a folder that is there.

    Returns:
        The directory.

    Raises:
        InvalidInputError: the directory exists.
    """
    runs = {key: _joined(parts) for key, parts in report.traces.items()}
    order = [name for name in graph.order if name in next(iter(runs.values())).spikes]
    with new_directory(directory, overwrite=overwrite) as folder:
        files, pictures, divergence = [], [], []
        for (inputs, backend), run in runs.items():
            files.append(f"{inputs}-{backend}.nirdata.h5")
            nir.write_data(folder / files[-1], graph_data(run, graph.dt))
        for inputs in dict.fromkeys(inputs for inputs, _ in runs):
            group = {backend: run for (name, backend), run in runs.items() if name == inputs}
            pictures.append(f"rasters-{inputs}.png")
            draw_rasters(group, order, folder / pictures[-1], title=f"{report.model}, {inputs}")
            found = draw_divergence(group, order, graph, folder / f"divergence-{inputs}.png", title=inputs)
            if found:
                divergence.append((f"divergence-{inputs}.png", found))
        (folder / "README.md").write_text(_page(report, files, pictures, divergence), encoding="utf-8")
        report.to_json(folder / "report.json")
    return Path(directory)


def _joined(parts: Sequence[Any]) -> Run:
    """Batches of one run, one after another."""

    def join(kind: str) -> dict[str, Array]:
        return {
            node: np.concatenate([getattr(part, kind)[node] for part in parts], axis=1)
            for node in getattr(parts[0], kind, {})
        }

    return Run(join("spikes"), join("potentials"))


def graph_data(run: Run, dt: float) -> nir.NIRGraphData:
    """A run in NIR's own data format."""
    nodes = {}
    for node, spikes in run.spikes.items():
        observables = {"spikes": nir.TimeGriddedData(_samples_first(spikes) > 0, dt)}
        if node in run.potentials:
            observables["potential"] = nir.TimeGriddedData(_samples_first(run.potentials[node]), dt)
        nodes[node] = nir.NIRNodeData(observables)
    return nir.NIRGraphData(nodes)


def _samples_first(values: Array) -> Array:
    """(T, B, ...) -> (B, T, neurons)."""
    return np.ascontiguousarray(np.moveaxis(values, 1, 0).reshape(values.shape[1], values.shape[0], -1))


def draw_rasters(group: Mapping[str, Run], order: Sequence[str], path: Path, *, title: str) -> None:
    """Rasters of some nodes, one row each, and one column per backend: black where it agrees with the judge, else red."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    judge = group["reference"]
    others = [name for name in group if name != "reference"]
    nodes = _telling(group, order)
    figure = Figure(figsize=(2.6 * len(others) + 1.2, 1.7 * len(nodes) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(nodes), len(others), squeeze=False)
    for row, node in enumerate(nodes):
        for column, backend in enumerate(others):
            axis = axes[row][column]
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(backend, fontsize=9)
            if column == 0:
                axis.set_ylabel(_short(node), fontsize=7)
            if node in group[backend].spikes:
                axis.imshow(
                    _panel(judge.spikes[node], group[backend].spikes[node]), aspect="auto", interpolation="nearest"
                )
            else:
                axis.text(0.5, 0.5, "no module of its own", ha="center", va="center", fontsize=7)
    figure.suptitle(f"{title}: spikes against the reference", fontsize=10)
    figure.supxlabel("samples and time steps", fontsize=8)
    figure.savefig(path, dpi=110)


def _short(node: str) -> str:
    return node if len(node) <= 24 else "..." + node[-22:]


def _telling(group: Mapping[str, Run], order: Sequence[str]) -> list[str]:
    """Nodes spread over the graph, and the first ones that differ."""
    judge = group["reference"].spikes
    alive = [node for node in order if judge[node].any()]
    differing = [
        node
        for node in alive
        if any(node in run.spikes and ((run.spikes[node] > 0) != (judge[node] > 0)).any() for run in group.values())
    ]
    spread = [alive[i] for i in np.linspace(0, len(alive) - 1, min(PANELS, len(alive))).astype(int)]
    chosen = {*differing[:2], *spread}
    return [node for node in order if node in chosen]


def _panel(expected: Array, found: Array) -> Array:
    """RGB image (neurons, samples x steps, 3)."""
    one, other = (_samples_first(values > 0).transpose(2, 0, 1) for values in (expected, found))
    one, other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    differs = (one != other).any(1)
    # those that differ first, then those whose rate is the most telling
    chosen = np.argsort(np.abs(one.mean(1) - RATE) - 2 * differs, kind="stable")[:ROWS]
    one, other = one[chosen, :COLUMNS], other[chosen, :COLUMNS]
    image = np.full((*one.shape, 3), 255, np.uint8)
    image[one & other] = 0
    image[one != other] = (214, 39, 40)
    return image


def draw_divergence(group: Mapping[str, Run], order: Sequence[str], graph: FlatGraph, path: Path, *, title: str) -> str:
    """Potentials of the first neuron that differs, judge and backend; empty, and nothing drawn, where none does."""
    judge = group["reference"]
    for backend, run in group.items():
        place = _first(judge, run, order)
        if backend == "reference" or place is None:
            continue
        node, step, sample, neuron = place
        text = f"{backend} on {title}: node {node}, step {step}, sample {sample}, neuron {neuron}"
        if node in run.potentials:
            _draw_potentials(judge, run, graph, place, path, labels=(backend, text))
        return text
    return ""


def _first(judge: Run, run: Run, order: Sequence[str]) -> tuple[str, int, int, int] | None:
    """(node, step, sample, neuron) where two runs part."""
    best: tuple[str, int, int, int] | None = None
    for node in order:
        if node in run.spikes:
            differs = _samples_first((run.spikes[node] > 0) != (judge.spikes[node] > 0))
            if differs.any():
                step = int(np.flatnonzero(differs.any((0, 2)))[0])
                sample, neuron = np.argwhere(differs[:, step])[0]
                if best is None or step < best[1]:
                    best = (node, step, int(sample), int(neuron))
    return best


def _draw_potentials(
    judge: Run, run: Run, graph: FlatGraph, place: tuple[str, int, int, int], path: Path, *, labels: tuple[str, str]
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    node, step, sample, neuron = place
    fields = graph.nodes[node].values
    field = next((name for name in ("threshold", "v_threshold") if name in fields), None)
    threshold = 0.0 if field is None else float(graph.nodes[node].full(field).ravel()[neuron])
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for name, one, style in (("reference", judge, "o-"), (labels[0], run, "x--")):
        axis.plot(_samples_first(one.potentials[node])[sample, :, neuron], style, label=name)
    axis.axhline(threshold, color="grey", linewidth=1, label=f"threshold {threshold:.9g}")
    axis.axvline(step, color="red", linewidth=0.8)
    axis.set_xlabel("time step")
    axis.set_ylabel("membrane potential")
    axis.set_title(labels[1], fontsize=8)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _page(report: Report, files: Sequence[str], pictures: Sequence[str], divergence: Sequence[tuple[str, str]]) -> str:
    parted = "".join(f"![{text}]({name})\n\n{text}\n\n" for name, text in divergence)
    return PAGE.format(
        title=report.title(),
        verdict="Everything agrees as it should." if report.passed else "**There are differences that should not be.**",
        rule=f"Rule: {report.rule}." + (f" Certificate: {report.certificate}." if report.certificate else ""),
        table=report.to_markdown(),
        rows=ROWS,
        steps=report.time_steps,
        agree="" if divergence else "Here nothing is red: every spike agrees.",
        pictures="\n\n".join(f"![rasters]({name})" for name in pictures),
        divergence=f"## First divergence\n\n{parted}" if divergence else "",
        files="\n".join(f"- `{name}`" for name in files),
    )
