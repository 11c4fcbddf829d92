"""A run does not continue on other data, and says what changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from zoo.errors import TrainingError
from zoo.training.digest import digest, require_same


class Listed:
    """A data set that lists its entries and holds nothing else."""

    def __init__(self, entries: list[tuple[str, int, Any, Any]], class_names: tuple[str, ...] = ("a", "b")) -> None:
        self._entries = entries
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("a digest reads no pixels")

    def entries(self) -> Iterator[tuple[str, int, Any, Any]]:
        yield from self._entries


def listed(**changes: Any) -> Listed:
    boxes, labels = np.array([[1, 2, 3, 4]], np.float32), np.array([0])
    entries: list[tuple[str, int, Any, Any]] = [
        (f"{i}.png", 100 + i, boxes + np.float32(i), labels + i % 2) for i in range(4)
    ]
    for index, change in changes.pop("entries", {}).items():
        entries[index] = change(*entries[index])
    return Listed(entries[: changes.pop("length", 4)], **changes)


def refused(there: Listed, here: Listed) -> str:
    with pytest.raises(TrainingError) as caught:
        require_same(digest(there), digest(here), here)
    return str(caught.value)


def test_the_same_data_pass() -> None:
    require_same(digest(listed()), digest(listed()), listed())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("b", "a")}, "another order, first class 0: it was 'a' and is 'b'"),
        ({"class_names": ("a", "b", "c")}, r"2 before, 3 now; new: 'c'"),
        ({"class_names": ("a",)}, r"2 before, 1 now; missing: 'b'"),
        ({"class_names": ("a", "x")}, r"new: 'x'; missing: 'b'"),
        ({"length": 3}, "had 4 images and has 3"),
        ({"entries": {2: lambda _, s, b, l: ("9.png", s, b, l)}}, r"1 of its 4 images differ, first '9.png' .* in its name"),
        ({"entries": {1: lambda n, s, b, l: (n, s + 1, b, l)}}, r"first '1.png' \(image 1\) in its size in bytes"),
        ({"entries": {3: lambda n, s, b, l: (n, s, b + np.float32(1e-5), l)}}, r"first '3.png' .* in its boxes or labels"),
        ({"entries": {0: lambda n, s, b, l: (n, s, b, 1 - l)}}, r"first '0.png' .* in its boxes or labels"),
        ({"entries": {0: lambda n, s, b, l: (n, s, b[:0], l[:0])}}, r"first '0.png' .* in its boxes or labels"),
        ({"entries": {0: lambda _, s, b, l: ("\udcff", s, b, l)}}, r"first .* in its name"),
    ],
)  # fmt: skip
def test_what_changed_is_named(changes: dict[str, Any], message: str) -> None:
    import re

    assert re.search(message, refused(listed(), listed(**changes)))
