"""Mutated files of every format: 300 here, 20,000 by ``make fuzz``, whose last run is in results/fuzz.csv."""

from __future__ import annotations

import pytest

from tests.fuzz.run import MEMORY_LIMIT, Worker, fuzz
from tests.fuzz.targets import TARGETS
from zoo.measuring.ledger import read_rows


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_refused_or_read(name: str) -> None:
    tally = fuzz(name, 300)
    assert tally.failures == []
    assert tally.inputs == 300
    assert tally.refused > 100  # the mutations break something
    assert tally.read + tally.refused + tally.contained == 300


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_read(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Else every refusal above would say nothing."""
    target = TARGETS[name]
    seeds = target.seeds(tmp_path_factory.mktemp("seeds"))
    worker = Worker(target, tmp_path_factory.mktemp("root") / "work")
    worker.folder.mkdir()
    try:
        answer = worker(target.rebuild(seeds[0]) if target.rebuild else seeds[0])
        assert answer["outcome"] == "read", answer
    finally:
        worker.close()


@pytest.mark.parametrize("name", TARGETS)
def test_the_last_long_run_found_nothing(name: str) -> None:
    row = [row for row in read_rows("fuzz") if row["format"] == name][-1]
    assert int(row["inputs"]) >= 20_000
    assert int(row["failures"]) == 0
    assert name == "nir" or int(row["contained"]) == 0  # HDF5 may crash or loop: a process of its own does
    assert float(row["memory_mb"]) * 1e6 < MEMORY_LIMIT
