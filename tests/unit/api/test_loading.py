"""Loading takes the memory of the weights, and computes nothing on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import zoo
from zoo.detectors.building import from_config
from zoo.detectors.registry import describe
from zoo.errors import CheckpointError
from zoo.hub import bundle
from zoo.hub.integrity import write_manifest

MEGABYTE = 2**20
PROBE = """
import sys
import torch, snntorch, zoo
from zoo.detectors.registry import families

def memory(what):
    # of this program alone: getrusage() would count the one that started it
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(what))

families()
compiler = "torch._dynamo" in sys.modules
before = memory('VmRSS')
detector = zoo.load(sys.argv[1], trainable=sys.argv[2] == "trainable")
peak = memory('VmHWM')
weights = sum(tensor.numel() * tensor.element_size() for tensor in detector.state_dict().values())
print(peak - before, weights, "torch._dynamo" in sys.modules and not compiler)
"""


def folder_of(path: Path, arch: str, **form: bool) -> Path:
    """A model folder of weights that nobody trained."""
    config = describe(arch, num_classes=80).model_copy(update=form)
    name = bundle.WEIGHTS if form else bundle.TRAINABLE
    path.mkdir()
    (path / bundle.CONFIG).write_text(
        describe(arch, num_classes=80).model_copy(update=form or {"fused": True}).to_json()
    )
    state = {
        key: torch.full(tensor.shape, 0.01, dtype=tensor.dtype) if tensor.is_meta else tensor
        for key, tensor in from_config(config, numbers=False).state_dict().items()
    }
    bundle.save_weights(path / name, state)
    write_manifest(path)
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("arch", "form"),
    [
        ("spikeyolo-l", {"fused": True}),
        ("spikeyolo-m", {"fused": True, "merged": True}),
        ("spikeyolo-l", {}),
        ("spikingyolox-l", {"fused": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "trainable",
)
def test_memory_is_that_of_the_weights(tmp_path: Path, arch: str, form: dict[str, bool]) -> None:
    folder = folder_of(tmp_path / "model", arch, **form)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROBE, str(folder), "deployed" if form else "trainable"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown, weights, compiler = done.stdout.split()
    assert int(weights) > 80 * MEGABYTE
    assert int(grown) < int(weights) + 200 * MEGABYTE
    assert compiler == "False"  # arithmetic on tensors without numbers would load torch's compiler, which takes seconds


def test_nothing_is_folded_and_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zoo.layers.conv.fold", "zoo.layers.conv.affine_of", "zoo.detectors.spikeyolo.reparam.fold"):
        monkeypatch.setattr(name, lambda *_args: pytest.fail("folds"))
    before = torch.random.get_rng_state()
    for name in zoo.list_models(available=True):
        detector = zoo.load(name)
        assert not any(tensor.is_meta for tensor in detector.state_dict().values())
        assert all(parameter.requires_grad for parameter in detector.parameters())
        assert not detector.training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_thresholds_of_other_channels_are_refused(tmp_path: Path) -> None:
    """Their number comes from the architecture, not from the file."""
    import shutil

    from zoo.cards import CARDS

    folder = tmp_path / "model"
    shutil.copytree(CARDS / "spikeyolo-digits", folder)
    state = zoo.load("spikeyolo-digits").state_dict()
    name = next(key for key in state if key.endswith("thresholds"))
    bundle.save_weights(folder / bundle.WEIGHTS, {**state, name: state[name][:, :-1]})
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="thresholds has shape"):
        zoo.load(folder)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        path = tmp_path / "weights.safetensors"
        bundle.save_weights(path, {"w": torch.tensor([1.0, bad, 2.0]), "n": torch.zeros(0)})
        with pytest.raises(CheckpointError, match="w holds numbers that are not finite"):
            bundle.load_weights(path, {"w": torch.zeros(3), "n": torch.zeros(0)})
