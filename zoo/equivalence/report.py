"""What a comparison of backends found: spike by spike, with honest numbers.

Element-wise agreement is never used: a silent network agrees with most elements of any spike train. Reported instead are

* spike IoU: spikes that both sides fire, over spikes that either side fires;
* count error: per neuron node, the difference of the spike counts; summed, over the judge's spike count;
* first divergence: the earliest step in which any node differs, and the first such node in the order of the graph;
* head error: per head, the largest difference over the judge's largest absolute value;
* with module: spike IoU between a backend and the snnTorch definition in the same dtype.

The definition (``module``) is compared on the nodes that its neuron modules became. The graph has a few more: max-pooling of
spikes ends in Thresholds too. Backends are compared on all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.support.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table

    from zoo.nir_graphs.graph import FlatGraph

HEAD_TOLERANCE = 1e-9  # relative, in float64
FLOAT32_FLOOR = 0.5  # spike IoU below which float32 rounding cannot be called harmless any more

CERTIFIED = "certified: every spike of every neuron node and every bit of all heads identical"
RULES = {
    "float64": f"every spike of every neuron node identical and heads within {HEAD_TOLERANCE:g} relative",
    "float32": f"reported, not proven: rounding may flip single spikes; fails below a spike IoU of {FLOAT32_FLOOR}",
}


@dataclass(frozen=True)
class NodeResult:
    """One neuron node on one backend.

    Attributes:
        node: name in the graph.
        module: of the snnTorch definition, whose level this node is; None for nodes that no neuron module owns.
        expected: spikes that the judge fired.
        spikes: spikes fired here.
        common: spikes fired by both at the same place and step.
        first_step: first step (from 0) in which they differ, or None.
    """

    node: str
    module: str | None
    expected: int
    spikes: int
    common: int
    first_step: int | None

    @property
    def mismatches(self) -> int:
        """Places and steps where exactly one of the two fired."""
        return self.expected + self.spikes - 2 * self.common


@dataclass(frozen=True)
class Comparison:
    """One backend against the judge, on one group of inputs.

    Attributes:
        backend: name; ``module`` is the snnTorch definition itself, compared through its neuron modules.
        inputs: name of the group.
        images: how many.
        nodes: neuron nodes in the order of the graph.
        head_errors: relative error by output node; infinite where a number is not finite.
        own_cells: neurons with memory that ran on the framework's own cells, and all of them; None for the definition. A
            ``nir.Threshold`` has no memory and counts in neither.
        module_iou: spike IoU with the definition in the same dtype; None for the definition, or where nobody fired.
        seconds: run time, recording included.
    """

    backend: str
    inputs: str
    images: int
    nodes: tuple[NodeResult, ...]
    head_errors: dict[str, float]
    own_cells: tuple[int, int] | None
    module_iou: float | None
    seconds: float

    @property
    def expected(self) -> int:
        """Spikes that the judge fired."""
        return sum(node.expected for node in self.nodes)

    @property
    def spikes(self) -> int:
        """Spikes fired here."""
        return sum(node.spikes for node in self.nodes)

    @property
    def mismatches(self) -> int:
        """Places and steps where exactly one of the two fired."""
        return sum(node.mismatches for node in self.nodes)

    @property
    def spike_iou(self) -> float:
        """Common spikes over spikes of either side; 1 where nobody fires."""
        common = sum(node.common for node in self.nodes)
        either = self.expected + self.spikes - common
        return common / either if either else 1.0

    @property
    def count_error(self) -> float:
        """Sum over nodes of the absolute difference of spike counts, over the judge's spikes."""
        difference = sum(abs(node.spikes - node.expected) for node in self.nodes)
        return difference / max(self.expected, 1)

    @property
    def first_divergence(self) -> tuple[str, int] | None:
        """(node, step) where the sides part: the earliest step, and in it the first node that differs; or None."""
        differing = ((node.node, node.first_step) for node in self.nodes if node.first_step is not None)
        return min(differing, key=lambda found: found[1], default=None)

    @property
    def head_error(self) -> float:
        """Largest of the head errors."""
        return max(self.head_errors.values(), default=0.0)

    def passed(self, dtype: str, *, certified: bool = False) -> bool:
        """Whether the rule for this dtype holds (see ``RULES`` and ``CERTIFIED``)."""
        if not math.isfinite(self.head_error):
            return False
        if certified:
            return self.mismatches == 0 and self.head_error == 0
        if dtype == "float64":
            return self.mismatches == 0 and self.head_error <= HEAD_TOLERANCE
        return self.spike_iou >= FLOAT32_FLOOR

    def to_dict(self, dtype: str, *, certified: bool = False) -> dict[str, Any]:
        """JSON-able; ``nodes`` lists [node, module, expected, spikes, common, first step]."""
        first = self.first_divergence
        return {
            "backend": self.backend,
            "inputs": self.inputs,
            "images": self.images,
            "passed": self.passed(dtype, certified=certified),
            "neuron_nodes": len(self.nodes),
            "spikes_expected": self.expected,
            "spikes": self.spikes,
            "mismatches": self.mismatches,
            "spike_iou": self.spike_iou,
            "spike_iou_with_module": self.module_iou,
            "count_error": self.count_error,
            "first_divergence": None if first is None else {"node": first[0], "step": first[1]},
            "head_error": _number(self.head_error),
            "head_errors": {name: _number(error) for name, error in self.head_errors.items()},
            "own_cells": None if self.own_cells is None else {"own": self.own_cells[0], "total": self.own_cells[1]},
            "seconds": round(self.seconds, 3),
            "nodes": [[n.node, n.module, n.expected, n.spikes, n.common, n.first_step] for n in self.nodes],
        }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "not finite"


@dataclass(frozen=True)
class Report:
    """Comparisons of one detector or graph at one size, T and dtype.

    Attributes:
        model: what was compared.
        dtype: ``float32`` or ``float64``, of the backends; the judge always computes in float64.
        time_steps: T.
        image_size: (height, width) in pixels, or None for a graph that takes no images.
        comparisons: one per group of inputs and backend.
        versions: of the frameworks.
        certificate: what is proved of the graph in this dtype, in one sentence; None where the graph does not say what may be
            fed into it.
        certified: whether it is certified: then all comparisons must be identical to the last bit.
        refused: why backends that were not named one by one do not run this graph.
        traces: by (inputs, backend), where recording was asked for; batches in order.
        graph: what was run.
    """

    model: str
    dtype: str
    time_steps: int
    image_size: tuple[int, int] | None
    comparisons: tuple[Comparison, ...]
    versions: dict[str, str]
    certificate: str | None = None
    certified: bool = False
    refused: dict[str, list[str]] = field(default_factory=dict)
    traces: dict[tuple[str, str], list[Any]] = field(default_factory=dict, repr=False)
    graph: FlatGraph | None = field(default=None, repr=False)

    judge = "numpy reference in float64"

    @property
    def silent(self) -> bool:
        """Whether no neuron fired at all: such a comparison proves nothing."""
        return not any(comparison.expected for comparison in self.comparisons)

    @property
    def rule(self) -> str:
        """What every comparison must hold."""
        return CERTIFIED if self.certified else RULES[self.dtype]

    def holds(self, comparison: Comparison) -> bool:
        """Whether a comparison holds the rule."""
        return comparison.passed(self.dtype, certified=self.certified)

    @property
    def passed(self) -> bool:
        """Whether every comparison holds its rule, and neurons fired at all."""
        return not self.silent and all(map(self.holds, self.comparisons))

    def __bool__(self) -> bool:
        return self.passed

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "model": self.model,
            "passed": self.passed,
            "dtype": self.dtype,
            "rule": self.rule,
            "certified": self.certified,
            "certificate": self.certificate,
            "refused": self.refused,
            "judge": self.judge,
            "time_steps": self.time_steps,
            "image_size": None if self.image_size is None else list(self.image_size),
            "warnings": self.warnings(),
            "versions": self.versions,
            "node_columns": ["node", "module", "spikes_expected", "spikes", "common", "first_step"],
            "comparisons": [c.to_dict(self.dtype, certified=self.certified) for c in self.comparisons],
        }

    def warnings(self) -> list[str]:
        """What a reader must know besides the numbers."""
        return ["no neuron fired: a comparison of silent networks proves nothing"] if self.silent else []

    def to_json(self, path: str | Path) -> Path:
        """Write :meth:`to_dict` to a file."""
        return write_atomically(path, json.dumps(self.to_dict(), indent=1) + "\n")

    def rows(self) -> list[list[str]]:
        """Cells of the table, as text, under ``COLUMNS``."""
        return [_row(comparison, holds=self.holds(comparison)) for comparison in self.comparisons]

    def title(self) -> str:
        """One line that says what was compared."""
        size = "" if self.image_size is None else f" at {self.image_size[0]}x{self.image_size[1]}"
        return f"{self.model}{size}, T={self.time_steps}, {self.dtype}, against the {self.judge}"

    def summary(self) -> list[dict[str, object]]:
        """One row per backend, over all groups of inputs, for ``results/equivalence.csv``."""
        packages = {"module": "snntorch", "reference": "nir-zoo"}
        rows: list[dict[str, object]] = []
        for backend in dict.fromkeys(comparison.backend for comparison in self.comparisons):
            mine = [comparison for comparison in self.comparisons if comparison.backend == backend]
            rows.append(
                {
                    "model": self.model,
                    "dtype": self.dtype,
                    "backend": backend,
                    "version": self.versions.get(packages.get(backend, backend), ""),
                    "image_size": "" if self.image_size is None else f"{self.image_size[0]}x{self.image_size[1]}",
                    "time_steps": self.time_steps,
                    "images": sum(comparison.images for comparison in mine),
                    "spikes": sum(comparison.expected for comparison in mine),
                    "mismatches": sum(comparison.mismatches for comparison in mine),
                    "head_error": max(comparison.head_error for comparison in mine),
                    "passed": all(map(self.holds, mine)),
                }
            )
        return rows

    def to_markdown(self) -> str:
        """The table as Markdown, with the rule and the verdict."""
        lines = [f"### {self.title()}", "", _line(COLUMNS), _line("---" for _ in COLUMNS)]
        lines += [_line(row) for row in self.rows()]
        verdict = "passed" if self.passed else "FAILED"
        lines += ["", f"Rule: {self.rule}. **{verdict}**"]
        lines += [f"\n{note}" for note in self._background()]
        return "\n".join([*lines, *(f"\nWarning: {warning}" for warning in self.warnings()), ""])

    def table(self) -> Table:
        """The most telling columns for a terminal of 80 characters; :meth:`notes` says the rest."""
        import rich.box
        from rich.table import Table

        table = Table(
            title=self.title(), title_justify="left", title_style="bold", box=rich.box.SIMPLE, padding=(0, 1, 0, 0)
        )
        for column in TERMINAL_COLUMNS:
            table.add_column(column, justify="left" if column in {"inputs", "backend"} else "right", no_wrap=True)
        for comparison, row in zip(self.comparisons, self.rows(), strict=True):
            cells = dict(zip(COLUMNS, row, strict=True)) | {"spikes": f"{comparison.expected / 1e6:.2f} M"}
            style = None if self.holds(comparison) else "red"
            table.add_row(*(cells[column] for column in TERMINAL_COLUMNS), style=style)
        return table

    def _background(self) -> list[str]:
        """Certificate and refusals, one line each."""
        lines = [] if self.certificate is None else [f"certificate: {self.certificate}"]
        for backend, reasons in self.refused.items():
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            lines.append(f"refused by {backend}: {reasons[0]}{more}")
        return lines

    def notes(self) -> list[str]:
        """The rule, the share of the frameworks' own cells, where sides part, and warnings: one line each."""
        own = {c.backend: f"{c.own_cells[0]} of {c.own_cells[1]}" for c in self.comparisons if c.own_cells is not None}
        lines = [f"rule: {self.rule}", *self._background()]
        if own:
            listed = ", ".join(f"{backend} {share}" for backend, share in own.items())
            lines.append(f"neurons with memory on the framework's own cells: {listed} (Thresholds have none)")
        for comparison in self.comparisons:
            if (first := comparison.first_divergence) is not None:
                where = f"{comparison.backend} on {comparison.inputs}"
                lines.append(f"first divergence of {where}: node {first[0]}, step {first[1]}")
        return [*lines, *(f"warning: {warning}" for warning in self.warnings())]


TERMINAL_COLUMNS = (
    "inputs", "backend", "spikes", "mismatches", "spike IoU", "head error", "verdict",
)  # fmt: skip
COLUMNS = (
    "inputs",
    "backend",
    "images",
    "nodes",
    "spikes",
    "mismatches",
    "spike IoU",
    "with module",
    "count error",
    "first divergence",
    "head error",
    "own cells",
    "verdict",
)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(comparison: Comparison, *, holds: bool) -> list[str]:
    first, own = comparison.first_divergence, comparison.own_cells
    return [
        comparison.inputs,
        comparison.backend,
        str(comparison.images),
        str(len(comparison.nodes)),
        f"{comparison.expected:,}",
        f"{comparison.mismatches:,}",
        f"{comparison.spike_iou:.6f}",
        "-" if comparison.module_iou is None else f"{comparison.module_iou:.6f}",
        f"{comparison.count_error:.1e}" if comparison.count_error else "0",
        "none" if first is None else f"{first[0]} step {first[1]}",
        f"{comparison.head_error:.1e}" if comparison.head_error else "0",
        "-" if own is None else f"{own[0]}/{own[1]}",
        ("identical" if comparison.mismatches == 0 else "close") if holds else "FAILED",
    ]
