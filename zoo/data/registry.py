"""Formats of data sets: which there are, which one a folder has, and opening it. A new format is one file in ``formats/``."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from zoo.config import EventSpec
from zoo.data.faults import Report, counted
from zoo.data.image_files import shown
from zoo.data.imageset import Contents, ImageSet
from zoo.data.sample import DetectionDataset
from zoo.errors import DataError

UNSPLIT = "all"
"""Name of the only split of a set that has none."""


class DataFormat(ABC):
    """How one kind of data set lies in a folder.

    Attributes:
        name: short name, for ``format=``.
        title: what people call it.
        layout: what the folder holds, one line.
        kind: whether the set holds images or event recordings.
        priority: formats with a lower number are tried first.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    layout: ClassVar[str]
    kind: ClassVar[Literal["images", "events"]] = "images"
    priority: ClassVar[int] = 50

    @abstractmethod
    def splits(self, root: Path) -> Sequence[str]:
        """Names of the splits that ``root`` holds in this format; none where it is of another format.

        Must be quick: file names and first lines, not whole files. ``root`` is a folder, or a file that describes a set.
        """

    @abstractmethod
    def open(
        self, root: Path, split: str, report: Report, *, limit: int | None, events: EventSpec | None
    ) -> DetectionDataset:
        """Open a split that :meth:`splits` names. Wrong entries and what is left out go to the report.

        Args:
            root: as for :meth:`splits`.
            split: its name.
            report: receives wrong entries, what is left out, and notes.
            limit: use the first so many images or moments.
            events: how a detector takes events; for formats of event recordings.
        """


class ImageFormat(DataFormat):
    """A format of sets of images: says what its annotations say, and the rest is shared."""

    @abstractmethod
    def read(self, root: Path, split: str, report: Report) -> Contents:
        """Classes, and an entry for each image of a split."""

    def open(self, root: Path, split: str, report: Report, *, limit: int | None, events: EventSpec | None) -> ImageSet:
        """See :meth:`DataFormat.open`."""
        del events
        folder = root if root.is_dir() else root.parent
        return ImageSet(self.read(root, split, report), root=folder, report=report, split=split, limit=limit)


FormatClass = TypeVar("FormatClass", bound=type[DataFormat])
_FORMATS: dict[str, DataFormat] = {}


def register(cls: FormatClass) -> FormatClass:
    """Class decorator: add a format."""
    _FORMATS[cls.name] = cls()
    return cls


def unregister(name: str) -> None:
    """Take a format away again, for tests."""
    del _FORMATS[name]


def formats() -> list[DataFormat]:
    """All formats, in the order in which they are tried."""
    from zoo.data import formats as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return sorted(_FORMATS.values(), key=lambda one: (one.priority, one.name))


@dataclass
class Found:
    """A data set whose format is known.

    Attributes:
        root: its folder, or the file that describes it.
        format: what it is.
        splits: names of its splits.
        others: names of other formats that the folder has, too.
    """

    root: Path
    format: DataFormat
    splits: tuple[str, ...]
    others: tuple[str, ...] = field(default=())

    def split(self, wanted: str | None, *, prefer: Sequence[str] = ("test", "val")) -> str:
        """The split that a name stands for: the name itself, with a year behind it, or a synonym (``val``, ``valid``).

        Args:
            wanted: a name; None for the first of ``prefer`` that there is, or the only split.
            prefer: names in order.

        Raises:
            DataError: there is no such split, or several.
        """
        if wanted is not None:
            return self._named(wanted)
        for name in prefer:
            if matching := self._matching(name):
                return self._only(name, matching)
        if len(self.splits) == 1:
            return self.splits[0]
        raise DataError(f"{shown(self.root)} has the splits {', '.join(self.splits)}: name one of them")

    def _named(self, wanted: str) -> str:
        if wanted in self.splits:
            return wanted
        if matching := self._matching(wanted):
            return self._only(wanted, matching)
        there = f"there is {self.splits[0]}" if len(self.splits) == 1 else f"there are {', '.join(self.splits)}"
        if self.splits == (UNSPLIT,):
            there = f"the set is not split; ask for {UNSPLIT!r}"
        raise DataError(f"there is no split {wanted!r} in {shown(self.root)} ({self.format.title}): {there}")

    def _matching(self, wanted: str) -> list[str]:
        return [name for name in self.splits if name == wanted] or [
            name for name in self.splits if _plain(name) == _plain(wanted)
        ]

    def _only(self, wanted: str, matching: list[str]) -> str:
        if len(matching) > 1:
            raise DataError(
                f"the split {wanted!r} of {shown(self.root)} may be {' or '.join(matching)}: name one of them"
            )
        return matching[0]


def _plain(split: str) -> str:
    """``val2017`` and ``valid`` are ``val``."""
    name = split.lower().rstrip("0123456789")
    return {"valid": "val", "validation": "val", "training": "train", "testing": "test"}.get(name, name)


def find_format(root: str | Path, name: str | None = None) -> Found:
    """Tell the format of a data set from what its folder holds.

    Args:
        root: a folder, or a file that describes a set (``data.yaml``, a COCO annotation file).
        name: of the format, where a folder has several.

    Raises:
        DataError: there is no such folder or file, or the layout is not known; the message says what was found and what is
            expected.
    """
    path = Path(root)
    if not path.exists():
        raise DataError(
            f"there is no data set {shown(root)!r}: give 'digits', 'digits-events', or the path of a folder, a data.yaml or a "
            "COCO annotation file"
        )
    known = formats()
    if name is not None:
        known = [one for one in known if one.name == name]
        if not known:
            raise DataError(f"there is no data format {name!r}; there are {', '.join(one.name for one in formats())}")
    matching = [(one, tuple(splits)) for one in known if (splits := one.splits(path))]
    if not matching:
        raise DataError(_unknown(path, known))
    first, splits = matching[0]
    return Found(
        path,
        first,
        splits,
        tuple(one.name for one, _ in matching[1:] if one.kind == first.kind and one.name != "images"),
    )


def _unknown(path: Path, known: Sequence[DataFormat]) -> str:
    return (
        f"the layout of the data set {shown(path)} is not known.\nFound: {found_in(path)}.\n{expected_layouts(known)}"
    )


def expected_layouts(known: Sequence[DataFormat] | None = None) -> str:
    """One line for each format."""
    lines = [f"  {one.title}: {one.layout}" for one in known or formats()]
    return "\n".join(["Expected one of:", *lines])


def found_in(path: Path) -> str:
    """What a folder holds, in a few words."""
    if path.is_file():
        return f"a file ending in {path.suffix or 'nothing'}, {path.stat().st_size:,} bytes"
    inside = sorted(path.iterdir())
    folders = [entry.name for entry in inside if entry.is_dir()]
    endings = Counter(entry.suffix.lower() or entry.name for entry in inside if entry.is_file())
    parts = []
    if folders:
        more = ", ..." if len(folders) > 6 else ""
        parts.append(f"{counted(len(folders), 'folder')} ({', '.join(map(shown, folders[:6]))}{more})")
    parts += [f"{count:,} {shown(ending)}" for ending, count in endings.most_common(6)]
    return ", ".join(parts) or "nothing"
