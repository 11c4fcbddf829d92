"""What came of a case: exact, refuses, wrong, crashes or hangs, and one sentence about it."""

from __future__ import annotations

import dis
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from zoo.equivalence.conformance.building import Array, Case
from zoo.equivalence.conformance.subjects import Outputs, Subject, UnexpectedOutputError
from zoo.errors import UnsupportedGraphError, ZooError

EXACT, REFUSES, WRONG, CRASHES, HANGS = "exact", "refuses", "wrong", "crashes", "hangs"
_CLEAR = re.compile(
    r"not (?:currently |yet )?(?:be )?(?:supported|implemented)|unsupported|only supports?|must (?:be|equal)"
    r"|cannot be (?:mapped|converted)|no (?:mapping|conversion)|unknown node type|has no \w+ module|only .* allowed",
    re.IGNORECASE,
)
"""What a message has to say for an error to be a refusal."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of one case.

    Attributes:
        outcome: one of ``exact``, ``refuses``, ``wrong``, ``crashes``, ``hangs``.
        detail: one sentence; empty where it is exact.
    """

    outcome: str
    detail: str = ""


def judge(subject: Subject, case: Case, expected: Outputs | None = None) -> Verdict:
    """Run a case and compare with the reference, and with what somebody recorded.

    Args:
        subject: whom to examine.
        case: what to run.
        expected: what :func:`expectation` makes of the case, if that is known already.
    """
    expected = expectation(case) if expected is None else expected
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = subject.run(case)
    except UnsupportedGraphError as error:
        return Verdict(REFUSES, error.reasons[0])
    except ZooError as error:
        return Verdict(CRASHES, str(error))
    except UnexpectedOutputError as error:
        return Verdict(WRONG, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a stock importer raises is the result
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        return Verdict(REFUSES if is_refusal(error, subject.modules) else CRASHES, text)
    return compare(expected if subject.adapter else _outputs_only(expected), found, exact=subject.adapter is not None)


def is_refusal(error: BaseException, modules: Collection[str]) -> bool:
    """Whether an importer itself says what it cannot run.

    It does where a ``raise`` or ``assert`` of its own packages made the error, with a message that says what is not supported.
    An error that comes out of the libraries below it, such as a shape that does not fit, is a crash.

    Args:
        error: as caught.
        modules: packages of the importer.
    """
    frame = error.__traceback__
    if frame is None:
        return False
    while frame.tb_next is not None:
        frame = frame.tb_next
    code, package = frame.tb_frame.f_code, str(frame.tb_frame.f_globals.get("__name__")).partition(".")[0]
    raised = dis.opname[code.co_code[frame.tb_lasti]] == "RAISE_VARARGS"
    return package in modules and raised and bool(_CLEAR.search(str(error)))


@cache
def expectation(case: Case) -> Outputs:
    """What the contract makes of a case: outputs, and spikes of every neuron node. Computed once in a process."""
    from zoo.nir_graphs import importing, reference

    graph, x = case.make()
    prepared = importing.prepare(graph, dt=case.dt)
    trace = reference.run(prepared, x, record="all")
    spikes = {f"spikes of {name}": value for name, value in trace.spikes.items()}
    if case.recorded is not None:
        (output,) = trace.outputs
        if not np.array_equal(trace.outputs[output], case.recorded()):
            raise AssertionError(f"the reference does not reproduce the recording of {case.name}")
    return {**trace.outputs, **spikes}


def _outputs_only(values: Outputs) -> Outputs:
    return {name: value for name, value in values.items() if not name.startswith("spikes of ")}


def compare(expected: Outputs, found: Outputs, *, exact: bool) -> Verdict:
    """Spikes bit by bit; analog values within 1e-9 (adapters, float64) or 1e-5 (stock importers, float32)."""
    missing = [name for name in expected if name not in found]
    if missing:
        return Verdict(WRONG, f"returns {len(found)} of {len(expected)} outputs: {missing[0]!r} is missing")
    for name, value in expected.items():
        verdict = _compare_one(name, value, np.asarray(found[name]), 1e-9 if exact else 1e-5)
        if verdict is not None:
            return verdict
    return Verdict(EXACT)


def _compare_one(name: str, expected: Array, found: Any, tolerance: float) -> Verdict | None:
    if found.shape != expected.shape:
        return Verdict(WRONG, f"{name} has the shape {found.shape[2:]} instead of {expected.shape[2:]}")
    binary = bool(((expected == 0) | (expected == 1)).all())
    scale = max(1.0, float(np.abs(expected).max()))
    differs = found != expected if binary else ~(np.abs(found - expected) <= tolerance * scale)
    if not differs.any():
        return None
    step = int(np.flatnonzero(differs.reshape(len(differs), -1).any(1))[0])
    share = f"{int(differs.sum())} of {differs.size}"
    if binary:
        return Verdict(WRONG, f"{share} spikes of {name} differ, first in step {step}")
    worst = float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max())
    return Verdict(WRONG, f"{share} numbers of {name} differ, by up to {worst:.3g}, first in step {step}")
