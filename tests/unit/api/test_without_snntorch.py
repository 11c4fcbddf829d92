"""Other backends run a model without snnTorch, and whoever asks for the snnTorch form is told what to install."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.cards import CARDS
from zoo.errors import ConfigError, UnknownModelError
from zoo.hub.integrity import write_manifest

CODE = """
import json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "snntorch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import torch, zoo
from zoo.errors import MissingFrameworkError

found = {"heads": {}}
for name, backend in json.loads(sys.argv[1]):
    detector = zoo.load(name, backend=backend)
    events = detector.config.input.events
    x = torch.rand(1, 3, *detector.image_size, generator=torch.Generator().manual_seed(0))
    if events is not None:
        x = (x[:, :2] * 3).floor().expand(events.micro_slices, 1, 2, *detector.image_size)
    found["heads"][f"{name} {backend}"] = [raw.double().sum().item() for raw in detector(x)]
    assert detector.decode(detector(x)).shape[1] == 4 + len(detector.class_names)
image = (torch.rand(3, 80, 90, generator=torch.Generator().manual_seed(1)) * 255).byte().numpy().transpose(1, 2, 0)
found["boxes"] = len(zoo.load("spikeyolo-digits", backend="reference").predict(image.copy(), conf=0.0, max_det=5))
found["errors"] = []
for action in (lambda: zoo.load("spikeyolo-digits"), lambda: zoo.create("spikeyolo-n", num_classes=2)):
    try:
        action()
    except MissingFrameworkError as error:
        found["errors"].append(str(error))
assert "snntorch" not in sys.modules
print(json.dumps(found))
"""
CASES = [("spikeyolo-digits", "reference"), ("spikeyolo-digits", "norse"), ("eas-snn-digits-events", "norse"),
         ("ems-yolo-digits", "jax")]  # fmt: skip


def test_graphs_of_unknown_architectures_run(tmp_path: Path) -> None:
    """A graph and a configuration say everything; a head that nobody can decode is refused at once."""
    folder = tmp_path / "model"
    shutil.copytree(CARDS / "ems-yolo-digits", folder)
    known = (folder / "config.json").read_text()
    (folder / "config.json").write_text(known.replace("ems-yolo-pico", "somebodys-yolo-x"))
    write_manifest(folder)
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        for one, other in zip(
            zoo.load(folder, backend="norse")(images), zoo.load("ems-yolo-digits")(images), strict=True
        ):
            assert torch.equal(one, other)
    with pytest.raises(UnknownModelError, match="no architecture 'somebodys-yolo-x'"):
        zoo.load(folder)
    (folder / "config.json").write_text(known.replace('"kind": "anchors"', '"kind": "centre"'))
    write_manifest(folder)
    for backend in ("norse", "snntorch"):
        with pytest.raises(ConfigError, match="no head of the kind 'centre'"):
            zoo.load(folder, backend=backend)


def test_backends_need_no_snntorch() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, json.dumps(CASES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["boxes"] == 5
    assert len(found["errors"]) == 2
    assert all("pip install 'nir-zoo[snntorch]'" in error for error in found["errors"])
    for name, backend in CASES:
        detector: Any = zoo.load(name)
        x = torch.rand(1, 3, *detector.image_size, generator=torch.Generator().manual_seed(0))
        if (events := detector.config.input.events) is not None:
            x = (x[:, :2] * 3).floor().expand(events.micro_slices, 1, 2, *detector.image_size)
        with torch.inference_mode():
            expected = [raw.double().sum().item() for raw in detector(x)]
        assert found["heads"][f"{name} {backend}"] == pytest.approx(expected, rel=1e-5)
