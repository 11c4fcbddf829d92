"""Measuring detectors as COCO does."""

from __future__ import annotations

from zoo.evaluation.coco_metrics import evaluate
from zoo.evaluation.metrics import ClassMetrics, Metrics

__all__ = ["ClassMetrics", "Metrics", "evaluate"]
