"""Measuring detectors as COCO does."""

from __future__ import annotations

from zoo.evaluation.coco_metrics import Metrics, evaluate

__all__ = ["Metrics", "evaluate"]
