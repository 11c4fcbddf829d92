"""What a data set holds, as it is understood here: for ``zoo data check``. Every image is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.faults import Faults, Report, Skipped
from zoo.data.imageset import ImageSet
from zoo.data.registry import Found, find_format
from zoo.data.sample import DetectionDataset
from zoo.errors import ZooError
from zoo.support.progress import progress_bar

SMALL, LARGE = 32**2, 96**2
"""Areas in square pixels between which an object is of medium size, as for COCO."""


@dataclass(frozen=True)
class SplitContents:
    """What a split holds.

    Attributes:
        name: of the split.
        images: that can be used.
        empty: images without objects.
        objects: of each class, in the order of the class names; without crowds.
        crowds: boxes that are not counted.
        sizes: (small, medium, large) objects.
        smallest, median, largest: (height, width) of images, by area.
        faults: wrong entries.
        skipped: files and entries that are left out.
        notes: how the set was understood.
    """

    name: str
    images: int = 0
    empty: int = 0
    objects: tuple[int, ...] = ()
    crowds: int = 0
    sizes: tuple[int, int, int] = (0, 0, 0)
    smallest: tuple[int, int] = (0, 0)
    median: tuple[int, int] = (0, 0)
    largest: tuple[int, int] = (0, 0)
    faults: Faults = field(default_factory=Faults)
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong and nothing is left out."""
        return not self.faults.count and not self.skipped

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "name": self.name,
            "images": self.images,
            "images_without_objects": self.empty,
            "objects": sum(self.objects),
            "crowds": self.crowds,
            "objects_by_size": dict(zip(("small", "medium", "large"), self.sizes, strict=True)),
            "image_sizes": {"smallest": self.smallest, "median": self.median, "largest": self.largest},
            "wrong_entries": {"count": self.faults.count, "first": list(self.faults.first)},
            "left_out": [str(one) for one in self.skipped],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class SetContents:
    """What a data set holds.

    Attributes:
        found: its folder, format and splits.
        class_names: in the order of the labels.
        splits: those that were checked.
        datasets: opened, where a split can be used.
    """

    found: Found
    class_names: tuple[str, ...]
    splits: tuple[SplitContents, ...]
    datasets: tuple[DetectionDataset, ...] = field(repr=False, default=())

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong and nothing is left out."""
        return all(split.fine for split in self.splits)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "path": str(self.found.root),
            "format": self.found.format.name,
            "other_formats": list(self.found.others),
            "fine": self.fine,
            "classes": [
                {"name": name, **{split.name: split.objects[index] for split in self.splits if split.objects}}
                for index, name in enumerate(self.class_names)
            ],
            "splits": [split.to_dict() for split in self.splits],
        }


def check_dataset(
    path: str | Path,
    split: str | None = None,
    *,
    format: str | None = None,  # noqa: A002 - the word that people look for
    decode: bool = True,
) -> SetContents:
    """Look at everything that a data set holds.

    Args:
        path: its folder, or the file that describes it.
        split: only this one; by default all.
        format: of a folder that has several.
        decode: read every image or recording; otherwise only headers and annotations.

    Raises:
        DataError: there is no such data set or split, or its layout is not known.
    """
    found = find_format(path, format)
    names = [found.split(split)] if split is not None else list(found.splits)
    opened = [_split(found, name, decode) for name in names]
    datasets = tuple(dataset for _, dataset in opened if dataset is not None)
    classes = max((tuple(dataset.class_names) for dataset in datasets), key=len, default=())
    contents = [_same_classes(one, dataset, classes) for one, dataset in opened]
    return SetContents(found, classes, tuple(contents), datasets)


def _same_classes(contents: SplitContents, dataset: DetectionDataset | None, classes: Sequence[str]) -> SplitContents:
    if dataset is not None and tuple(dataset.class_names) != tuple(classes):
        contents.faults.add(
            f"the split {contents.name} has other classes than another split: {', '.join(dataset.class_names)[:200]}"
        )
    return contents


def _split(found: Found, name: str, decode: bool) -> tuple[SplitContents, DetectionDataset | None]:
    report = Report()
    try:
        dataset = found.format.open(found.root, name, report, limit=None, events=None)
    except ZooError as error:
        report.faults.add(str(error))
        return SplitContents(name, faults=report.faults, skipped=tuple(report.skipped)), None
    if decode:
        _read_all(dataset, report, name)
    counted = _counted(dataset)
    return (
        SplitContents(name, **counted, faults=report.faults, skipped=tuple(report.skipped), notes=tuple(report.notes)),
        dataset,
    )


def _read_all(dataset: DetectionDataset, report: Report, name: str) -> None:
    """Read every image, one at a time; those that cannot be read are left out."""
    with progress_bar(f"reading {name}", total=len(dataset)) as bar:
        for index in range(len(dataset)):
            try:
                dataset[index]
            except ZooError as error:
                report.skip(dataset.paths[index] if isinstance(dataset, ImageSet) else f"{name} {index}", error)
            bar.advance()


def _counted(dataset: DetectionDataset) -> dict[str, Any]:
    truth = dataset.truth if isinstance(dataset, ImageSet) else getattr(dataset, "truth", None)
    if truth is None or not len(truth):
        return {"images": len(dataset)}
    counted = truth.labels[~truth.crowd]
    areas = truth.areas[~truth.crowd]
    owners = np.repeat(np.arange(len(truth)), np.diff(truth.starts))[~truth.crowd]
    order = np.argsort(truth.sizes.prod(1), kind="stable")
    smallest, median, largest = (
        (int(truth.sizes[place][0]), int(truth.sizes[place][1]))
        for place in (order[0], order[len(order) // 2], order[-1])
    )
    return {
        "images": len(truth),
        "empty": len(truth) - len(np.unique(owners)),
        "objects": tuple(np.bincount(counted, minlength=len(dataset.class_names)).tolist()),
        "crowds": int(truth.crowd.sum()),
        "sizes": (
            int((areas < SMALL).sum()),
            int(((areas >= SMALL) & (areas < LARGE)).sum()),
            int((areas >= LARGE).sum()),
        ),
        "smallest": smallest,
        "median": median,
        "largest": largest,
    }
