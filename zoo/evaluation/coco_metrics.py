"""Measuring detectors: mAP on any data set and any backend. The numbers are COCO's: see :mod:`zoo.evaluation.metrics`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo.data.coco import truth_of
from zoo.data.events import EventSample
from zoo.data.faults import Skipped
from zoo.data.images import Placement
from zoo.data.sample import AnySample, DetectionDataset, Sample, prepare_sample, stack_inputs
from zoo.data.truth import Truth
from zoo.detectors.base import DetectorBase
from zoo.detectors.detector import Detector
from zoo.detectors.modes import evaluating
from zoo.errors import CorruptFileError, DataError, DataWarning, FileMissingError, InvalidInputError
from zoo.evaluation.metrics import ClassMetrics, Detections, Metrics, score
from zoo.evaluation.predictions import FoundObjects, PredictionWriter
from zoo.heads.nms import non_max_suppression
from zoo.support.progress import Progress

Rows = npt.NDArray[np.float64]


def evaluate(
    detector: DetectorBase,
    dataset: DetectionDataset,
    *,
    batch_size: int = 32,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    progress: Progress | None = None,
    match_classes: Literal["name", "index"] = "name",
    writers: Sequence[PredictionWriter] = (),
) -> Metrics:
    """Measure a detector, whichever backend runs it.

    Conventions: each cell may give one box per class with a score of at least ``conf``; suppression within each class. Sets
    with annotation files are measured against all that these say: crowds, areas and ids count as they do for COCO.

    Args:
        detector: an snnTorch or graph detector. It is in eval mode meanwhile.
        dataset: images with objects; read one batch at a time.
        batch_size: images at a time.
        conf, iou, max_det: limits of non-maximum suppression.
        progress: advanced by each image.
        match_classes: ``name``: the detector and the data set have the same class names, in any order. ``index``: they have as
            many classes, which are taken to be the same in the same order.
        writers: also receive the detections of each image, as they come.

    Raises:
        DataError: a data set without images or without objects.
        InvalidInputError: other classes.
        MissingFrameworkError: faster-coco-eval is not installed.

    Warns:
        DataWarning: images that cannot be read; they are left out of the numbers.
    """
    order = class_order(detector.class_names, dataset.class_names, match_classes)
    measured = _Measured(dataset, order)
    limits = {"conf": conf, "iou": iou, "max_det": max_det}
    with evaluating(detector):
        for batch in measured.batches(batch_size, progress):
            images, placements = _prepared(detector, batch)
            with torch.inference_mode():
                raw = detector(images)
            for sample, rows in zip(batch, _rows(detector, placements, raw, **limits), strict=True):
                measured.add(sample, rows, writers)
    return measured.score()


def evaluate_over_time(
    detector: Detector,
    dataset: DetectionDataset,
    readouts: Sequence[int],
    *,
    batch_size: int = 50,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    progress: Progress | None = None,
) -> dict[int, Metrics]:
    """Measure a converted detector after several numbers of steps, in one pass. Conventions as :func:`evaluate`.

    Args:
        detector: converted by :mod:`zoo.compression.conversion`.
        dataset: images with objects.
        readouts: after how many steps.
        batch_size, conf, iou, max_det, progress: as in :func:`evaluate`.
    """
    from zoo.detectors.stepwise import stream

    order = class_order(detector.class_names, dataset.class_names, "name")
    measured = {steps: _Measured(dataset, order) for steps in readouts}
    first = measured[readouts[0]]
    with evaluating(detector):
        for batch in first.batches(batch_size, progress):
            images, placements = _prepared(detector, batch)
            for steps, raw in stream(detector, images, time_steps=max(readouts), readouts=readouts, quiet=True):
                if steps in measured:
                    found = _rows(detector, placements, raw, conf=conf, iou=iou, max_det=max_det)
                    for sample, rows in zip(batch, found, strict=True):
                        measured[steps].add(sample, rows, ())
    for other in measured.values():
        other.share(first)
    return {steps: one.score() for steps, one in measured.items()}


def class_order(
    ours: Sequence[str], theirs: Sequence[str], match: Literal["name", "index"]
) -> npt.NDArray[np.int64] | None:
    """For each class of a detector its index in the data set; None where both have the same order.

    Raises:
        InvalidInputError: the classes are not the same.
    """
    if len(ours) != len(theirs):
        raise InvalidInputError(f"the data set has {len(theirs)} classes, the detector {len(ours)}")
    if match == "index" or tuple(ours) == tuple(theirs):
        return None
    strange = [name for name in ours if name not in theirs]
    if strange or len(set(theirs)) != len(theirs):
        missing = [name for name in theirs if name not in ours]
        raise InvalidInputError(
            f"the detector and the data set do not have the same classes: only the detector has {', '.join(strange[:5])}; only "
            f"the data set has {', '.join(missing[:5])}"
        )
    return np.array([list(theirs).index(name) for name in ours], np.int64)


class _Measured:
    """The images of a data set that were measured, and what was found in them."""

    def __init__(self, dataset: DetectionDataset, order: npt.NDArray[np.int64] | None) -> None:
        self.dataset = dataset
        self.order = order
        self.found = Detections()
        self.places: list[int] = []
        self.bare: list[AnySample] = []
        self.skipped: list[Skipped] = []
        self.truth: Truth | None = getattr(dataset, "truth", None)

    def batches(self, size: int, progress: Progress | None) -> Iterator[list[AnySample]]:
        """Samples, ``size`` at a time. Those that cannot be read are left out, with a warning."""
        batch: list[AnySample] = []
        for index in range(len(self.dataset)):
            if progress is not None:
                progress.advance()
            try:
                sample = self.dataset[index]
            except (CorruptFileError, FileMissingError) as error:
                self.skipped.append(Skipped(f"image {index}", str(error)))
                continue
            self.places.append(index)
            if self.truth is None:
                self.bare.append(_without_pixels(sample))
            batch.append(sample)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def add(self, sample: AnySample, rows: Rows, writers: Sequence[PredictionWriter]) -> None:
        """Take the detections (N, 6) in an image: corners in pixels, score, class of the detector."""
        if self.order is not None:
            rows = np.concatenate([rows[:, :5], self.order[rows[:, 5].astype(np.int64)][:, None]], 1)
        for writer in writers:
            path = getattr(self.dataset, "paths", [None] * len(self.dataset))[self.places[len(self.found)]]
            writer.add(
                FoundObjects(sample.image_id, path, sample.size, rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))
            )
        left, right = rows[:, :2], rows[:, 2:4]
        self.found.add(np.concatenate([left, right - left, rows[:, 4:]], 1))

    def share(self, other: _Measured) -> None:
        """Take over which images another one has read."""
        self.places, self.bare, self.skipped = other.places, other.bare, other.skipped

    def score(self) -> Metrics:
        """COCO's numbers.

        Raises:
            DataError: no image, or no object to count.
        """
        if not self.places:
            raise DataError("mAP cannot be measured: the data set holds no images that can be read")
        if self.skipped:
            first = "; ".join(one.reason for one in self.skipped[:3])
            warnings.warn(
                f"{len(self.skipped)} of {len(self.dataset)} images cannot be read and are not in the numbers: {first}",
                DataWarning,
                stacklevel=3,
            )
        names = self.dataset.class_names
        truth = truth_of(self.bare, names) if self.truth is None else self.truth.only(self.places)
        return score(truth, self.found, names, skipped=self.skipped)


def _without_pixels(sample: AnySample) -> AnySample:
    """The sample with a view in place of its pixels, of which only the size still matters."""
    if isinstance(sample, EventSample):
        counts = np.broadcast_to(np.zeros((), np.uint8), sample.counts.shape)
        return EventSample(counts, sample.boxes, sample.labels, sample.image_id)
    pixels = np.broadcast_to(np.zeros((), np.uint8), sample.image.shape)
    return Sample(pixels, sample.boxes, sample.labels, sample.image_id)


def _prepared(detector: DetectorBase, batch: list[AnySample]) -> tuple[Tensor, list[Placement]]:
    spec = detector.config.input.model_copy(update={"image_size": detector.image_size})
    images, placements = zip(*(prepare_sample(sample, spec) for sample in batch), strict=True)
    return stack_inputs(images), list(placements)


def _rows(detector: DetectorBase, placements: list[Placement], raw: list[Tensor], **limits: Any) -> Iterator[Rows]:
    """For each image (N, 6): corners in its pixels, score, class."""
    kept = non_max_suppression(detector.decode(raw), multi_label=True, **limits)
    for placement, found in zip(placements, kept, strict=True):
        values = found.double().cpu().numpy()
        yield np.concatenate([placement.undo(values[:, :4]), values[:, 4:]], 1)


__all__ = ["ClassMetrics", "Metrics", "class_order", "evaluate", "evaluate_over_time", "score"]
