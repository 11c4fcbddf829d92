"""Where numbers and weights come from: the command, commit, machine and date that made them."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path


def checkout() -> Path:
    """The folder that holds this package: of a checkout, its root."""
    return Path(__file__).resolve().parents[2]


def command_line() -> str:
    """The command that runs now, as it can be typed again."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def commit() -> str:
    """The commit of the checkout, with ``-dirty`` where files differ from it; empty without git."""
    root = checkout()
    try:
        head = _git(root, "rev-parse", "HEAD")
        return f"{head}-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no", "zoo") else head
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)  # noqa: S603, S607
    return done.stdout.strip()


def machine() -> str:
    """Processor, cores and torch version."""
    from importlib.metadata import version

    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    return f"{name}, {os.cpu_count()} cores, torch {version('torch')}"


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def origin() -> dict[str, str]:
    """Command, commit, machine and date of what runs now."""
    return {"command": command_line(), "commit": commit(), "machine": machine(), "date": now()}
