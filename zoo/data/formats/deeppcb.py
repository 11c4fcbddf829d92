"""DeepPCB: images of circuit boards with six kinds of defects.

Source: Tang et al., "Online PCB defect detector on a new PCB defect dataset", arXiv 1902.06197, and its repository.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.data.faults import Report
from zoo.data.image_files import shown
from zoo.data.imageset import Contents, ImageEntry
from zoo.data.registry import ImageFormat, register

CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
"""Types 1 to 6."""


@register
class DeepPcb(ImageFormat):
    """Lists of pairs: an image, of which ``NAME_test.jpg`` is the tested board, and a file of boxes."""

    name = "deeppcb"
    title = "DeepPCB"
    layout = "trainval.txt and test.txt with lines IMAGE.jpg BOXES.txt, and lines x1 y1 x2 y2 TYPE in those"
    priority = 40

    def splits(self, root: Path) -> Sequence[str]:
        """See :meth:`zoo.data.registry.DataFormat.splits`."""
        root = _top(root)
        return [name for name in ("trainval", "test") if _is_list(root / f"{name}.txt")]

    def read(self, root: Path, split: str, report: Report) -> Contents:
        """See :meth:`zoo.data.registry.ImageFormat.read`."""
        root = _top(root)
        lines = (root / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        pairs = [line.split() for line in lines if line.strip()]
        return Contents(CLASSES, _entries(root, root / f"{split}.txt", pairs, report), len(pairs))


def _top(root: Path) -> Path:
    return root / "PCBData" if (root / "PCBData").is_dir() else root


def _is_list(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        words = file.readline(4096).split()
    return len(words) == 2 and words[0].endswith(".jpg") and words[1].endswith(".txt")


def _entries(root: Path, listing: Path, pairs: list[list[str]], report: Report) -> Iterator[ImageEntry]:
    for number, pair in enumerate(pairs, 1):
        where = f"{shown(listing)}, line {number}"
        if len(pair) != 2 or not (root / pair[1]).is_file():
            report.faults.add(
                f"{where}: expected IMAGE.jpg and an existing file of boxes, found {' '.join(pair)[:80]!r}"
            )
            continue
        image = root / pair[0]
        entry = ImageEntry(pair[0].removesuffix(".jpg"), image.with_name(f"{image.stem}_test.jpg"), where=where)
        for place, line in enumerate((root / pair[1]).read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                _add(entry, line, f"{shown(root / pair[1])}, line {place}", report)
        yield entry


def _add(entry: ImageEntry, line: str, where: str, report: Report) -> None:
    try:
        x1, y1, x2, y2, kind = (int(word) for word in line.replace(",", " ").split())
    except ValueError:
        x1 = y1 = x2 = y2 = kind = 0
    if not (0 <= x1 <= x2 and 0 <= y1 <= y2 and 1 <= kind <= len(CLASSES)):
        report.faults.add(f"{where}: expected x1 y1 x2 y2 and a type of 1 to {len(CLASSES)}, found {line[:80]!r}")
        return
    entry.xywh.append((x1, y1, x2 - x1, y2 - y1))
    entry.labels.append(kind - 1)
