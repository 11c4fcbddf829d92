"""Model folders: what is written, what is read back, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import CheckpointError, ConfigError, CorruptFileError, FileMissingError, InvalidInputError
from zoo.hub import bundle
from zoo.hub.integrity import check_manifest, write_manifest

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(model_folder, copy)
    return copy


def test_layout(model_folder: Path) -> None:
    names = {path.name for path in model_folder.iterdir()}
    assert names == {
        "README.md",
        "card.json",
        "config.json",
        "manifest.json",
        "model.nir",
        "model.safetensors",
        "trainable.safetensors",
    }
    assert set(check_manifest(model_folder).files) == names - {"manifest.json"}
    with safe_open(model_folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_weights_are_reproducible_byte_for_byte(deployed: Detector, tmp_path: Path) -> None:
    state = deployed.state_dict()
    bundle.save_weights(tmp_path / "a", state)
    bundle.save_weights(tmp_path / "b", dict(reversed(list(state.items()))))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_card_knows_the_detector(model_folder: Path, deployed: Detector) -> None:
    card = bundle.read_card_of(model_folder)
    assert (card.name, card.arch, card.dataset) == ("lively", "spikeyolo-pico", "digits")
    assert card.parameters == sum(tensor.numel() for tensor in deployed.state_dict().values())
    assert card.class_names == deployed.class_names
    assert card.image_size == (96, 96)
    assert card.paper is not None
    assert card.files["model.nir"] == (model_folder / "model.nir").stat().st_size
    text = (model_folder / "README.md").read_text()
    assert "license: apache-2.0" in text  # as the Hub spells it
    assert f"{card.parameters:,}" in text


def test_refuses_the_unfused_form(trainable: Detector, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="fuse"):
        bundle.write(tmp_path / "model", trainable)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_nothing(deployed: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise zoo.errors.ExportError("module 'x' has no exact lowering")

    monkeypatch.setattr(type(deployed), "to_nir", refuse)
    with pytest.raises(zoo.errors.ExportError):
        bundle.write(tmp_path / "model", deployed)
    assert list(tmp_path.iterdir()) == []
    written = bundle.write(tmp_path / "model", deployed, require_graph=False)
    assert not (written / "model.nir").exists()
    assert "no exact lowering" in bundle.read_card_of(written).description
    with pytest.raises(FileMissingError, match=r"no model\.nir"):
        zoo.load(written, backend="norse")


def test_wrong_card_field_leaves_nothing(deployed: Detector, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="colour"):
        bundle.write(tmp_path / "model", deployed, card_fields={"colour": "blue"})
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_kept_unless_replaced(folder: Path, deployed: Detector) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(InvalidInputError, match="not empty"):
        bundle.write(folder, deployed)
    assert (folder / "manifest.json").read_bytes() == before
    bundle.write(folder, deployed, card_fields={"name": "second"}, overwrite=True)
    assert bundle.read_card_of(folder).name == "second"
    assert not (folder / "trainable.safetensors").exists()


def test_rewriting_the_card_keeps_the_weights(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    metric = {"name": "mAP50", "value": 0.5, "dataset": "digits", "source": "results/val.csv"}
    bundle.rewrite_card(folder, metrics=[metric])
    assert zoo.info(folder).metric("mAP50") == 0.5
    assert "0.5000" in (folder / "README.md").read_text()
    assert (folder / "model.safetensors").read_bytes() == before
    check_manifest(folder)


FILES = ["config.json", "card.json", "model.safetensors", "model.nir", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damage_is_found_before_anything_is_opened(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    backend = "reference" if name == "model.nir" else "snntorch"
    expected = FileMissingError if damage == "missing" else CorruptFileError
    with pytest.raises(expected, match=name):
        zoo.load(folder, backend=backend)


def test_a_graph_backend_needs_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "trainable.safetensors").unlink()
    assert zoo.load(folder, backend="norse")(torch.rand(1, 3, 96, 96))[0].shape == (1, 42, 12, 12)


def reseal(folder: Path) -> Path:
    """As a hostile publisher would: damage, with a manifest that fits."""
    write_manifest(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(min(state)), "1 missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "1 unknown"),
        (lambda state: state.update({min(state): torch.zeros(3)}), "has shape"),
        (lambda state: state.update({min(state): state[min(state)].double()}), "has type F64"),
        (lambda state: state.update({min(state): state[min(state)] * float("nan")}), "not finite"),
    ],
)
def test_weights_that_do_not_fit(folder: Path, change: object, message: str) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)  # type: ignore[operator]
    save_file(state, path)
    with pytest.raises(CheckpointError, match=message):
        zoo.load(reseal(folder))


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x10\x00\x00\x00\x00\x00\x00\x00{}", b"\x80\x04K\x01."])
def test_files_that_are_no_safetensors(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CorruptFileError, match="safetensors"):
        zoo.load(reseal(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "resnet"},
        {"time_steps": 10**9},
        {"levels": "4"},
        {"surprise": 1},
        {"variant": {"decay": "import os"}},
        {"variant": {"form": 3}},
        {"variant": {"rounding": "up"}},
        {"variant": {"size": "n"}},
        {"decode": {"strides": [8, 16, 32], "reg_max": 16}},
        {"input": {"channels": 2, "image_size": [96, 96]}},
    ],
)
def test_configurations_that_do_not_fit(folder: Path, change: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((ConfigError, zoo.errors.UnknownModelError)):
        zoo.load(reseal(folder))


def test_configuration_and_graph_must_describe_the_same_detector(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"time_steps": 2}))
    with pytest.raises(CorruptFileError, match="same detector"):
        zoo.load(reseal(folder), backend="reference")
