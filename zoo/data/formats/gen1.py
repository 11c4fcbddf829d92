"""Recordings of event cameras with boxes in the layout of GEN1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.config import EventSpec
from zoo.data.faults import Report
from zoo.data.gen1 import Gen1Detection
from zoo.data.registry import UNSPLIT, DataFormat, register
from zoo.errors import DataError


@register
class Gen1(DataFormat):
    """GEN1 and what is laid out like it."""

    name = "gen1"
    title = "Event recordings with boxes"
    layout = "NAME_td.dat with NAME_bbox.npy, in SPLIT/ or in one folder"
    kind = "events"
    priority = 5

    def splits(self, root: Path) -> Sequence[str]:
        """See :meth:`zoo.data.registry.DataFormat.splits`."""
        if not root.is_dir():
            return []
        inner = sorted({path.parent.name for path in root.glob("*/*_td.dat")})
        return inner or ([UNSPLIT] if next(root.glob("*_td.dat"), None) is not None else [])

    def open(
        self, root: Path, split: str, report: Report, *, limit: int | None, events: EventSpec | None
    ) -> Gen1Detection:
        """See :meth:`zoo.data.registry.DataFormat.open`."""
        del report
        if events is None:
            raise DataError("recordings of events need a detector that takes events")
        return Gen1Detection(root if split == UNSPLIT else root / split, events, limit=limit)
