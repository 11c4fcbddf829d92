"""Detection data in COCO layout: reading what others wrote, and writing it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.images import load_image
from zoo.data.sample import AnySample, DetectionDataset, Sample, picture_of
from zoo.errors import DataError, InvalidInputError
from zoo.support.files import new_directory


class CocoDetection:
    """Pictures and boxes described by a COCO annotation file.

    Crowd regions and boxes without area are left out. Category ids may have gaps, as COCO's own have: labels count the
    categories in order of their ids.

    Args:
        annotations: JSON file with ``images``, ``annotations`` and ``categories``.
        image_dir: folder of the pictures.
        limit: use the first so many pictures, in order of their ids.

    Raises:
        DataError: the file is missing or not COCO, or a picture is missing.
    """

    def __init__(self, annotations: str | Path, image_dir: str | Path, *, limit: int | None = None) -> None:
        self.path = Path(annotations)
        self.image_dir = Path(image_dir)
        content = _read_json(self.path)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.class_names: Sequence[str] = [str(category["name"]) for category in categories]
        self._label_of = {category["id"]: label for label, category in enumerate(categories)}
        self._images = sorted(content["images"], key=lambda image: image["id"])[:limit]
        self._objects = self._grouped(content["annotations"])
        for image in self._images:
            if not self._file(image).is_file():
                raise DataError(f"{self.path} names the picture {self._file(image)}, which does not exist")

    @classmethod
    def from_folder(cls, folder: Path, split: str, *, limit: int | None = None) -> CocoDetection:
        """Open ``annotations/SPLIT.json`` or ``annotations/instances_SPLIT.json`` with pictures in ``SPLIT`` or ``images``."""
        candidates = [folder / "annotations" / f"{prefix}{split}.json" for prefix in ("", "instances_")]
        found = [path for path in candidates if path.is_file()]
        if not found:
            raise DataError(
                f"there is no split {split!r} in {folder}: neither {candidates[0]} nor {candidates[1]} exists"
            )
        image_dirs = [folder / split, folder / "images", folder]
        return cls(found[0], next(path for path in image_dirs if path.is_dir()), limit=limit)

    def _grouped(self, annotations: list[dict[str, Any]]) -> dict[int, list[tuple[list[float], int]]]:
        objects: dict[int, list[tuple[list[float], int]]] = defaultdict(list)
        for annotation in annotations:
            if annotation.get("iscrowd"):
                continue
            try:
                x, y, width, height = (float(value) for value in annotation["bbox"])
                label = self._label_of[annotation["category_id"]]
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{self.path}: the annotation {annotation.get('id')} is malformed: {error!r}") from None
            if width > 0 and height > 0:
                objects[annotation["image_id"]].append(([x, y, x + width, y + height], label))
        return objects

    def _file(self, image: dict[str, Any]) -> Path:
        # only the name: an annotation file must not lead out of its folder
        return self.image_dir / Path(image["file_name"]).name

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index``, in order of the picture ids."""
        image = self._images[index]
        objects = self._objects.get(image["id"], [])
        boxes = np.array([box for box, _ in objects], np.float32).reshape(-1, 4)
        labels = np.array([label for _, label in objects], np.int64)
        return Sample(load_image(self._file(image)), boxes, labels, int(image["id"]))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the annotation file {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is not a COCO annotation file: {error}") from None
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise DataError(f"{path} is not a COCO annotation file: it lacks one of the lists {', '.join(keys)}")
    try:
        complete = all("id" in i and "file_name" in i for i in content["images"]) and all(
            "id" in c and "name" in c for c in content["categories"]
        )
    except TypeError:
        complete = False
    if not complete:
        raise DataError(
            f"{path} is not a COCO annotation file: a picture lacks id or file_name, or a category id or name"
        )
    return content


def coco_annotations(samples: Sequence[AnySample], class_names: Sequence[str]) -> dict[str, Any]:
    """Samples in the form of a COCO annotation file; category ids count from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        height, width = sample.size
        name = f"{sample.image_id:06d}.png"
        images.append({"id": sample.image_id, "file_name": name, "height": height, "width": width})
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": sample.image_id,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


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
    samples = []
    with new_directory(out_dir) as folder:
        (folder / split).mkdir()
        for index in range(len(dataset)):
            sample = dataset[index]
            Image.fromarray(picture_of(sample)).save(folder / split / f"{sample.image_id:06d}.png")
            samples.append(sample)
        (folder / "annotations").mkdir()
        content = json.dumps(coco_annotations(samples, dataset.class_names))
        (folder / "annotations" / f"{split}.json").write_text(content)
    return Path(out_dir)
