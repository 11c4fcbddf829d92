"""What a run was trained on, in a few numbers per image, so that it does not continue on other data.

Neither pixels nor events are read: names, sizes in bytes, boxes and labels are compared, and the names of the classes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo.data.sample import DetectionDataset
from zoo.errors import DataError, TrainingError


class Entry(NamedTuple):
    """One image, or one moment of a recording, as it is on the disk.

    Attributes:
        name: of its file, relative to the data set's folder.
        size: of the file in bytes; -1 where there is no such file.
        boxes: (N, 4) as x1, y1, x2, y2.
        labels: (N,) index into the class names.
    """

    name: str
    size: int
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@runtime_checkable
class Listed(Protocol):
    """A data set that can list its entries without reading pixels or events, in the order of its indices."""

    def entries(self) -> Iterator[tuple[str, int, npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """For each index: see :class:`Entry`."""
        ...


_PARTS = ("name", "size in bytes", "boxes or labels")


def digest(dataset: DetectionDataset) -> dict[str, Any]:
    """Class names, kind, length, and (length, 3) hashes of name, size and annotations.

    A generated set has no entries: its seed and its length are settings of the run.

    Raises:
        DataError: no image has an object.
    """
    rows, objects = [], 0
    for entry in map(Entry._make, dataset.entries() if isinstance(dataset, Listed) else ()):
        rows.append(_hashes(entry))
        objects += len(entry.labels)
    if rows and not objects:
        raise DataError(f"there is nothing to learn: none of the {len(rows)} images has an object")
    return {
        "classes": list(dataset.class_names),
        "kind": type(dataset).__name__,
        "images": len(dataset),
        "entries": torch.tensor(rows, dtype=torch.int64).reshape(-1, len(_PARTS)),
    }


def require_same(there: dict[str, Any], here: dict[str, Any], dataset: DetectionDataset) -> None:
    """Refuse to continue a run on other data.

    Args:
        there: digest in the run's checkpoint.
        here: digest of the data set as it is now.
        dataset: to name the first entry that differs.

    Raises:
        TrainingError: the message says what changed.
    """
    changed = _changed_classes(there["classes"], here["classes"]) or _changed_kind(there, here)
    changed = changed or _changed_entries(there["entries"], here["entries"], dataset)
    if changed:
        raise TrainingError(
            f"the data of this run changed: {changed}. Bring back the data that it was started with, or start a new run in "
            "another folder (--from takes over its weights)"
        )


def _changed_classes(there: Sequence[str], here: Sequence[str]) -> str:
    if list(there) == list(here):
        return ""
    if sorted(there) == sorted(here):
        first = next(i for i, pair in enumerate(zip(there, here, strict=True)) if pair[0] != pair[1])
        return f"its classes are in another order, first class {first}: it was {there[first]!r} and is {here[first]!r}"
    parts = []
    for what, names in (("new", [n for n in here if n not in there]), ("missing", [n for n in there if n not in here])):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{what}: {', '.join(map(repr, names[:3]))}{more}")
    return f"its classes are others ({len(there)} before, {len(here)} now; {'; '.join(parts)})"


def _changed_kind(there: dict[str, Any], here: dict[str, Any]) -> str:
    if there["images"] != here["images"]:
        return f"it had {there['images']} images and has {here['images']}"
    if there["kind"] != here["kind"] or there["entries"].shape != here["entries"].shape:
        return f"it was read as {there['kind']} and is read as {here['kind']}"
    return ""


def _changed_entries(there: Tensor, here: Tensor, dataset: DetectionDataset) -> str:
    differs = there != here
    rows = differs.any(1).nonzero().flatten().tolist()
    if not rows:
        return ""
    parts = [part for part, other in zip(_PARTS, differs[rows[0]].tolist(), strict=True) if other]
    assert isinstance(dataset, Listed)  # noqa: S101 - it has entries
    name = next(entry[0] for index, entry in enumerate(dataset.entries()) if index == rows[0])
    return (
        f"{len(rows)} of its {len(here)} images differ, first {name!r} (image {rows[0]}) in its {' and '.join(parts)}"
    )


def _hashes(entry: Entry) -> list[int]:
    annotations = (
        np.ascontiguousarray(entry.boxes, "<f4").tobytes() + np.ascontiguousarray(entry.labels, "<i8").tobytes()
    )
    return [_hash(os.fsencode(entry.name)), entry.size, _hash(annotations)]


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)
