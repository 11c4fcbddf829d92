"""Rows of results/*.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from zoo.errors import DataError
from zoo.measuring import ledger


def test_rows_say_where_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/zoo", "val", "a model", "--backend", "norse"])
    path = ledger.append_row("val", {"model": "m", "mAP50": 0.96123456789}, folder=tmp_path)
    ledger.append_row("val", {"model": "n", "mAP50": 1.0, "images": 500}, folder=tmp_path)
    assert path == tmp_path / "val.csv"
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["command"] == "zoo val 'a model' --backend norse"
    assert first["mAP50"] == "0.961235"
    assert first["images"] == ""
    assert second["images"] == "500"
    assert list(second) == ["model", "mAP50", "images", "command", "commit", "machine", "date"]
    assert len(first["commit"].removesuffix("-dirty")) == 40
    assert "torch" in first["machine"]
    assert first["date"].endswith("+00:00")


def test_damaged_tables_are_not_extended(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match="damaged"):
        ledger.append_row("val", {"a": 1}, folder=tmp_path)
    assert (tmp_path / "val.csv").read_text() == "a,b\n1,2\n3\n"


def test_results_belong_to_the_checkout() -> None:
    assert ledger.results_folder() == Path(ledger.__file__).resolve().parents[2] / "results"
