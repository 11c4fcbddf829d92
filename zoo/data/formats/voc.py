"""Pascal VOC: an XML file of boxes for each image, as the challenge laid it out and as labelling tools export it.

Layout and the meaning of ``difficult``: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. The
challenge's own corners are pixel numbers that count from 1 and belong to the box; those of other tools are coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from zoo.data.faults import Report, counted
from zoo.data.folders import list_images
from zoo.data.image_files import shown
from zoo.data.imageset import Contents, ImageEntry
from zoo.data.registry import UNSPLIT, ImageFormat, register
from zoo.errors import DataError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
NAME_FILES = ("classes.txt", "labels.txt", "labelmap.txt")


@register
class Voc(ImageFormat):
    """Pascal VOC XML."""

    name = "voc"
    title = "Pascal VOC"
    layout = (
        "Annotations/*.xml with JPEGImages/, and ImageSets/Main/SPLIT.txt; or an .xml file beside each image, in SPLIT/ or in "
        "one folder"
    )
    priority = 30

    def splits(self, root: Path) -> Sequence[str]:
        """See :meth:`zoo.data.registry.DataFormat.splits`."""
        return list(_layout(root))

    def read(self, root: Path, split: str, report: Report) -> Contents:
        """See :meth:`zoo.data.registry.ImageFormat.read`."""
        layout = _layout(root)
        pairs = list(layout[split].pairs(report))
        reader = _Reader(report)
        names = _names(root, layout, reader)
        labels = {name: label for label, name in enumerate(names)}
        return Contents(names, reader.entries(pairs, labels), len(pairs))


@dataclass(frozen=True)
class _Split:
    """Where the images and the annotations of a split are; ``listing`` names them, otherwise all are meant."""

    images: Path
    annotations: Path
    listing: Path | None = None

    def pairs(self, report: Report) -> Iterator[tuple[Path | None, Path]]:
        """(image, annotations) of each image; the image is None where the annotations have to name it."""
        images = {path.stem: path for path in list_images(self.images, report, recursive=False)}
        if self.listing is None:
            for path in sorted(self.annotations.glob("*.xml")):
                yield images.get(path.stem), path
            return
        for line in self.listing.read_text(encoding="utf-8-sig").splitlines():
            if name := line.strip():
                yield images.get(name), self.annotations / f"{name}.xml"


def _layout(root: Path) -> dict[str, _Split]:
    if not root.is_dir():
        return {}
    for folder in [root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))]:
        annotations, images = folder / "Annotations", folder / "JPEGImages"
        if annotations.is_dir() and next(annotations.glob("*.xml"), None) is not None:
            lists = {
                path.stem: path for path in sorted((folder / "ImageSets" / "Main").glob("*.txt")) if _is_split(path)
            }
            images = images if images.is_dir() else folder
            return {name: _Split(images, annotations, path) for name, path in lists.items()} or {
                UNSPLIT: _Split(images, annotations)
            }
    inner = {path.parent.name: path.parent for path in sorted(root.glob("*/*.xml")) if _is_annotation(path)}
    if inner:
        return {name: _Split(folder, folder) for name, folder in inner.items()}
    beside = next((path for path in sorted(root.glob("*.xml")) if _is_annotation(path)), None)
    return {} if beside is None else {UNSPLIT: _Split(root, root)}


def _is_split(path: Path) -> bool:
    """Lists of a split have one name a line; those of one class also say 1, 0 or -1."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return len(file.readline(4096).split()) == 1


def _is_annotation(path: Path) -> bool:
    with path.open("rb") as file:
        return b"<annotation" in file.read(4096)


def _names(root: Path, layout: dict[str, _Split], reader: _Reader) -> list[str]:
    """Class names from a file of names; otherwise those of all splits: in the challenge's order, or in that of the alphabet."""
    for split in layout.values():
        for folder in (root, split.annotations, split.annotations.parent):
            for name in NAME_FILES:
                if (folder / name).is_file():
                    lines = (folder / name).read_text(encoding="utf-8-sig").splitlines()
                    return [line.split(":")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    used: set[str] = set()
    for folder in {split.annotations for split in layout.values()}:
        for path in sorted(folder.glob("*.xml")):
            used |= set(reader.read(path).names)
    if used and used <= set(VOC_CLASSES):
        return list(VOC_CLASSES)
    return sorted(used)


@dataclass
class _Annotation:
    """What one XML file says; ``wrong`` where it cannot be read."""

    file_name: str = ""
    size: tuple[int, int] | None = None
    names: list[str] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class _Reader:
    """Reads XML files, each once."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._known: dict[Path, _Annotation] = {}

    def read(self, path: Path) -> _Annotation:
        found = self._known.get(path)
        if found is None:
            found = self._known[path] = _annotation(path)
        return found

    def entries(self, pairs: list[tuple[Path | None, Path]], labels: dict[str, int]) -> Iterator[ImageEntry]:
        """One for each image, with its boxes. Difficult objects are not counted, as in the challenge."""
        difficult = 0
        for image, path in pairs:
            annotation = self.read(path)
            for message in annotation.wrong:
                self.report.faults.add(f"{shown(path)}{message}")
            if annotation.wrong:
                continue
            unknown = [name for name in annotation.names if name not in labels]
            if unknown:
                self.report.faults.add(f"{shown(path)}: the class {unknown[0]!r} is not among {', '.join(labels)}")
                continue
            difficult += sum(annotation.difficult)
            yield ImageEntry(
                path.stem,
                image or _named_image(path, annotation.file_name),
                annotation.boxes,
                [labels[name] for name in annotation.names],
                size=annotation.size,
                crowd=annotation.difficult,
                where=shown(path),
            )
        if difficult:
            self.report.notes.append(f"{counted(difficult, 'object')} marked as difficult: neither learned nor counted")


def _named_image(path: Path, name: str) -> Path:
    """The image that an XML file names: beside it, or in the folder of images."""
    inner = Path(name.replace("\\", "/")).name or f"{path.stem}.jpg"
    places = [path.parent / inner, path.parent.parent / "JPEGImages" / inner]
    return next(
        (place for place in places if place.is_file()), places[-1] if path.parent.name == "Annotations" else places[0]
    )


def _annotation(path: Path) -> _Annotation:
    found = _Annotation()
    try:
        top = parse(path).getroot()
    except FileNotFoundError:
        found.wrong.append(": there is no such file of annotations")
        return found
    except (ParseError, DefusedXmlException, OSError, ValueError) as error:
        found.wrong.append(f" is not an XML file of annotations: {error}")
        return found
    found.file_name = _text(top, "filename")
    try:
        if top.find("size") is not None and _text(top, "size/width") not in {"", "0"}:
            found.size = _whole(top, "size/height"), _whole(top, "size/width")
    except DataError as error:
        found.wrong.append(f": {error}")
    own = _text(top, "source/database").startswith("The VOC")
    for number, item in enumerate(top.iter("object"), 1):
        try:
            found.boxes.append(_box(item, own))
        except DataError as error:
            found.wrong.append(f", object {number}: {error}")
            continue
        found.names.append(_text(item, "name"))
        found.difficult.append(_text(item, "difficult") == "1")
        if not found.names[-1]:
            found.wrong.append(f", object {number}: it has no name")
    return found


def _box(item: Element, own: bool) -> tuple[float, float, float, float]:
    left, top, right, bottom = (_number(item, f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax"))
    if own:
        left, top = left - 1, top - 1
    if right < left or bottom < top:
        raise DataError(f"the box {left:g}, {top:g}, {right:g}, {bottom:g} has its corners the wrong way round")
    return left, top, right - left, bottom - top


def _text(item: Element, path: str) -> str:
    return (item.findtext(path) or "").strip()


def _number(item: Element, path: str) -> float:
    try:
        number = float(_text(item, path))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{path} is {_text(item, path)!r}, and must be a number of pixels")
    return number


def _whole(item: Element, path: str) -> int:
    number = _number(item, path)
    if number != int(number) or number < 1:
        raise DataError(f"{path} is {_text(item, path)!r}, and must be a whole number of pixels")
    return int(number)
