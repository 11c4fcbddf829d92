"""mAP on any data set and any backend, computed by faster-coco-eval (which equals pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.coco import coco_annotations
from zoo.data.events import EventSample
from zoo.data.images import Placement
from zoo.data.sample import AnySample, DetectionDataset, Sample, prepare_sample, stack_inputs
from zoo.detectors.base import DetectorBase
from zoo.detectors.detector import Detector
from zoo.errors import DataError, InvalidInputError, MissingFrameworkError
from zoo.heads.nms import non_max_suppression
from zoo.support.progress import Progress


@dataclass(frozen=True)
class Metrics:
    """Average precision, 0..1.

    Attributes:
        map50_95: mean over the overlaps 0.50, 0.55, ..., 0.95 and over classes.
        map50: mean over classes at overlap 0.50.
        per_class: mean over the overlaps for each class name.
        images: pictures measured.
    """

    map50_95: float
    map50: float
    per_class: dict[str, float]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {"mAP50": self.map50, "mAP50-95": self.map50_95, "images": self.images, "per_class": self.per_class}


def evaluate(
    detector: DetectorBase,
    dataset: DetectionDataset,
    *,
    batch_size: int = 32,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    progress: Progress | None = None,
) -> Metrics:
    """Measure a detector, whichever backend runs it.

    Conventions: each cell may give one box per class with a score of at least ``conf``; suppression within each class.

    Args:
        detector: an snnTorch or graph detector.
        dataset: pictures with objects.
        batch_size: pictures at a time.
        conf, iou, max_det: limits of non-maximum suppression.
        progress: advanced by each picture.

    Raises:
        DataError: a data set without pictures or without objects.
        InvalidInputError: class counts that differ.
        MissingFrameworkError: faster-coco-eval is not installed.
    """
    if len(dataset.class_names) != len(detector.class_names):
        raise InvalidInputError(
            f"the data set has {len(dataset.class_names)} classes, the detector {len(detector.class_names)}"
        )
    samples: list[AnySample] = []
    rows: list[dict[str, Any]] = []
    for start in range(0, len(dataset), batch_size):
        batch = [dataset[index] for index in range(start, min(start + batch_size, len(dataset)))]
        rows += _detections(detector, batch, conf=conf, iou=iou, max_det=max_det)
        samples += [_without_pixels(sample) for sample in batch]
        if progress is not None:
            progress.advance(by=len(batch))
    if not any(len(sample.labels) for sample in samples):
        raise DataError("mAP cannot be measured: the data set holds no objects")
    return _score(coco_annotations(samples, dataset.class_names), rows, list(dataset.class_names))


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
        dataset: pictures with objects.
        readouts: after how many steps.
        batch_size, conf, iou, max_det, progress: as in :func:`evaluate`.
    """
    from zoo.compression.conversion import stream

    samples: list[AnySample] = []
    rows: dict[int, list[dict[str, Any]]] = {steps: [] for steps in readouts}
    for start in range(0, len(dataset), batch_size):
        batch = [dataset[index] for index in range(start, min(start + batch_size, len(dataset)))]
        images, placements = _prepared(detector, batch)
        for steps, raw in stream(detector, images, time_steps=max(readouts), readouts=readouts, quiet=True):
            rows[steps] += _rows(detector, batch, placements, raw, conf=conf, iou=iou, max_det=max_det)
        samples += [_without_pixels(sample) for sample in batch]
        if progress is not None:
            progress.advance(by=len(batch))
    annotations = coco_annotations(samples, dataset.class_names)
    return {steps: _score(annotations, found, list(dataset.class_names)) for steps, found in rows.items()}


def _without_pixels(sample: AnySample) -> AnySample:
    """The sample with a view in place of its pixels, of which only the size still matters."""
    if isinstance(sample, EventSample):
        counts = np.broadcast_to(np.zeros((), np.uint8), sample.counts.shape)
        return EventSample(counts, sample.boxes, sample.labels, sample.image_id)
    pixels = np.broadcast_to(np.zeros((), np.uint8), sample.image.shape)
    return Sample(pixels, sample.boxes, sample.labels, sample.image_id)


def _detections(detector: DetectorBase, batch: list[AnySample], **limits: Any) -> list[dict[str, Any]]:
    """COCO result rows of a batch."""
    images, placements = _prepared(detector, batch)
    with torch.inference_mode():
        return _rows(detector, batch, placements, detector(images), **limits)


def _prepared(detector: DetectorBase, batch: list[AnySample]) -> tuple[Tensor, list[Placement]]:
    spec = detector.config.input.model_copy(update={"image_size": detector.image_size})
    images, placements = zip(*(prepare_sample(sample, spec) for sample in batch), strict=True)
    return stack_inputs(images), list(placements)


def _rows(
    detector: DetectorBase, batch: list[AnySample], placements: list[Placement], raw: list[Tensor], **limits: Any
) -> list[dict[str, Any]]:
    """COCO result rows of raw head maps."""
    kept = non_max_suppression(detector.decode(raw), multi_label=True, **limits)
    rows = []
    for sample, placement, found in zip(batch, placements, kept, strict=True):
        values = found.double().cpu().numpy()
        boxes = placement.undo(values[:, :4])
        boxes[:, 2:] -= boxes[:, :2]
        rows += [
            {"image_id": sample.image_id, "category_id": int(label) + 1, "bbox": box.tolist(), "score": float(score)}
            for box, score, label in zip(boxes, values[:, 4], values[:, 5], strict=True)
        ]
    return rows


def _score(annotations: dict[str, Any], rows: list[dict[str, Any]], class_names: list[str]) -> Metrics:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingFrameworkError("measuring mAP needs faster-coco-eval: pip install 'nir-zoo[eval]'") from error
    images = len(annotations["images"])
    if not rows:
        return Metrics(0.0, 0.0, dict.fromkeys(class_names, 0.0), images)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth = COCO(annotations)
        run = COCOeval_faster(truth, truth.loadRes(rows), iouType="bbox", print_function=lambda *_: None)
        run.evaluate()
        run.accumulate()
        run.summarize()
    precision = run.eval["precision"][:, :, :, 0, -1]  # overlap, recall, class; all areas; 100 detections
    per_class = {}
    for index, name in enumerate(class_names):
        values = precision[:, :, index]
        per_class[name] = float(values[values > -1].mean()) if (values > -1).any() else float("nan")
    return Metrics(float(run.stats[0]), float(run.stats[1]), per_class, images)
