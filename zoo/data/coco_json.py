"""COCO annotation files: read, and every entry checked, before anything is made of them.

Text and numbers are both good as ids, as they are for pycocotools, but not mixed in one file. Outlines are dropped while the
file is parsed: they make up most of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.faults import Report, counted
from zoo.data.image_files import shown
from zoo.data.truth import ImageId
from zoo.errors import DataError

LISTS = ("images", "annotations", "categories")


@dataclass(slots=True)
class CocoImage:
    """An entry of ``images`` with its annotations."""

    key: ImageId
    file_name: str
    size: tuple[int, int] | None
    where: str
    boxes: list[tuple[float, float, float, float]]
    labels: list[int]
    crowd: list[bool]
    areas: list[float]


@dataclass
class CocoFile:
    """A checked annotation file.

    Attributes:
        path: of the file.
        class_names, category_ids: in order of the ids.
        images: in order of their ids.
    """

    path: Path
    class_names: list[str]
    category_ids: list[ImageId]
    images: list[CocoImage]


def read_coco(path: Path, report: Report) -> CocoFile:
    """Read and check an annotation file; wrong entries go to the report.

    Raises:
        DataError: the file cannot be read, is no JSON, or lacks ``images``, ``annotations`` or ``categories``.
    """
    content = _parsed(path)
    checker = _Checker(path, report)
    categories = checker.categories(content["categories"], content["annotations"])
    images = checker.images(content["images"])
    checker.annotations(content["annotations"], images, {key: label for label, (key, _) in enumerate(categories)})
    ordered = sorted(images.values(), key=lambda image: image.key) if not report.faults.count else list(images.values())
    return CocoFile(path, [name for _, name in categories], [key for key, _ in categories], ordered)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes(), object_hook=_without_outline)
    except OSError as error:
        raise DataError(f"cannot read the annotation file {shown(path)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(path)} is not a COCO annotation file: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in LISTS):
        raise DataError(f"{shown(path)} is not a COCO annotation file: it lacks one of the lists {', '.join(LISTS)}")
    return content


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


class _Checker:
    """Goes through the lists of one file, entry by entry."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = shown(path)
        self.report = report

    def _fault(self, where: str, message: str) -> None:
        self.report.faults.add(f"{self.path}, {where}: {message}")

    def _objects(self, entries: list[Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for index, entry in enumerate(entries):
            where = f"{name}[{index}]"
            if isinstance(entry, dict):
                yield where, entry
            else:
                self._fault(where, f"expected an object with fields, found {_brief(entry)}")

    def _key(self, where: str, entry: dict[str, Any], field: str, kind: type | None) -> ImageId | None:
        """An id: a whole number or text, of the same kind as those before."""
        if field not in entry:
            self._fault(where, f"it has no {field}")
            return None
        value = entry[field]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            self._fault(where, f"{field} is {_brief(value)}, and must be a whole number or text")
            return None
        if kind is not None and not isinstance(value, kind):
            names = {int: "numbers", str: "text"}
            self._fault(where, f"{field} is {_brief(value)}, while other ids in this file are {names[kind]}")
            return None
        return value

    def categories(self, entries: list[Any], annotations: list[Any]) -> list[tuple[ImageId, str]]:
        """(id, name) of each class, in order of the ids, without the root that Roboflow adds."""
        found: dict[ImageId, str] = {}
        kind: type | None = None
        for where, entry in self._objects(entries, "categories"):
            key = self._key(where, entry, "id", kind)
            name = entry.get("name")
            if key is None:
                continue
            kind = type(key)
            if isinstance(name, bool) or not isinstance(name, str | int | float) or str(name) == "":
                self._fault(where, f"name is {_brief(name)}, and must be text")
            elif key in found:
                self._fault(where, f"the id {_brief(key)} is in use already")
            else:
                found[key] = str(name)
        for key in self._roots(entries, annotations):
            name = found.pop(key)
            self.report.notes.append(
                f"the category {name!r} is left out: it only groups the others, as in Roboflow's exports, and has no objects"
            )
        if not found and not self.report.faults.count:
            self._fault("categories", "the list is empty, so there are no classes")
        return [(key, found[key]) for key in sorted(found)]

    @staticmethod
    def _roots(entries: list[Any], annotations: list[Any]) -> list[ImageId]:
        """Ids of categories that only group others: named as their supercategory, of none itself, without objects."""
        valid = [entry for entry in entries if isinstance(entry, dict)]
        above = {entry.get("supercategory") for entry in valid if isinstance(entry.get("supercategory"), str)}
        candidates = [
            entry["id"]
            for entry in valid
            if entry.get("supercategory") == "none"
            and isinstance(entry.get("name"), str)
            and entry["name"] in above
            and isinstance(entry.get("id"), int | str)
        ]
        if not candidates or len(valid) == 1:
            return []
        used = {entry.get("category_id") for entry in annotations if isinstance(entry, dict) and _hashable(entry)}
        return [key for key in candidates if key not in used]

    def images(self, entries: list[Any]) -> dict[ImageId, CocoImage]:
        found: dict[ImageId, CocoImage] = {}
        kind: type | None = None
        for where, entry in self._objects(entries, "images"):
            key = self._key(where, entry, "id", kind)
            if key is None:
                continue
            kind = type(key)
            name = entry.get("file_name")
            if not isinstance(name, str) or not name or "\0" in name:
                self._fault(
                    f"{where} (id {_brief(key)})", f"file_name is {_brief(name)}, and must be the name of a file"
                )
            elif key in found:
                self._fault(where, f"the id {_brief(key)} is in use already, for {found[key].file_name}")
            else:
                size = self._size(f"{where} (id {_brief(key)})", entry)
                found[key] = CocoImage(key, name, size, f"{self.path}, {where}", [], [], [], [])
        if not entries:
            self._fault("images", "the list is empty")
        return found

    def _size(self, where: str, entry: dict[str, Any]) -> tuple[int, int] | None:
        sides = entry.get("height"), entry.get("width")
        if sides == (None, None):
            return None
        whole = [
            int(side)
            for side in sides
            if isinstance(side, int | float)
            and not isinstance(side, bool)
            and math.isfinite(side)
            and side == int(side)
        ]
        if len(whole) == 2 and min(whole) >= 1:
            return whole[0], whole[1]
        self._fault(
            where, f"height and width are {_brief(sides[0])} and {_brief(sides[1])}, and must be numbers of pixels"
        )
        return None

    def annotations(self, entries: list[Any], images: dict[ImageId, CocoImage], labels: dict[ImageId, int]) -> None:
        """Put every annotation to its image."""
        kind = type(next(iter(images))) if images else None
        seen: set[ImageId] = set()
        strangers: list[str] = []
        for where, entry in self._objects(entries, "annotations"):
            if "id" in entry:
                number = self._key(where, entry, "id", None)
                where = f"{where} (id {_brief(number)})"  # noqa: PLW2901 - the id is what people look for
                if number is None:
                    continue
                if number in seen:
                    self._fault(where, "its id is in use already")
                    continue
                seen.add(number)
            key = self._key(where, entry, "image_id", kind)
            if key is None:
                continue
            if key not in images:
                strangers.append(f"{where} is for image {_brief(key)}")
                continue
            self._annotation(where, entry, images[key], labels)
        if strangers:
            self._unknown_images(strangers, len(entries))

    def _annotation(self, where: str, entry: dict[str, Any], image: CocoImage, labels: dict[ImageId, int]) -> None:
        category = entry.get("category_id")
        if isinstance(category, float) and category.is_integer():
            category = int(category)
        if isinstance(category, bool) or not isinstance(category, int | str) or category not in labels:
            self._fault(where, f"category_id is {_brief(category)}, which is not among the categories")
            return
        box = _numbers(entry.get("bbox"), 4)
        if box is None or box[2] < 0 or box[3] < 0:
            self._fault(where, f"bbox is {_brief(entry.get('bbox'))}, and must be [left, top, width, height] in pixels")
            return
        area = entry.get("area")
        numbers = [box[2] * box[3]] if area is None else _numbers([area], 1)
        if numbers is None or numbers[0] < 0:
            self._fault(where, f"area is {_brief(area)}, and must be a number of square pixels")
            return
        if entry.get("iscrowd", 0) not in (0, 1, None):
            self._fault(where, f"iscrowd is {_brief(entry['iscrowd'])}, and must be 0 or 1")
            return
        image.boxes.append((box[0], box[1], box[2], box[3]))
        image.labels.append(labels[category])
        image.areas.append(numbers[0])
        image.crowd.append(bool(entry.get("iscrowd", 0)))

    def _unknown_images(self, strangers: list[str], total: int) -> None:
        if len(strangers) == total:
            self._fault("annotations", f"none is for an image of this file; the first, {strangers[0]}")
            return
        self.report.skip(
            self.path,
            f"{counted(len(strangers), 'annotation')} of {total:,} for images that are not in this file; the first, "
            f"{strangers[0]}",
        )


def _hashable(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("category_id"), int | str | float)


def _numbers(values: Any, count: int) -> list[float] | None:
    """Finite numbers, or None."""
    if not isinstance(values, list) or len(values) != count:
        return None
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return None
    try:
        numbers = [float(value) for value in values]
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _brief(value: Any) -> str:
    """A value as JSON has it, cut to what fits a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
