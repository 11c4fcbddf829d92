"""The arrows between the rooms of ``zoo``: nothing reaches up, and nothing runs in a circle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.imports import Import, arrows, circles, imports, modules, room_of

LEVELS = (
    {"errors"},
    {"config", "support"},
    {"cards", "data", "layers", "result"},
    {"heads", "nir_graphs"},
    {"adapters", "detectors", "hub"},
    {"evaluation", "importers", "loading"},
    {"equivalence", "hardware", "training"},
    {"compression"},
    {"measuring"},
    {"api"},
    {"zoo"},
    {"demo"},
    {"cli"},
)
"""From the bottom to the top. A room knows only rooms of lower levels."""
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FILES = {"nir_graphs", "adapters", "hub"}
"""Rooms that see graphs and files, never a detector."""


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return imports()


def test_no_file_imports_itself_in_a_circle(found: list[Import]) -> None:
    assert circles((one.source, one.target) for one in found if one.executed) == []


def test_no_room_imports_itself_in_a_circle(found: list[Import]) -> None:
    assert circles((room_of(one.source), room_of(one.target)) for one in found if one.executed) == []


def test_every_room_has_a_level() -> None:
    assert {room_of(name) for name in modules()} <= LEVEL.keys()


def test_nothing_reaches_up(found: list[Import]) -> None:
    wrong = [
        f"{one.source}:{one.line} imports {one.target}"
        for source, targets in arrows(found).items()
        for target, every in targets.items()
        for one in every
        if LEVEL[target] >= LEVEL[source]
    ]
    assert wrong == []


def test_graphs_adapters_and_the_hub_know_no_detector(found: list[Import]) -> None:
    above = {"detectors", "training", "api", "zoo"}
    assert [one for one in found if room_of(one.source) in FILES and room_of(one.target) in above] == []


def test_detectors_know_neither_conversion_nor_quantisation_nor_the_api(found: list[Import]) -> None:
    above = {"compression", "api", "zoo", "importers", "equivalence"}
    assert [one for one in found if room_of(one.source) == "detectors" and room_of(one.target) in above] == []


def test_a_family_knows_no_other_family(found: list[Import]) -> None:
    families = {name.split(".")[2] for name in modules() if name.startswith("zoo.detectors.") and name.count(".") == 3}
    assert {"spikeyolo", "ems_yolo", "spiking_yolo", "eas_snn", "spikingyolox", "yolox"} <= families
    inside = [one for one in found if one.source.startswith("zoo.detectors.")]
    crossing = [
        one
        for one in inside
        if (source := one.source.split(".")[2]) in families
        and (target := [*one.target.split("."), "", ""][2]) in families - {"yolox"}
        and one.target.startswith("zoo.detectors.")
        and source != target
    ]
    assert crossing == []
    # and what all families share knows none of them, so that a new one touches its own room only
    shared = [one for one in inside if one.source.split(".")[2] not in families]
    assert [one for one in shared if one.target.removeprefix("zoo.detectors.").split(".")[0] in families] == []


def test_families_and_heads_are_told_apart_in_their_own_files_only() -> None:
    """No chain of ``if arch.startswith(...)`` or ``if spec.kind == ...`` anywhere else."""
    families = "spikeyolo|ems-yolo|spiking-yolo|eas-snn|spikingyolox"
    named = rf"startswith\(.?[\"']({families})-|(decode|spec)\.kind (==|!=|in)|kind\.startswith"
    found = [name for name, path in modules().items() if re.search(named, path.read_text("utf-8"))]
    assert found == []


def package(folder: Path, **files: str) -> list[Import]:
    for name, text in {"__init__": "", **files}.items():
        path = folder / "zoo" / f"{name.replace('__', '/') if name != '__init__' else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return imports(folder / "zoo")


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    found = package(
        tmp_path,
        api="def load():\n    from zoo.low import thing\n",
        low="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zoo.api\n",
    )
    assert {(one.source, one.target, one.executed) for one in found} == {
        ("zoo.api", "zoo.low", True),
        ("zoo.low", "zoo.api", False),
    }
    assert arrows(found).keys() == {"api", "low"}


def test_circles_within_functions_are_found(tmp_path: Path) -> None:
    found = package(
        tmp_path,
        api="import zoo.low\n",
        low="def f():\n    from zoo import middle\n",
        middle="async def g():\n    class C:\n        from zoo.api import load\n",
    )
    assert circles((one.source, one.target) for one in found) == [["zoo.api", "zoo.low", "zoo.middle"]]


def test_importing_a_module_runs_its_package(tmp_path: Path) -> None:
    folder = tmp_path / "zoo" / "room"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from zoo.room import inner\n")
    (folder / "inner.py").write_text("import zoo.low\n")
    found = package(tmp_path, low="from zoo.room.inner import x\n")
    assert ("zoo.low", "zoo.room") in {(one.source, one.target) for one in found}
    assert ("zoo.room.inner", "zoo.room") not in {(one.source, one.target) for one in found}
    assert circles((one.source, one.target) for one in found) == [["zoo.low", "zoo.room", "zoo.room.inner"]]
