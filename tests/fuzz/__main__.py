"""``python -m tests.fuzz``: many mutated files of every format."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS
from zoo.measuring import ledger
from zoo.support.progress import progress_bar


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=20_000, help="of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=list(TARGETS), action="append", help="repeatable; default: all")
    parser.add_argument("--record-results", action="store_true", help="replace the formats' rows in results/fuzz.csv")
    given = parser.parse_args()
    failed = False
    for name in given.format or TARGETS:
        with progress_bar(name, total=given.examples) as bar:
            tally = fuzz(name, given.examples, seed=given.seed, progress=bar.advance)
        sys.stdout.write(", ".join(f"{key} {value}" for key, value in tally.row().items()) + "\n")
        for failure in tally.failures[:5]:
            sys.stdout.write(f"{failure}\n")
        sys.stdout.flush()
        failed = failed or bool(tally.failures)
        if given.record_results:
            ledger.append_row("fuzz", {**tally.row(), "seed": given.seed})
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
