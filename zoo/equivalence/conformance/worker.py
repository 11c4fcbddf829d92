"""A process that examines one subject: names of cases come in, verdicts go out as lines of JSON."""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """``python -m zoo.equivalence.conformance.worker SUBJECT``."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what frameworks print must not get between the answers
    from zoo.equivalence.conformance.cases import all_cases
    from zoo.equivalence.conformance.judging import judge
    from zoo.equivalence.conformance.subjects import all_subjects

    subject, cases = all_subjects()[sys.argv[1]], all_cases()
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        verdict = judge(subject, cases[line.strip()])
        answers.write(json.dumps([verdict.outcome, verdict.detail]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
