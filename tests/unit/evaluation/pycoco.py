"""pycocotools on the same annotations and detections, for comparison."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest


def pycoco_numbers(annotations: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Its 12 numbers, and AP of each category: at all overlaps, at 0.50, and of each size."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = copy.deepcopy(annotations)
        truth.createIndex()
        run = cocoeval.COCOeval(truth, truth.loadRes(copy.deepcopy(rows)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    precision = run.eval["precision"]

    def mean(values: Any) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else np.nan

    return {
        "stats": [value if value > -1 else np.nan for value in run.stats],
        "classes": {
            key: {
                "mAP50-95": mean(precision[:, :, index, 0, -1]),
                "mAP50": mean(precision[0, :, index, 0, -1]),
                "by_size": [mean(precision[:, :, index, size, -1]) for size in (1, 2, 3)],
            }
            for index, key in enumerate(run.params.catIds)
        },
    }


def assert_equal(metrics: Any, theirs: dict[str, Any], category_ids: Any, *, tolerance: float = 1e-9) -> None:
    """All numbers of ours equal theirs."""
    ours = [
        metrics.map50_95,
        metrics.map50,
        metrics.map75,
        *metrics.by_size.values(),
        *metrics.recall.values(),
    ]
    np.testing.assert_allclose(ours, theirs["stats"], rtol=0, atol=tolerance)
    for key, one in zip(category_ids, metrics.classes, strict=True):
        other = theirs["classes"][key]
        np.testing.assert_allclose(
            [one.map50_95, one.map50, *one.by_size.values()],
            [other["mAP50-95"], other["mAP50"], *other["by_size"]],
            rtol=0,
            atol=tolerance,
            err_msg=one.name,
        )
