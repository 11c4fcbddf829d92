"""Fixtures that several rooms share: a small detector whose random weights keep its neurons firing, and its folder."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # read when huggingface_hub is imported; see facts/hub.md

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector


def lively_detector(
    arch: str = "spikeyolo-pico", *, seed: int = 0, num_classes: int = 10, **arguments: Any
) -> Detector:
    """An unfused float32 detector in eval mode; its neurons fire at rates between 5 and 60 percent."""
    import torch
    from torch import nn

    from zoo.detectors.building import create

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = create(arch, num_classes=num_classes, **arguments).eval()
        for module in detector.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.6, 1.4)
                nn.init.normal_(module.bias, 0, 0.2)
            elif isinstance(module, nn.Conv2d):
                gain = 8 if arch.startswith(("eas-snn", "spikingyolox")) else 2  # neurons with a threshold of 1
                nn.init.normal_(module.weight, 0, (gain / module.weight[0].numel()) ** 0.5)
    return detector


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: ``shared/data`` beside the repository or above it, or where ZOO_REAL_DATA says."""
    places = [Path(parent) / "shared" / "data" for parent in Path(__file__).resolve().parents]
    if "ZOO_REAL_DATA" in os.environ:
        places.insert(0, Path(os.environ["ZOO_REAL_DATA"]))
    for place in places:
        if (place / "tiny_coco").is_dir():
            return place
    pytest.skip("real data is not there: put it into ../shared/data, or set ZOO_REAL_DATA to its folder")


@pytest.fixture(scope="session")
def trainable() -> Detector:
    """An unfused ``spikeyolo-pico`` for ten digits. Do not change it."""
    return lively_detector(class_names=[str(digit) for digit in range(10)])


@pytest.fixture(scope="session")
def deployed(trainable: Detector) -> Detector:
    """The same, fused. Do not change it."""
    return trainable.fuse()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, trainable: Detector, deployed: Detector) -> Path:
    """Its model folder, with the weights for fine-tuning. Do not change it; copy it."""
    from zoo.hub import bundle

    return bundle.write(
        tmp_path_factory.mktemp("models") / "lively",
        deployed,
        card_fields={"name": "lively", "dataset": "digits", "licence": "Apache-2.0"},
        trainable_state=trainable.state_dict(),
    )
