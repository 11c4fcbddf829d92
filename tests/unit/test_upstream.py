"""Defects of other projects that docs/upstream.md reports still show, and the page says what the scripts print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.upstream import PAGE, PROJECTS, run, scripts, section


@pytest.mark.parametrize(
    "script",
    [pytest.param(s, marks=() if s.stem.startswith("nir_") else pytest.mark.slow, id=s.stem) for s in scripts()],
)
def test_defect_is_still_there(script: Path) -> None:
    found = run(script)
    assert found.expected != found.got, (
        f"{script.stem} is fixed: remove the script, and what the zoo does about the defect"
    )
    assert section(script, found) in PAGE.read_text(encoding="utf-8"), "renew the page: python -m tests.upstream"


def test_every_script_belongs_to_a_project() -> None:
    assert {script.stem.split("_")[0] for script in scripts()} <= PROJECTS.keys()
