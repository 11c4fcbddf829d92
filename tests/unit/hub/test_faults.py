"""Every fault of a Hub ends in the right bytes or in one clear error of a known type, and docs/security.md says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub_server.outcomes import CASES, DOC, END, START, Case, Outcome, outcome
from tests.hub_server.world import RIGHT
from zoo import errors

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # the client's own, of its HTTP library


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_fault(case: Case, tmp_path: Path) -> None:
    found: Outcome = outcome(case, tmp_path)
    assert found.result == case.expected
    assert found.result == RIGHT or issubclass(getattr(errors, found.result), errors.ZooError)
    assert found.result == RIGHT or len(found.message) > 30
    assert "\n" not in found.message
    row = f"| {case.what} | {found.result} | {found.message} |"
    documented = DOC.read_text(encoding="utf-8").split(START)[1].split(END)[0]
    assert row in documented, "renew the table: python -m tests.hub_server.outcomes"
    assert not list(tmp_path.parent.glob("**/evil.txt"))
