"""predict and evaluate on a detector in train mode: as in eval mode, and every buffer and mode stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import lively_detector
from zoo.data import open_dataset
from zoo.data.events import empty_events
from zoo.detectors.detector import Detector
from zoo.detectors.modes import evaluating
from zoo.errors import InvalidInputError
from zoo.evaluation import evaluate

DIGITS = [str(digit) for digit in range(10)]


def recorded(detector: Detector) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in (*detector.named_buffers(), *detector.named_parameters())}


def predicted(detector: Detector) -> Any:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    result: Any = detector.predict(image, conf=0.0)
    return result.to_dict()["detections"]


def predicted_many(detector: Detector) -> Any:
    images = list(np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8))
    results: Any = detector.predict(images, conf=0.0)
    return [result.to_dict()["detections"] for result in results]


def measured(detector: Detector) -> Any:
    return evaluate(detector, open_dataset("digits", "test", length=4)).to_dict()


@pytest.mark.parametrize("arch", ["spikeyolo-pico", "ems-yolo-pico"])
@pytest.mark.parametrize("call", [predicted, predicted_many, measured])
def test_train_mode_changes_nothing(arch: str, call: Callable[[Detector], Any]) -> None:
    detector = lively_detector(arch, class_names=DIGITS)
    expected = call(detector)
    assert expected
    detector.train()
    frozen = next(module for module in detector.modules() if isinstance(module, torch.nn.BatchNorm2d))
    frozen.eval()  # as in fine-tuning with frozen statistics
    before, modes = recorded(detector), [module.training for module in detector.modules()]
    assert call(detector) == expected
    after = recorded(detector)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert [module.training for module in detector.modules()] == modes
    assert detector.training


def test_event_detectors_too() -> None:
    detector = lively_detector("eas-snn-pico", class_names=DIGITS, sensor_size=(96, 96))
    rng = np.random.default_rng(0)
    events = empty_events(5000)
    events["x"], events["y"] = rng.integers(0, 96, (2, 5000))
    events["t"] = np.sort(rng.integers(0, 200_000, 5000))
    events["p"] = rng.random(5000) < 0.5
    expected: Any = detector.predict(events, conf=0.001)
    before = recorded(detector.train())
    found: Any = detector.predict(events, conf=0.001)
    assert found.to_dict()["detections"] == expected.to_dict()["detections"]
    after = recorded(detector)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert detector.training


def test_the_naive_way_rewrites_the_statistics() -> None:
    detector = lively_detector(class_names=DIGITS).train()
    before = recorded(detector)
    with torch.inference_mode():
        detector(torch.rand(1, 3, 96, 96))
    after = recorded(detector)
    assert sum(not torch.equal(tensor, after[name]) for name, tensor in before.items()) > 100


def test_modes_come_back_after_an_error() -> None:
    detector = lively_detector(class_names=DIGITS).train()
    with pytest.raises(InvalidInputError), evaluating(detector):
        detector(torch.rand(1, 3, 95, 96))
    assert all(module.training for module in detector.modules())
