"""The conformance suite: adapters are never wrong, the examiner survives what stock importers do, and the page says so."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

from zoo.equivalence.conformance import document
from zoo.equivalence.conformance.cases import all_cases
from zoo.equivalence.conformance.judging import (
    CRASHES,
    EXACT,
    HANGS,
    REFUSES,
    WRONG,
    Verdict,
    compare,
    is_refusal,
    judge,
)
from zoo.equivalence.conformance.reasons import DYNAMICS, REASONS
from zoo.equivalence.conformance.subjects import Subject, all_subjects
from zoo.equivalence.conformance.suite import Examiner, Result, examine
from zoo.errors import InvalidInputError

ROOT = Path(__file__).parents[2]
ADAPTERS = [name for name, subject in all_subjects().items() if subject.adapter]
QUICK = [name for name in all_cases() if not name.endswith("-digits")]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_are_exact_or_refuse(adapter: str) -> None:
    subject = all_subjects()[adapter]
    verdicts = {name: judge(subject, all_cases()[name]) for name in QUICK}
    assert {name: v for name, v in verdicts.items() if v.outcome not in {EXACT, REFUSES}} == {}
    refused = {name for name, verdict in verdicts.items() if verdict.outcome == REFUSES}
    assert refused == ({"paper-cnn"} if adapter == "brian2" else set())
    assert all("node '" in verdicts[name].detail for name in refused)


def test_every_node_type_of_nir_is_examined() -> None:
    import nir

    seen = {type(node).__name__ for case in all_cases().values() for node in case.make()[0].nodes.values()}
    every = {
        kind.__name__
        for kind in nir.ir.__dict__.values()
        if isinstance(kind, type) and kind.__module__.startswith("nir")
    }
    assert every - seen <= {"NIRNode", "TypeMismatch"} | {name for name in every if name.islower()}, every - seen


def test_what_stock_importers_do_is_told_apart() -> None:
    """One case of each outcome, in processes of their own; the one that hangs is ended by the processor time that it uses."""
    results = examine(
        ["norse from_nir", "snntorch import_from_nir"], ["linear", "if-r", "scale", "two-outputs"], stock_seconds=20
    )
    outcomes = {(one.subject.name, one.case.name): one.verdict.outcome for one in results}
    assert outcomes["norse from_nir", "linear"] == EXACT
    assert outcomes["norse from_nir", "if-r"] == WRONG
    assert outcomes["norse from_nir", "scale"] == CRASHES
    assert outcomes["snntorch import_from_nir", "scale"] == REFUSES
    assert outcomes["snntorch import_from_nir", "if-r"] == REFUSES
    assert outcomes["snntorch import_from_nir", "two-outputs"] == HANGS
    (ignored,) = (one for one in results if (one.subject.name, one.case.name) == ("norse from_nir", "if-r"))
    assert document.explain(ignored).endswith("r is ignored")


SPYX = {
    **dict.fromkeys(
        [
            "conv2d", "conv2d-stride", "conv2d-stride-uneven", "conv2d-no-padding", "conv2d-kernel-3x5", "conv2d-same",
            "conv2d-valid", "sumpool2d", "sumpool2d-padding", "sumpool2d-kernel-3x2",
        ],
        EXACT,
    ),
    "conv2d-groups": CRASHES,  # JAX says that shapes do not fit, Spyx says nothing
    "conv2d-dilation": WRONG,
    "li": REFUSES,  # "nir.LI without a following nir.Threshold has no Spyx module"
    "subgraph": REFUSES,
    "two-inputs": WRONG,
}  # fmt: skip


def test_spyx_is_fed_as_its_documentation_says() -> None:
    """Channels last: seven convolutions and three pools are exact then."""
    subject = all_subjects()["spyx from_nir"]
    found = {name: judge(subject, all_cases()[name]).outcome for name in SPYX}
    assert found == SPYX


def _refuses() -> None:
    raise ValueError("nodes of the type X are not supported")


def _asserts() -> None:
    assert len(ADAPTERS) == 0, "r != 1 not supported"


def _is_unclear() -> None:
    raise ValueError("empty graph")


def _slips() -> None:
    (1).unsupported  # type: ignore[attr-defined]  # noqa: B018


def _calls_a_library() -> None:
    _refuses()  # that of this module, not of the importer


@pytest.mark.parametrize(
    ("function", "expected"),
    [(_refuses, True), (_asserts, True), (_is_unclear, False), (_slips, False), (_calls_a_library, False)],
)
def test_only_what_an_importer_raises_itself_is_a_refusal(function: FunctionType, expected: bool) -> None:
    theirs = FunctionType(function.__code__, {**function.__globals__, "__name__": "importer.reading"})
    with pytest.raises((ValueError, AssertionError, AttributeError)) as caught:
        theirs()
    assert is_refusal(caught.value, ("importer",)) is expected
    assert not is_refusal(caught.value, ("another",))


def test_a_process_that_dies_is_recorded_and_the_next_case_runs() -> None:
    case = all_cases()["linear"]
    examiner = Examiner(all_subjects()["reference"], 60)
    try:
        assert examiner.examine(case).outcome == EXACT
        assert examiner.process is not None
        examiner.process.kill()
        examiner.process.wait()
        assert examiner.examine(case).outcome == CRASHES
        assert examiner.examine(case).outcome == EXACT
    finally:
        examiner.close()


def test_comparing_notices_a_single_spike() -> None:
    spikes = np.zeros((4, 2, 3))
    spikes[1, 0, 0] = 1
    assert compare({"out": spikes}, {"out": spikes.copy()}, exact=True) == Verdict(EXACT)
    other = spikes.copy()
    other[2, 1, 1] = 1
    verdict = compare({"out": spikes}, {"out": other}, exact=False)
    assert verdict.outcome == WRONG
    assert verdict.detail == "1 of 24 spikes of out differ, first in step 2"
    assert compare({"out": spikes + 0.5}, {"out": spikes + 0.5 + 1e-7}, exact=True).outcome == WRONG
    assert compare({"out": spikes + 0.5}, {"out": spikes + 0.5 + 1e-7}, exact=False).outcome == EXACT
    assert compare({"out": spikes + 0.5}, {"out": spikes * np.nan}, exact=False).outcome == WRONG
    assert "is missing" in compare({"a": spikes, "b": spikes}, {"a": spikes}, exact=True).detail
    assert "shape" in compare({"out": spikes}, {"out": spikes[:, :, :2]}, exact=True).detail


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no case 'nothing'"):
        examine(["reference"], ["nothing"])
    with pytest.raises(InvalidInputError, match="no subject 'nobody'"):
        examine(["nobody"])


def test_the_recorded_table_has_every_case_and_no_adapter_that_is_wrong() -> None:
    with (ROOT / "results" / "conformance.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["subject"], row["case"]) for row in rows} == {(s, c) for s in all_subjects() for c in all_cases()}
    ours = [row for row in rows if row["kind"] == "adapter"]
    assert {row["outcome"] for row in ours} <= {EXACT, REFUSES}
    assert all(row["detail"] for row in rows if row["outcome"] != EXACT)
    wrong = [row for row in rows if row["outcome"] in {WRONG, HANGS}]
    assert wrong
    assert all(";" in row["detail"] for row in wrong), "every wrong answer has a reason that maintainers can act on"
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert f"from {len(all_cases())} cases" in page
    for row in wrong:
        assert f"`{row['case']}` {row['outcome']}" in page


def test_reasons_are_of_known_subjects_and_the_page_is_made_from_results() -> None:
    names = list(all_subjects())
    assert all(
        who == "*" or any(name.startswith(who.rstrip("*")) for name in names) for who, _, _ in REASONS + DYNAMICS
    )
    subject, case = Subject("x from_nir", "x", lambda _case: {}), all_cases()["linear"]
    text = document.markdown([
        Result(case, subject, "1.0", Verdict(WRONG, "3 of 4 <spikes> differ")),
        Result(case, all_subjects()["norse"], "1.1", Verdict(EXACT)),
    ])  # fmt: skip
    assert "| Linear | wrong |" in text
    assert "3 of 4 &lt;spikes> differ" in text
    assert "x 1.0" in text


def test_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from zoo.cli import app

    out = tmp_path / "out.json"
    done = CliRunner().invoke(app, ["conformance", "-s", "norse", "-c", "lif,if", "--json", str(out)])
    assert done.exit_code == 0
    rows = json.loads(out.read_text())
    assert [(row["case"], row["outcome"]) for row in rows] == [("lif", EXACT), ("if", EXACT)]
