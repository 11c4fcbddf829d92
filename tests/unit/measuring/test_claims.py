"""The measurement of conversion: one pass for all T, the first T that keeps 98 %, rows and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import lively_detector
from zoo.compression.conversion import convert
from zoo.data.digits import DigitsDetection
from zoo.errors import InvalidInputError
from zoo.evaluation import evaluate
from zoo.evaluation.coco_metrics import evaluate_over_time
from zoo.measuring.claims import Curve, draw_conversion, measure_conversion


def curve(*values: float, **changes: Any) -> Curve:
    points = tuple((2**index, value) for index, value in enumerate(values))
    return Curve("m", "channel", "signed", 10, 0.9, points, **changes)


def test_the_first_t_that_keeps_98_percent() -> None:
    assert curve(0.1, 0.8, 0.883, 0.9).first == 4
    assert curve(0.1, 0.8).first is None
    rows = curve(0.45, 0.9).rows()
    assert [row["time_steps"] for row in rows] == [1, 2]
    assert rows[0]["share"] == pytest.approx(0.5)
    assert rows[0]["first_T_with_98_percent"] == 2
    assert curve(0.1).rows()[0]["first_T_with_98_percent"] == "none"


def test_one_pass_measures_what_single_runs_do() -> None:
    ann = lively_detector("spiking-yolo-pico", class_names=[str(digit) for digit in range(10)])
    dataset = DigitsDetection("test", length=4)
    snn = convert(ann, torch.rand(2, 3, 96, 96), time_steps=6)
    found = evaluate_over_time(snn, dataset, [3, 6], batch_size=3, conf=1e-5)
    single = evaluate(snn, dataset, conf=1e-5)
    assert set(found) == {3, 6}
    assert found[6].map50 == pytest.approx(single.map50, abs=1e-12)


def test_figure(tmp_path: Path) -> None:
    path = draw_conversion([curve(0.1, 0.5, 0.9), curve(0.2, 0.4, 0.6)], tmp_path / "figure.png")
    with Image.open(path) as picture:
        assert picture.size[0] > 500
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_only_anns_are_measured() -> None:
    with pytest.raises(InvalidInputError, match="no ANN that is converted"):
        measure_conversion(["spikeyolo-digits"], images=2, readouts=[1])
