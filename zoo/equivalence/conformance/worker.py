"""A process that examines one subject: names of cases come in, verdicts go out as lines of JSON.

A case that needs more than its share of processor time ends the process with the signal SIGPROF. Processor time does not pass
while other programs have the processor, so the verdict does not depend on how busy the machine is.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    """``python -m zoo.equivalence.conformance.worker SUBJECT SECONDS``."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what frameworks print must not get between the answers
    from zoo.equivalence.conformance.cases import all_cases
    from zoo.equivalence.conformance.judging import expectation, judge
    from zoo.equivalence.conformance.subjects import all_subjects

    subject, cases, seconds = all_subjects()[sys.argv[1]], all_cases(), float(sys.argv[2])
    subject.load()
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        case = cases[line.strip()]
        expected = expectation(case)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        verdict = judge(subject, case, expected)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps([verdict.outcome, verdict.detail]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
