"""Measured numbers as rows of ``results/*.csv``, each with the command, commit, machine and date that made it.

Every number in a README or card has its row here, so that anybody can repeat the measurement.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.errors import DataError, InvalidInputError
from zoo.support.files import write_atomically
from zoo.support.provenance import checkout, origin

ORIGIN = ("command", "commit", "machine", "date")


def results_folder() -> Path:
    """``results/`` of the checkout that this package runs from.

    Raises:
        InvalidInputError: the package was installed without a checkout.
    """
    folder = checkout() / "results"
    if not folder.is_dir():
        raise InvalidInputError(
            "results are recorded in a checkout of the repository only: there is no results/ folder"
        )
    return folder


def read_rows(table: str, *, folder: Path | None = None) -> list[dict[str, str]]:
    """The rows of ``results/TABLE.csv``; none where there is no such file.

    Raises:
        DataError: the file is not a table.
    """
    path = (folder or results_folder()) / f"{table}.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if any(None in row or None in row.values() for row in rows):
        raise DataError(f"{path} is damaged: its rows do not have the same columns")
    return rows


def card_fields(model: str, *, folder: Path | None = None) -> dict[str, object]:
    """What the tables say of a model, as fields of its card: the last row for each thing that was measured.

    Args:
        model: name of its card.
        folder: instead of the checkout's ``results/``.
    """
    fields: dict[str, object] = {}
    if metrics := card_metrics(model, folder=folder):
        fields["metrics"] = metrics
    if rows := _of(model, "activity", folder):
        fields["activity"] = _activity(rows[-1])
    if rows := _of(model, "equivalence", folder):
        last = {(row["backend"], row["dtype"]): row for row in rows}
        fields["equivalence"] = [_equivalence(row) for row in last.values()]
    rows = [
        row for row in _of(model, "certificates", folder) if row["dtype"] == "float32" and row["time_steps"] == "own"
    ]
    if rows:
        fields["certificate"] = _certificate(rows[-1])
    return fields


def _of(model: str, table: str, folder: Path | None) -> list[dict[str, str]]:
    return [row for row in read_rows(table, folder=folder) if row["model"] == model]


def card_metrics(model: str, *, folder: Path | None = None) -> list[dict[str, object]]:
    """The metrics of a card: of the deployed weights first, then of those before quantisation or conversion."""
    rows = [
        row for row in _of(model, "val", folder) if row["weights"]
    ]  # the first rows are of weights that were replaced
    last = {(row["weights"], row["backend"]): row for row in rows}
    return [
        {
            "name": name,
            "value": float(row[name]),
            "dataset": row["data"],
            "split": row["split"],
            "images": int(row["images"]),
            "conditions": (
                f"COCO evaluation by faster-coco-eval, conf {row['conf']}, iou {row['iou']}, max_det {row['max_det']}, "
                f"{backend}"
                + (", trainable weights: before quantisation or conversion" if weights == "trainable" else "")
            ),
            "source": "results/val.csv",
        }
        for (weights, backend), row in sorted(last.items(), key=lambda item: item[0][0] == "trainable")
        for name in ("mAP50", "mAP50-95")
    ]


def _activity(row: Mapping[str, str]) -> dict[str, object]:
    names = ("spike_rate", "dense_macs", "effective_acs", "effective_macs")
    numbers: dict[str, object] = {name: float(row[name]) for name in names}
    return numbers | {"images": int(row["images"]), "conditions": row["convention"], "source": "results/activity.csv"}


def _equivalence(row: Mapping[str, str]) -> dict[str, object]:
    counts: dict[str, object] = {name: int(row[name]) for name in ("images", "spikes", "mismatches")}
    texts = {name: row[name] for name in ("backend", "version", "dtype")}
    return {**texts, **counts, "head_error": float(row["head_error"]), "source": "results/equivalence.csv"}


def _certificate(row: Mapping[str, str]) -> dict[str, object]:
    return {
        "dtype": row["dtype"],
        "certified": row["certified"] == "True",
        "bits": float(row["bits"]),
        "margin": float(row["margin"]) if row["margin"] not in {"", "None"} else 0.0,
        "source": "results/certificates.csv",
    }


def append_row(table: str, values: Mapping[str, object], *, folder: Path | None = None) -> Path:
    """Add a row to ``results/TABLE.csv``; new columns are added to the whole table.

    Args:
        table: name of the file without ``.csv``.
        values: measured numbers and what they were measured on; where they come from is filled in.
        folder: instead of the checkout's ``results/``.

    Returns:
        The file.
    """
    folder = folder or results_folder()
    rows = read_rows(table, folder=folder)
    rows.append({**{key: _text(value) for key, value in values.items()}, **origin()})
    return _write(table, rows, folder)


def write_table(table: str, rows: Sequence[Mapping[str, object]], *, folder: Path | None = None) -> Path:
    """Replace ``results/TABLE.csv`` by rows that one command measured.

    Args:
        table: name of the file without ``.csv``.
        rows: measured numbers and what they were measured on; where they come from is filled in.
        folder: instead of the checkout's ``results/``.

    Returns:
        The file.
    """
    where = origin()
    return _write(
        table, [{key: _text(value) for key, value in row.items()} | where for row in rows], folder or results_folder()
    )


def _write(table: str, rows: Sequence[Mapping[str, str]], folder: Path) -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in ORIGIN))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *ORIGIN], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_atomically(folder / f"{table}.csv", text.getvalue())


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
