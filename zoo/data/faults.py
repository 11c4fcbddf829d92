"""What is wrong with a data set: entries that stop it from being used, and files that are left out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from zoo.data.image_files import shown
from zoo.errors import DataError, DataWarning

FIRST = 5
"""How many wrong entries are named."""


@dataclass
class Faults:
    """Wrong entries: the first few in words, the rest counted.

    Attributes:
        first: what is wrong with the first entries.
        count: wrong entries in all.
    """

    first: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, message: str) -> None:
        """Note a wrong entry."""
        self.count += 1
        if len(self.first) < FIRST:
            self.first.append(message)

    def require_none(self) -> None:
        """Do nothing where nothing is wrong.

        Raises:
            DataError: names the first wrong entries.
        """
        if not self.count:
            return
        if self.count == 1:
            raise DataError(self.first[0])
        more = [] if self.count == len(self.first) else [f"and {self.count - len(self.first)} more"]
        raise DataError(f"{self.count} wrong entries:\n" + "\n".join(f"  - {line}" for line in [*self.first, *more]))


@dataclass(frozen=True)
class Skipped:
    """A file or entry that is left out, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Report:
    """What was noticed while a data set was opened.

    Attributes:
        faults: entries that stop the set from being used.
        skipped: files that are left out, with a warning.
        notes: how the set was understood, for ``zoo data check``.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.skipped: list[Skipped] = []
        self.notes: list[str] = []

    def skip(self, path: Path | str, reason: object) -> None:
        """Leave a file or entry out."""
        name = shown(path)
        self.skipped.append(Skipped(name, str(reason).removeprefix(f"{name}: ").removeprefix(f"{name} ")))

    def warning(self) -> str:
        """One sentence about what is left out; empty where nothing is."""
        if not self.skipped:
            return ""
        more = "" if len(self.skipped) <= 3 else f"; and {len(self.skipped) - 3:,} more"
        return "left out: " + "; ".join(str(entry) for entry in self.skipped[:3]) + more

    def settle(self, root: Path) -> None:
        """Finish opening: nothing may be wrong; a warning says what is left out.

        Raises:
            DataError: names the first wrong entries.

        Warns:
            DataWarning: files or entries were left out.
        """
        self.faults.require_none()
        if warning := self.warning():
            warnings.warn(f"{shown(root)}: {warning}", DataWarning, stacklevel=3)


def counted(count: int, what: str) -> str:
    """``1 image``, ``1,234 images``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
