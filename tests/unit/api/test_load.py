"""Names, paths and arguments of the zoo's functions."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nir
import numpy as np
import pytest
import torch

import zoo
from zoo.cards import CARDS, index
from zoo.errors import (
    CheckpointError,
    FileMissingError,
    InvalidInputError,
    MissingFrameworkError,
    UnknownModelError,
    ZooError,
)

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector

BACKENDS = ["reference", "snntorch", "norse"]


def canvas() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def test_signatures_are_the_published_ones() -> None:
    def shape(name: str) -> tuple[list[str], dict[str, Any]]:
        parameters = inspect.signature(getattr(zoo, name)).parameters.values()
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        return positional, keywords

    missing = inspect.Parameter.empty
    assert shape("load") == (
        ["name_or_path"],
        {"backend": "snntorch", "revision": None, "device": "cpu", "dtype": None, "trainable": False},
    )
    assert shape("list_models") == (["pattern"], {"dataset": None, "available": False})
    assert shape("info") == (["name"], {})
    assert shape("create") == (["arch"], {"num_classes": missing, "time_steps": None, "levels": None})
    assert shape("import_official") == (
        ["arch", "checkpoint"],
        {"num_classes": missing, "time_steps": missing, "levels": None},
    )
    assert shape("verify") == (
        ["name_path_or_detector", "backends"],
        {"images": None, "time_steps": None, "dtype": "float32", "record": False},
    )
    assert shape("export") == (
        ["detector_or_name", "path"],
        {"image_size": None, "single_output": False, "profile": "full"},
    )
    assert shape("import_nir") == (
        ["path_or_graph"],
        {"backend": "snntorch", "dt": None, "dtype": None, "delayed_edges": (), "device": "cpu"},
    )


def test_loaded_weights_are_the_saved_ones(model_folder: Path, deployed: Detector) -> None:
    detector = zoo.load(model_folder)
    assert not detector.training
    assert detector.is_fused
    assert detector.card is not None
    assert detector.card.name == "lively"
    for key, tensor in deployed.state_dict().items():
        assert torch.equal(detector.state_dict()[key], tensor)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        for loaded, original in zip(detector(images), deployed(images), strict=True):
            assert torch.equal(loaded, original)


def test_loading_leaves_the_random_state_alone(model_folder: Path) -> None:
    before = torch.get_rng_state()
    zoo.load(model_folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_trainable_form(model_folder: Path, trainable: Detector) -> None:
    detector = zoo.load(model_folder, trainable=True)
    assert not detector.is_fused
    state = trainable.state_dict()
    assert detector.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in detector.state_dict().items())
    raw = detector.train()(torch.rand(2, 3, 64, 64))
    torch.stack([scale.square().mean() for scale in raw]).sum().backward()
    assert all(parameter.grad is not None for parameter in detector.parameters())


def test_trainable_form_that_was_not_kept(deployed: Detector, tmp_path: Path) -> None:
    from zoo.hub import bundle

    bundle.write(tmp_path / "model", deployed)
    with pytest.raises(FileMissingError, match="deployed weights only"):
        zoo.load(tmp_path / "model", trainable=True)


def test_dtype(model_folder: Path) -> None:
    assert zoo.load(model_folder, dtype="float64").dtype == torch.float64
    assert zoo.load(model_folder, dtype=torch.float64).dtype == torch.float64
    assert zoo.load(model_folder, backend="norse", dtype="float64").dtype == torch.float64
    assert zoo.load(model_folder).dtype == torch.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_the_same_surface(model_folder: Path, backend: str) -> None:
    detector = zoo.load(model_folder, backend=backend, dtype="float64")
    assert detector.class_names == tuple("0123456789")
    assert detector.image_size == (96, 96)
    assert detector.time_steps == 1
    assert detector.card is not None
    with torch.no_grad():
        raw = detector(torch.rand(2, 3, 96, 96))
    assert [tuple(scale.shape) for scale in raw] == [(2, 42, 12, 12), (2, 42, 6, 6), (2, 42, 3, 3)]
    assert detector.decode(raw).shape == (2, 14, 189)
    result: Any = detector.predict(canvas(), conf=0.01)
    assert set(result.detections.data) >= {"class_name"}


def test_backends_find_the_same(model_folder: Path) -> None:
    twins: list[Any] = [zoo.load(model_folder, backend=name, dtype="float64") for name in BACKENDS]
    found = [twin.predict(canvas(), conf=0.01) for twin in twins]
    assert len(found[0]) > 5
    for other in found[1:]:
        np.testing.assert_allclose(other.detections.xyxy, found[0].detections.xyxy, rtol=0, atol=1e-3)
        np.testing.assert_array_equal(other.detections.class_id, found[0].detections.class_id)
        np.testing.assert_allclose(other.detections.confidence, found[0].detections.confidence, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("spikeyolo-s-cocoo", UnknownModelError, "did you mean spikeyolo-s-coco"),
        ("zzz", UnknownModelError, "zoo list"),
        ("", UnknownModelError, "empty"),
        ("spikeyolo-s-coco", UnknownModelError, "no weights of spikeyolo-s-coco are published yet.*import-official"),
        ("hf-hub:org", InvalidInputError, "organisation/name"),
        ("./nowhere", FileMissingError, "no model folder"),
        ("some/where/else", FileMissingError, "no model folder"),
        ("model.nir", FileMissingError, "no model folder"),
        (Path("nowhere"), FileMissingError, "no model folder"),
    ],
)
def test_names_that_lead_nowhere(name: str | Path, error: type[ZooError], message: str) -> None:
    with pytest.raises(error, match=message):
        zoo.load(name)


def test_a_folder_in_the_way_does_not_hide_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spikeyolo-s-coco").mkdir()
    with pytest.raises(UnknownModelError, match="published yet"):
        zoo.load("spikeyolo-s-coco")
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileMissingError, match="not a model of the zoo"):
        zoo.load("mine")


def test_a_model_folder_wins_over_a_card(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "spikeyolo-s-coco")
    card = zoo.load("spikeyolo-s-coco").card
    assert card is not None
    assert card.name == "lively"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"revision": "main"}, "no revisions"),
        ({"dtype": "float16"}, "float32, float64"),
        ({"dtype": "int8"}, "float32, float64"),
        ({"device": "abacus"}, "abacus"),
        ({"backend": "norse", "trainable": True}, "snntorch"),
        ({"backend": "tensorflow"}, "tensorflow"),
    ],
)
def test_arguments_that_do_not_fit(model_folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        zoo.load(model_folder, **arguments)


def test_a_file_is_not_a_model_folder(tmp_path: Path) -> None:
    (tmp_path / "model.nir").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match="import_nir"):
        zoo.load(tmp_path / "model.nir")


def test_missing_framework_names_the_extra(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "norse", None)
    for module in [name for name in __import__("sys").modules if name.startswith(("zoo.adapters.norse", "norse."))]:
        monkeypatch.delitem(__import__("sys").modules, module)
    with pytest.raises(MissingFrameworkError, match=r"nir-zoo\[norse\]"):
        zoo.load(model_folder, backend="norse")


def test_cards_of_models_without_weights() -> None:
    names = zoo.list_models("*-coco")
    assert {"spikeyolo-l-coco", "spikeyolo-m-coco", "spikeyolo-n-coco", "spikeyolo-s-coco"} <= set(names)
    assert zoo.list_models("*-coco", available=True) == []
    assert zoo.list_models(dataset="COCO") == [*zoo.list_models("*-coco")]
    assert zoo.list_models("no-such-*") == []
    for name in names:
        assert "zoo " in zoo.info(name).how_to_get
        assert not list((CARDS / name).glob("*.safetensors"))


def test_coco_names_are_only_served_by_weights_trained_on_coco() -> None:
    for name, card in ((name, entry.card) for name, entry in index().items()):
        assert card.name == name
        assert ("coco" not in name) or card.dataset == "coco"


def test_info_of_unknown_names() -> None:
    with pytest.raises(UnknownModelError, match="spikeyolo-n-coco"):
        zoo.info("spikeyolo-n-cocoa")


def test_export_writes_what_any_tool_reads(model_folder: Path, tmp_path: Path) -> None:
    path = zoo.export(model_folder, tmp_path / "deep" / "model.nir", image_size=(64, 96))
    graph = nir.read(path, type_check=False)
    assert tuple(graph.nodes["input"].input_type["input"]) == (3, 64, 96)
    assert sum(isinstance(node, nir.Output) for node in graph.nodes.values()) == 3
    single = zoo.export(zoo.load(model_folder), tmp_path / "single.nir", image_size=64, single_output=True)
    outputs = [n for n in nir.read(single, type_check=False).nodes.values() if isinstance(n, nir.Output)]
    assert len(outputs) == 1


def test_export_refusals_write_nothing(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        zoo.export(model_folder, tmp_path / "model.nir", image_size=100)
    with pytest.raises(InvalidInputError, match="snnTorch detectors"):
        zoo.export(zoo.load(model_folder, backend="norse"), tmp_path / "model.nir")
    official = zoo.create("spikeyolo-pico", num_classes=2, time_steps=2, form="official")
    with pytest.raises(zoo.errors.ExportError):
        zoo.export(official, tmp_path / "model.nir")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_import_nir_runs_the_exported_file(model_folder: Path, deployed: Detector, backend: str) -> None:
    runnable = zoo.import_nir(model_folder / "model.nir", backend=backend)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        outputs = runnable(images[None])
        expected = deployed(images)
    assert [tuple(output.shape) for output in outputs.values()] == [(1, *raw.shape) for raw in expected]


def test_import_nir_refusals(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        zoo.import_nir(tmp_path / "nothing.nir")
    (tmp_path / "broken.nir").write_bytes(b"\x89HDF\r\n\x1a\n broken")
    with pytest.raises(zoo.errors.CorruptGraphError):
        zoo.import_nir(tmp_path / "broken.nir")


def test_import_official_checks_the_checkpoint() -> None:
    with pytest.raises(CheckpointError):
        zoo.import_official("spikeyolo-n", {"model.0.weight": torch.zeros(1)}, num_classes=80, time_steps=1)
    with pytest.raises(FileMissingError):
        zoo.import_official("spikeyolo-n", "nothing.pt", num_classes=80, time_steps=1)
    with pytest.raises(UnknownModelError):
        zoo.import_official("spikeyolo-q", {}, num_classes=80, time_steps=1)
