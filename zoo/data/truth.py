"""The objects of a data set as columns, exactly as its annotations give them, and as a COCO annotation file."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ImageId = int | str


@dataclass(frozen=True)
class Truth:
    """Objects of N images as columns of M rows: a million objects take 50 MB.

    Attributes:
        image_ids: (N) as the annotations give them: all numbers, or all text.
        sizes: (N, 2) height and width in pixels.
        starts: (N + 1) rows of image i are ``starts[i]`` up to ``starts[i + 1]``.
        xywh: (M, 4) left, top, width and height in pixels.
        labels: (M) index into the set's class names.
        crowd: (M) whether the box holds many objects, or one that is too difficult to count: detections there are neither
            right nor wrong.
        areas: (M) in square pixels; of the object's outline where the annotations have one, else of its box.
        category_ids: the annotations' own id of each class.
    """

    image_ids: Sequence[ImageId]
    sizes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    xywh: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]
    category_ids: tuple[ImageId, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, index: int) -> slice:
        """Rows of the objects of image ``index``."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))

    def to_coco(self, class_names: Sequence[str], file_names: Iterable[str] | None = None) -> dict[str, Any]:
        """The content of a COCO annotation file. Annotation ids count from 1: COCO's own code takes an id of 0 for no match.

        Args:
            class_names: one per class.
            file_names: one per image; without them, images have no ``file_name``.
        """
        images: list[dict[str, Any]] = [
            {"id": image_id, "height": height, "width": width}
            for image_id, (height, width) in zip(self.image_ids, self.sizes.tolist(), strict=True)
        ]
        if file_names is not None:
            for image, name in zip(images, file_names, strict=True):
                image["file_name"] = name
        owner = np.repeat(np.arange(len(self)), np.diff(self.starts))
        rows = zip(
            owner.tolist(),
            self.labels.tolist(),
            self.xywh.tolist(),
            self.areas.tolist(),
            self.crowd.tolist(),
            strict=True,
        )
        annotations = [
            {
                "id": number,
                "image_id": self.image_ids[image],
                "category_id": self.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, label, box, area, crowd) in enumerate(rows, 1)
        ]
        categories = [{"id": key, "name": name} for key, name in zip(self.category_ids, class_names, strict=True)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def only(self, indices: Sequence[int]) -> Truth:
        """The same for some of the images."""
        chosen = np.asarray(indices, np.int64)
        counts = np.diff(self.starts)[chosen]
        picked = [np.arange(self.starts[index], self.starts[index + 1]) for index in chosen]
        rows = np.concatenate(picked) if picked else np.zeros(0, np.int64)
        return Truth(
            [self.image_ids[index] for index in chosen],
            self.sizes[chosen],
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            self.xywh[rows],
            self.labels[rows],
            self.crowd[rows],
            self.areas[rows],
            self.category_ids,
        )


class TruthBuilder:
    """Collects a :class:`Truth` image by image, in little memory."""

    def __init__(self) -> None:
        self._ids: list[ImageId] = []
        self._sizes = array("q")
        self._starts = array("q", [0])
        self._xywh, self._areas = array("d"), array("d")
        self._labels, self._crowd = array("q"), array("b")

    def __len__(self) -> int:
        return len(self._ids)

    def add(
        self,
        image_id: ImageId,
        size: tuple[int, int],
        xywh: Iterable[Sequence[float]],
        labels: Sequence[int],
        *,
        crowd: Sequence[bool] | None = None,
        areas: Sequence[float] | None = None,
    ) -> None:
        """Add an image of ``size`` (height, width) with its objects."""
        self._ids.append(image_id)
        self._sizes.extend(size)
        boxes = [tuple(box) for box in xywh]
        for box in boxes:
            self._xywh.extend(box)
        self._labels.extend(labels)
        self._crowd.extend(map(bool, crowd) if crowd is not None else [0] * len(boxes))
        self._areas.extend(areas if areas is not None else [box[2] * box[3] for box in boxes])
        self._starts.append(len(self._labels))

    def build(self, category_ids: Sequence[ImageId]) -> Truth:
        """All that was added."""
        return Truth(
            self._ids,
            np.array(self._sizes, np.int64).reshape(-1, 2),
            np.array(self._starts, np.int64),
            np.array(self._xywh, np.float64).reshape(-1, 4),
            np.array(self._labels, np.int64),
            np.array(self._crowd, np.bool_),
            np.array(self._areas, np.float64),
            tuple(category_ids),
        )
