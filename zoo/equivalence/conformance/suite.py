"""Examines all subjects, each in a process that is killed when a case hangs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import IO, TypeVar

from zoo.equivalence.conformance.building import Case
from zoo.equivalence.conformance.cases import all_cases
from zoo.equivalence.conformance.judging import CRASHES, HANGS, Verdict
from zoo.equivalence.conformance.subjects import Subject, all_subjects
from zoo.errors import InvalidInputError
from zoo.support.progress import progress_bar

WORKER = "zoo.equivalence.conformance.worker"
CASE_SECONDS, STOCK_SECONDS = 3600.0, 40.0
"""Processor time after which an adapter, or a stock importer, counts as hanging."""
WALL_SECONDS = 3600.0
"""Time after which a process that waits for something counts as hanging."""


T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """One cell: what a subject made of a case."""

    case: Case
    subject: Subject
    version: str
    verdict: Verdict


class Examiner:
    """A worker process for one subject, started again when it was killed or died.

    Args:
        subject: whom to examine.
        seconds: of processor time, after which a case counts as hanging.
    """

    def __init__(self, subject: Subject, seconds: float) -> None:
        self.subject, self.seconds = subject, seconds
        self.process: subprocess.Popen[str] | None = None

    def examine(self, case: Case) -> Verdict:
        """One case."""
        if self.process is None and not self._start():
            return Verdict(CRASHES, "the framework cannot be imported")
        assert self.process is not None  # noqa: S101 - just started
        assert self.process.stdin is not None  # noqa: S101 - a pipe
        assert self.process.stdout is not None  # noqa: S101 - a pipe
        try:
            self.process.stdin.write(case.name + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.close()
            return Verdict(CRASHES, "the process died before the case")
        line = _line(self.process.stdout)
        if line is None:
            self.close()
            return Verdict(HANGS, f"waits for something that does not come; killed after {WALL_SECONDS:g} seconds")
        if not line:
            code = self.process.wait()
            self.close()
            if code == -signal.SIGPROF:
                return Verdict(HANGS, f"still computing after {self.seconds:g} seconds of processor time")
            return Verdict(CRASHES, f"the process died with exit code {code}")
        return Verdict(*json.loads(line))

    def _start(self) -> bool:
        environment = {**os.environ, "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1"}
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-W", "ignore", "-m", WORKER, self.subject.name, str(self.seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        assert self.process.stdout is not None  # noqa: S101 - a pipe
        if _line(self.process.stdout) == "ready\n":
            return True
        self.close()
        return False

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def _line(stream: IO[str]) -> str | None:
    """The next line; empty at the end; None if none comes in time. The worker writes whole lines only."""
    ready, _, _ = select.select([stream], [], [], WALL_SECONDS)
    return stream.readline() if ready else None


def examine(
    subjects: Sequence[str] | None = None, cases: Iterable[str] | None = None, *, stock_seconds: float = STOCK_SECONDS
) -> list[Result]:
    """All cases on all subjects.

    Args:
        subjects: names; by default everybody.
        cases: names; by default all.
        stock_seconds: of processor time, after which a stock importer counts as hanging.

    Raises:
        InvalidInputError: an unknown name.
    """
    people = _chosen(all_subjects(), subjects, "subject")
    questions = _chosen(all_cases(), cases, "case")
    results = []
    with progress_bar("examining", total=len(people) * len(questions)) as bar:
        for subject in people:
            examiner = Examiner(subject, CASE_SECONDS if subject.adapter else stock_seconds)
            try:
                for case in questions:
                    verdict = examiner.examine(case)
                    results.append(Result(case, subject, _version(subject), verdict))
                    bar.advance(f"{subject.name}: {case.name}")
            finally:
                examiner.close()
    return results


def _chosen(known: dict[str, T], names: Iterable[str] | None, what: str) -> list[T]:
    wanted = list(known) if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise InvalidInputError(f"there is no {what} {name!r}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def _version(subject: Subject) -> str:
    try:
        return metadata.version(subject.package)
    except metadata.PackageNotFoundError:
        return "not installed"
