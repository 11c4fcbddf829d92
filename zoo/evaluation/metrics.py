"""Average precision and recall as COCO defines them, computed by faster-coco-eval; the numbers equal pycocotools'.

Objects that are marked as crowds are not counted, nor are detections that lie on them. Sizes are areas of the annotated
objects: small is below 32 x 32 pixels, large is above 96 x 96. Source: https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.data.faults import Skipped
from zoo.data.truth import Truth
from zoo.errors import DataError, MissingFrameworkError

COUNTED = 100
"""Detections of each class in an image that COCO counts, the strongest."""
SIZES = ("small", "medium", "large")
NAN = math.nan


@dataclass(frozen=True)
class ClassMetrics:
    """Numbers of one class, 0..1; NaN where there is no object to count.

    Attributes:
        name: of the class.
        images: that hold at least one object of it.
        objects: without crowds.
        map50_95, map50, map75: average precision: the mean over the overlaps 0.50, 0.55, ..., 0.95, at 0.50, and at 0.75.
        by_size: ``map50_95`` of small, medium and large objects.
        recall: share of the objects that are found by 100 detections per image, mean over the overlaps.
    """

    name: str
    images: int
    objects: int
    map50_95: float
    map50: float
    map75: float
    by_size: dict[str, float]
    recall: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "name": self.name,
            "images": self.images,
            "objects": self.objects,
            "mAP50-95": self.map50_95,
            "mAP50": self.map50,
            "mAP75": self.map75,
            "by_size": dict(self.by_size),
            "recall": self.recall,
        }


@dataclass(frozen=True)
class Curves:
    """Precision against recall at overlap 0.50.

    Attributes:
        recall: (101,) 0, 0.01, ..., 1.
        precision: (classes, 101); NaN for classes without objects.
        scores: (classes, 101) least class score at which the recall is reached.
    """

    recall: npt.NDArray[np.floating]
    precision: npt.NDArray[np.floating]
    scores: npt.NDArray[np.floating]


@dataclass(frozen=True)
class Metrics:
    """Average precision and recall, 0..1; NaN where there is no object to count.

    Attributes:
        map50_95: mean over the overlaps 0.50, 0.55, ..., 0.95 and over classes.
        map50: mean over classes at overlap 0.50.
        per_class: mean over the overlaps for each class name.
        images: images measured.
        map75: mean over classes at overlap 0.75.
        by_size: ``map50_95`` of small, medium and large objects.
        recall: mean recall of 1, 10 and 100 detections per image, and of small, medium and large objects.
        classes: the numbers of each class.
        curves: precision against recall.
        skipped: images that could not be read and are not in the numbers.
    """

    map50_95: float
    map50: float
    per_class: dict[str, float]
    images: int
    map75: float = NAN
    by_size: dict[str, float] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    classes: tuple[ClassMetrics, ...] = field(default=(), repr=False)
    curves: Curves | None = field(default=None, repr=False, compare=False)
    skipped: tuple[Skipped, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON. The curves are not in it."""
        return {
            "mAP50": self.map50,
            "mAP50-95": self.map50_95,
            "mAP75": self.map75,
            "images": self.images,
            "per_class": dict(self.per_class),
            "by_size": dict(self.by_size),
            "recall": dict(self.recall),
            "classes": [one.to_dict() for one in self.classes],
            "skipped": [str(one) for one in self.skipped],
        }


class Detections:
    """What was found in the images of a set, as bare arrays: 48 bytes per detection."""

    def __init__(self) -> None:
        self._rows: list[npt.NDArray[np.float64]] = []

    def __len__(self) -> int:
        """Images, also those in which nothing was found."""
        return len(self._rows)

    def add(self, rows: npt.NDArray[np.float64]) -> None:
        """Add an image: (N, 6) left, top, width, height, score, class. Only those that COCO counts are kept."""
        rows = np.asarray(rows, np.float64).reshape(-1, 6)
        if len(rows) > COUNTED:
            rows = rows[_counted(rows)]
        self._rows.append(rows)

    def of(self, index: int) -> npt.NDArray[np.float64]:
        """(N, 6) of image ``index``."""
        return self._rows[index]


def _counted(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The strongest of each class, in the order in which they came."""
    kept = []
    for label in np.unique(rows[:, 5]):
        places = np.flatnonzero(rows[:, 5] == label)
        kept.append(places[np.argsort(-rows[places, 4], kind="stable")[:COUNTED]])
    return np.sort(np.concatenate(kept))


def score(truth: Truth, found: Detections, class_names: Sequence[str], *, skipped: Sequence[Skipped] = ()) -> Metrics:
    """Compare detections with the annotated objects.

    Args:
        truth: the objects of the images that were measured.
        found: detections in the same images, in the same order.
        class_names: one per class.
        skipped: images that could not be read, to be told with the numbers.

    Raises:
        DataError: there is no object to count.
        MissingFrameworkError: faster-coco-eval is not installed.
    """
    if truth.crowd.all():
        raise DataError("mAP cannot be measured: the data set holds no objects")
    evaluated = _evaluated(truth, found, len(class_names))
    precision, recall = evaluated["precision"], evaluated["recall"]
    # precision: overlap, recall, class, size (all, small, medium, large), detections (1, 10, 100); recall lacks the second
    classes = tuple(_class(name, index, truth, precision, recall) for index, name in enumerate(class_names))
    curve = precision[0, :, :, 0, -1].T
    scores = np.where(curve > -1, evaluated["scores"][0, :, :, 0, -1].T, NAN)
    return Metrics(
        map50_95=_mean(precision[..., 0, -1]),
        map50=_mean(precision[0, ..., 0, -1]),
        per_class={one.name: one.map50_95 for one in classes},
        images=len(truth),
        map75=_mean(precision[5, ..., 0, -1]),
        by_size={name: _mean(precision[..., place, -1]) for place, name in enumerate(SIZES, 1)},
        recall={
            **{str(count): _mean(recall[..., 0, place]) for place, count in enumerate((1, 10, 100))},
            **{name: _mean(recall[..., place, -1]) for place, name in enumerate(SIZES, 1)},
        },
        classes=classes,
        curves=Curves(np.linspace(0, 1, 101), np.where(curve > -1, curve, NAN), scores),
        skipped=tuple(skipped),
    )


def _class(
    name: str, index: int, truth: Truth, precision: npt.NDArray[np.float64], recall: npt.NDArray[np.float64]
) -> ClassMetrics:
    mine = (truth.labels == index) & ~truth.crowd
    owners = np.searchsorted(truth.starts, np.flatnonzero(mine), side="right")
    own = precision[:, :, index]
    return ClassMetrics(
        name,
        images=len(np.unique(owners)),
        objects=int(mine.sum()),
        map50_95=_mean(own[..., 0, -1]),
        map50=_mean(own[0, :, 0, -1]),
        map75=_mean(own[5, :, 0, -1]),
        by_size={size: _mean(own[..., place, -1]) for place, size in enumerate(SIZES, 1)},
        recall=_mean(recall[:, index, 0, -1]),
    )


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Mean of what was measured: -1 stands for classes and sizes without objects."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else NAN


def _evaluated(truth: Truth, found: Detections, classes: int) -> dict[str, npt.NDArray[np.float64]]:
    """What COCO's evaluation accumulates.

    Ids are replaced by numbers from 1 on, in the same order: the evaluation takes numbers only, and 0 for no match.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingFrameworkError("measuring mAP needs faster-coco-eval: pip install 'nir-zoo[eval]'") from error

    ranks = {key: rank for rank, key in enumerate(sorted(truth.image_ids), 1)}
    plain = Truth(
        [ranks[key] for key in truth.image_ids],
        truth.sizes,
        truth.starts,
        truth.xywh,
        truth.labels,
        truth.crowd,
        truth.areas,
        tuple(range(1, classes + 1)),
    )
    objects = COCO(plain.to_coco([str(number) for number in range(classes)]))
    run = COCOeval_faster(objects, objects.loadRes(_rows(plain, found)), iouType="bbox", print_function=lambda *_: None)
    run.evaluate()
    run.accumulate()
    return dict(run.eval)


def _rows(truth: Truth, found: Detections) -> list[dict[str, Any]]:
    return [
        {"image_id": key, "category_id": int(label) + 1, "bbox": [left, top, width, height], "score": strength}
        for index, key in enumerate(truth.image_ids)
        for left, top, width, height, strength, label in found.of(index).tolist()
    ]
