"""Runs the scripts of docs/upstream and writes docs/upstream.md from what they print.

python -m tests.upstream
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs" / "upstream"
PAGE = FOLDER.parent / "upstream.md"
PROJECTS = {
    "nir": "nir",
    "nirtorch": "nirtorch",
    "snntorch": "snntorch",
    "norse": "norse",
    "spikingjelly": "spikingjelly",
    "sinabs": "sinabs",
    "spyx": "spyx",
}
"""Distribution by the first word of a script's name."""
HEAD = """# Defects found in other projects

Each section is one defect, with a script that shows it and needs nothing of this package. The scripts are in
`docs/upstream/`. This page is written by `python -m tests.upstream` from what they print, and a test runs them again, so that
a defect that was fixed is noticed.

These importers and formats do more than this page shows; [Conformance](conformance.md) compares them case by case. The
defect in `nir_follows_links` lets a downloaded file read other files: report it to the maintainers in private.
"""


@dataclass(frozen=True)
class Finding:
    """What a script printed.

    Attributes:
        expected, got: the two lines.
    """

    expected: str
    got: str


def scripts() -> list[Path]:
    """All scripts, by name."""
    return sorted(FOLDER.glob("*.py"))


def run(script: Path) -> Finding:
    """Run a script in a process of its own.

    Raises:
        AssertionError: it does not print what was expected and what came.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=1200, check=False
    )
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines() if line.startswith(("expected: ", "got: ")))
    assert set(lines) == {"expected", "got"}, f"{script.name} printed {done.stdout!r} and {done.stderr[-2000:]!r}"
    return Finding(lines["expected"], lines["got"])


def section(script: Path, found: Finding) -> str:
    """The part of the page about one defect."""
    text = script.read_text(encoding="utf-8")
    what = ast.get_docstring(ast.parse(text)) or ""
    title, _, more = what.partition("\n\n")
    body = text.split('"""', 2)[2].strip()
    title = " ".join(title.split())
    note = f"\n\n{more.strip()}" if more else ""
    return (
        f"### `{script.stem}`\n\n{title}{note}\n\n```python\n{body}\n```\n\n"
        f"```text\nexpected: {found.expected}\ngot: {found.got}\n```\n"
    )


def page(findings: dict[Path, Finding]) -> str:
    """The whole page."""
    parts = [HEAD]
    for project, package in PROJECTS.items():
        mine = {script: found for script, found in findings.items() if script.stem.split("_")[0] == project}
        if mine:
            parts.append(f"## {package} {metadata.version(package)}\n")
            parts += [section(script, found) for script, found in mine.items()]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page({script: run(script) for script in scripts()}), encoding="utf-8")
