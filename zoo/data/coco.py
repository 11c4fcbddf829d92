"""Detection data described by a COCO annotation file: reading what others wrote, and writing it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from zoo.data.coco_json import CocoFile, read_coco
from zoo.data.faults import Report
from zoo.data.image_files import shown
from zoo.data.imageset import Contents, ImageEntry, ImageSet
from zoo.data.sample import AnySample, DetectionDataset, image_of
from zoo.data.truth import Truth, TruthBuilder
from zoo.errors import InvalidInputError
from zoo.support.files import new_directory


class CocoDetection(ImageSet):
    """Images and boxes described by one COCO annotation file.

    Category ids may have gaps, as COCO's own have: labels count the categories in order of their ids. Images come in order of
    their ids. Samples are without crowds and boxes that have no area; ``truth`` has them, for evaluation.

    Args:
        annotations: JSON file with ``images``, ``annotations`` and ``categories``.
        image_dir: folder that the ``file_name`` of each image is relative to.
        limit: use the first so many images.

    Raises:
        DataError: there is no such annotation file, it is not COCO, or entries are wrong, of which the first are named. Images
            that are missing or have another size than the file says are wrong entries, too.
    """

    def __init__(self, annotations: str | Path, image_dir: str | Path, *, limit: int | None = None) -> None:
        report, root = Report(), Path(image_dir)
        contents = coco_contents(read_coco(Path(annotations), report), [root], root, report)
        super().__init__(contents, root=root, report=report, limit=limit)
        report.settle(root)


def coco_contents(file: CocoFile, folders: Sequence[Path], root: Path, report: Report) -> Contents:
    """What a checked annotation file says; wrong entries go to the report.

    Args:
        file: read by :func:`zoo.data.coco_json.read_coco`.
        folders: where the images may be; the first one that holds the first image counts.
        root: which no image may leave.
        report: receives wrong entries.
    """
    entries = _entries(file, _folder_of(file, folders), root, report)
    return Contents(file.class_names, entries, len(file.images), file.category_ids)


def _folder_of(file: CocoFile, folders: Sequence[Path]) -> Path:
    for image in file.images[:1]:
        for folder in folders:
            if _joined(folder, image.file_name).is_file():
                return folder
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _joined(folder: Path, name: str) -> Path:
    """A file of a folder; names written on Windows have backslashes."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _entries(file: CocoFile, folder: Path, root: Path, report: Report) -> Iterator[ImageEntry]:
    top = os.path.normpath(root.absolute())
    for image in file.images:
        path = _joined(folder, image.file_name)
        inside = os.path.normpath(path.absolute())
        if os.path.commonpath([top, inside]) != top:
            report.faults.add(f"{image.where}: file_name {image.file_name!r} leads out of the folder {shown(root)}")
            continue
        yield ImageEntry(
            image.key,
            path,
            image.boxes,
            image.labels,
            size=image.size,
            crowd=image.crowd,
            areas=image.areas,
            where=image.where,
        )


def truth_of(samples: Iterable[AnySample], class_names: Sequence[str]) -> Truth:
    """The objects of samples, for sets that have no annotation file; category ids count from 1."""
    builder = TruthBuilder()
    for sample in samples:
        corners = sample.boxes.tolist()
        boxes = [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in corners]
        builder.add(sample.image_id, sample.size, boxes, sample.labels.tolist())
    return builder.build(range(1, len(class_names) + 1))


def write_coco(dataset: DetectionDataset, out_dir: str | Path, *, split: str = "test") -> Path:
    """Write a data set as PNG files and a COCO annotation file, whole or not at all.

    Args:
        dataset: what to write.
        out_dir: new folder; gets ``annotations/SPLIT.json`` and ``SPLIT/*.png``.
        split: name of the split.

    Raises:
        InvalidInputError: the folder exists and is not empty, or the split's name is no file name.
    """
    if Path(split).name != split:
        raise InvalidInputError(f"the split {split!r} cannot be part of a file name")
    names: list[str] = []

    def written(folder: Path) -> Iterator[AnySample]:
        for index in range(len(dataset)):
            sample = dataset[index]
            names.append(f"{sample.image_id:06d}.png" if isinstance(sample.image_id, int) else f"{index:06d}.png")
            Image.fromarray(image_of(sample)).save(folder / names[-1])
            yield sample

    with new_directory(out_dir) as folder:
        (folder / split).mkdir()
        truth = truth_of(written(folder / split), dataset.class_names)
        (folder / "annotations").mkdir()
        content = json.dumps(truth.to_coco(dataset.class_names, names))
        (folder / "annotations" / f"{split}.json").write_text(content)
    return Path(out_dir)
