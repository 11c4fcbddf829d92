"""Publishing and loading against a local Hub, with the real client: names, revisions, requests, and what the page says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import zoo
from tests.hub_server import HubServer, serve
from zoo.cards import CARDS
from zoo.cli import app
from zoo.errors import CorruptFileError, HubError, InvalidInputError, UnknownModelError
from zoo.hub import cached, publish, pull
from zoo.hub.reference import Reference, parse

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # the client's own, of its HTTP library
BUNDLED = zoo.list_models(available=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server that the environment names, and an empty cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    for name in ("ZOO_INDEX", "ZOO_HUB_NAMESPACE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def cli(*arguments: str | Path, code: int = 0) -> str:
    """Run the command line; its output."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return str(done.output)


def same_weights(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    assert a
    return a.keys() == b.keys() and all(torch.equal(tensor, b[key]) for key, tensor in a.items())


def test_every_bundled_model_is_published_and_loaded_by_name(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publish all, wipe the cache, load each through the index on two backends; then again with the server stopped."""
    for name in BUNDLED:
        assert "published" in cli("publish", name, f"spikes/{name}", "--tag", "v1", "--index", tmp_path / "index")
    bundled: dict[str, tuple[Any, Any]] = {name: (zoo.load(name), zoo.load(name, backend="norse")) for name in BUNDLED}
    monkeypatch.setenv("ZOO_INDEX", str(tmp_path / "index"))
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("models--*"))
    for name, (module, twin) in bundled.items():
        found = zoo.load(name)
        assert same_weights(found, module)
        other: Any = zoo.load(name, backend="norse")
        assert same_weights(other.runnable, twin.runnable)
        assert found.card is not None
        assert found.card.name == name
    requests = len(hub.log)
    hub.stopped = True
    hub.server_close()
    for name, (module, twin) in bundled.items():
        assert same_weights(zoo.load(name), module)
        again: Any = zoo.load(name, backend="norse")
        assert same_weights(again.runnable, twin.runnable)
    assert len(hub.log) == requests  # pinned and cached: no request


def test_results_through_the_hub_are_the_same(hub: HubServer) -> None:
    """Down to the boxes, on two backends."""
    from zoo.data import open_dataset

    cli("publish", "spikeyolo-digits", "spikes/digits", "--tag", "v1")
    sample: Any = open_dataset("digits", "test", length=1)[0]
    for backend in ("snntorch", "norse"):
        expected: Any = zoo.load("spikeyolo-digits", backend=backend).predict(sample.image)
        found: Any = zoo.load("hf-hub:spikes/digits@v1", backend=backend).predict(sample.image)
        assert found.to_dict() == expected.to_dict()
        assert len(expected)
    assert hub.store.repos["spikes/digits"].tags.keys() == {"v1"}


def test_the_page_says_what_a_reader_needs(hub: HubServer, tmp_path: Path) -> None:
    target = tmp_path / "dry"
    assert "nothing was published" in cli("publish", "ems-yolo-digits", "spikes/ems", "--dry-run", target)
    assert not hub.log
    assert {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} == {
        "README.md", "card.json", "config.json", "manifest.json", "model.nir", "model.safetensors", "trainable.safetensors",
        ".eval_results/nir-zoo.yaml",
    }  # fmt: skip
    text = (target / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0"
    card = zoo.info("ems-yolo-digits")
    (entry,) = front["model-index"]
    listed = [metric["value"] for result in entry["results"] for metric in result["metrics"]]
    assert listed
    assert listed == [metric.value for metric in card.metrics if "trainable" not in metric.conditions]
    results = yaml.safe_load((target / ".eval_results" / "nir-zoo.yaml").read_text())
    assert [result["value"] for result in results] == listed
    assert "T = 4, D = 1" in results[0]["notes"]
    for part in (
        'zoo.load("hf-hub:spikes/ems")', "nir.read(", "EMS-YOLO", "ICCV 2023", "Provenance", "effective ACs", "norse",
        "spikingjelly", "Certified for float32", "CC-BY-4.0", "NeuroBench",
    ):  # fmt: skip
        assert part in text
    with pytest.raises(InvalidInputError, match="not empty"):
        cli("publish", "ems-yolo-digits", "spikes/ems", "--dry-run", target)
    cli("publish", "ems-yolo-digits", "spikes/ems", "--dry-run", target, "--overwrite")


def test_what_is_published_equals_the_dry_run(hub: HubServer, tmp_path: Path) -> None:
    cli("publish", "ems-yolo-digits", "spikes/ems", "--dry-run", tmp_path / "dry")
    cli("publish", "ems-yolo-digits", "spikes/ems", "--private", "-m", "First")
    repo = hub.store.repos["spikes/ems"]
    assert repo.private
    there = {name: blob.data for name, blob in repo.at("main").files.items() if name != ".gitattributes"}
    assert there == {name: path.read_bytes() for name, path in publish.files_of(tmp_path / "dry").items()}
    assert repo.at("main").summary == "First"


def test_publishing_needs_an_intact_model_with_a_licence(hub: HubServer, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
        cli("publish", folder, "spikes/mine")
    from zoo.hub import bundle, integrity

    shutil.rmtree(folder)
    shutil.copytree(model_folder, folder)
    bundle.rewrite_card(folder, licence="")
    with pytest.raises(InvalidInputError, match="licence"):
        cli("publish", folder, "spikes/mine")
    (folder / "secrets.txt").write_text("token")
    integrity.write_manifest(folder)
    with pytest.raises(InvalidInputError, match=r"secrets\.txt"):
        cli("publish", folder, "spikes/mine", "--licence", "MIT")
    (folder / "secrets.txt").unlink()
    integrity.write_manifest(folder)
    assert not hub.log
    cli("publish", folder, "spikes/mine", "--licence", "MIT")
    assert zoo.info("hf-hub:spikes/mine").licence == "MIT"
    for name in ("mine", "a/b/c", "../x", "spikes/..", "spikes/a b"):
        with pytest.raises(InvalidInputError, match="organisation/name"):
            cli("publish", folder, name)


def test_files_that_a_new_version_lacks_are_deleted(hub: HubServer, model_folder: Path, tmp_path: Path) -> None:
    from zoo.hub import integrity

    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    cli("publish", folder, "spikes/mine", "--tag", "v1")
    (folder / "trainable.safetensors").unlink()
    integrity.write_manifest(folder)
    cli("publish", folder, "spikes/mine", "--tag", "v2")
    repo = hub.store.repos["spikes/mine"]
    assert "trainable.safetensors" in repo.at("v1").files
    assert "trainable.safetensors" not in repo.at("v2").files
    assert zoo.load("hf-hub:spikes/mine@v1", trainable=True).config.fused is False
    with pytest.raises(zoo.errors.FileMissingError, match="trainable"):
        zoo.load("hf-hub:spikes/mine@v2", trainable=True)


def test_revisions(hub: HubServer) -> None:
    cli("publish", "spiking-yolo-digits", "spikes/model", "--tag", "v1")
    commit = hub.store.repos["spikes/model"].at("v1").oid
    cli("publish", "ems-yolo-digits", "spikes/model", "--tag", "v2")
    assert zoo.info("hf-hub:spikes/model@v1").name == "spiking-yolo-digits"
    assert zoo.info("hf-hub:spikes/model").name == "ems-yolo-digits"  # main
    assert zoo.load("hf-hub:spikes/model", revision=commit).config.arch == "spiking-yolo-pico"
    assert zoo.load(f"hf-hub:spikes/model@{commit}").config.arch == "spiking-yolo-pico"
    with pytest.raises(InvalidInputError, match="give one"):
        zoo.load("hf-hub:spikes/model@v1", revision="v2")
    for bad in ("hf-hub:", "hf-hub:model", "hf-hub:a/b@", "hf-hub:a/b@../x", "hf-hub:../b", "hf-hub:a/b@v 1"):
        with pytest.raises(InvalidInputError):
            zoo.load(bad)
    with pytest.raises(InvalidInputError, match="no revisions"):
        zoo.load("ems-yolo-digits", revision="v1")
    assert parse("hf-hub:a/b@v1") == Reference("a/b", "v1")
    with pytest.raises(HubError, match="never downloaded"):
        pull.pull(Reference("spikes/model", "v1"), ["pytorch_model.bin"])


def test_namespace_and_index(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab serves a planned model under its own organisation, and its own index pins it."""
    with pytest.raises(UnknownModelError, match="import-official"):
        zoo.load("spikeyolo-coco")
    monkeypatch.setenv("ZOO_HUB_NAMESPACE", "spikes")
    with pytest.raises(HubError, match="spikes/spikeyolo-coco"):
        zoo.load("spikeyolo-coco")
    detector = zoo.create("spikeyolo-s", num_classes=80).fuse()
    from zoo.hub import bundle

    folder = bundle.write(
        tmp_path / "model",
        detector,
        card_fields={"name": "spikeyolo-coco", "dataset": "coco", "licence": "MIT"},
        require_graph=False,
    )
    cli("publish", folder, "spikes/spikeyolo-coco", "--index", tmp_path / "index")
    assert same_weights(zoo.load("spikeyolo-coco"), detector)
    monkeypatch.setenv("ZOO_INDEX", str(tmp_path / "index"))
    monkeypatch.delenv("ZOO_HUB_NAMESPACE")
    assert zoo.info("spikeyolo-coco").hub is not None
    requests = len(hub.log)
    assert "spikeyolo-coco" in zoo.list_models("*-coco", available=True)
    assert same_weights(zoo.load("spikeyolo-coco"), detector)
    assert len(hub.log) == requests  # cached through the other way already
    assert json.loads((tmp_path / "index" / "spikeyolo-coco" / "card.json").read_text())["hub"]["repo"] == (
        "spikes/spikeyolo-coco"
    )
    monkeypatch.setenv("ZOO_INDEX", str(tmp_path / "nowhere"))
    with pytest.raises(zoo.errors.FileMissingError, match="ZOO_INDEX"):
        zoo.list_models()


def test_pull_and_cache(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no model" in cli("cache")
    cli("publish", "spiking-yolo-digits", "spikes/model", "--tag", "v1")
    assert "4 files" in cli("pull", "hf-hub:spikes/model@v1")
    assert "this machine already" in cli("pull", "spiking-yolo-digits")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    requests = len(hub.log)
    assert zoo.load("hf-hub:spikes/model@v1", backend="norse").config.time_steps == 64
    assert len(hub.log) == requests
    (entry,) = cached.cached()
    assert (entry.repo, entry.refs, entry.damaged) == ("spikes/model", ("v1",), ())
    assert entry.commit == hub.store.repos["spikes/model"].at("v1").oid
    path = next((tmp_path / "cache").glob("**/snapshots/*/model.nir"))
    with path.resolve().open("r+b") as file:
        file.write(b"damage")
    assert "damaged: model.nir" in cli("cache", code=1)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    cli("pull", "hf-hub:spikes/model@v1", "--trainable")
    assert json.loads(cli("cache", "--json", "-"))[0]["damaged"] == []
    cli("cache", "--remove", "spikes/model")
    assert cached.cached() == []
    with pytest.raises(InvalidInputError, match="holds no model"):
        cli("cache", "--remove", "spikes/model")


def test_a_hub_without_xet_is_named(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the client library was imported before it could be told."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    with pytest.raises(HubError, match="HF_HUB_DISABLE_XET=1"):
        cli("publish", "spiking-yolo-digits", "spikes/model")
    assert set(hub.store.repos["spikes/model"].at("main").files) == {".gitattributes"}


def test_cards_of_planned_models_say_what_to_do() -> None:
    planned = [name for name in zoo.list_models() if not zoo.info(name).available]
    assert {"spikeyolo-coco", "ems-yolo-coco", "eas-snn-gen1", "spiking-yolo-voc", "spikingyolox-coco"} <= set(planned)
    for name in planned:
        card = zoo.info(name)
        assert not card.metrics  # nothing was measured
        assert all(metric.source for metric in card.paper_metrics)
        assert f"zoo train {card.arch}" in card.how_to_get
        assert f"zoo import-official {card.arch}" in card.how_to_get
        created = zoo.create(card.arch, num_classes=2)
        assert created.config.levels == card.levels
        assert created.image_size == card.image_size
        with pytest.raises(UnknownModelError, match="published yet"):
            zoo.load(name)
        assert not (CARDS / name / "model.safetensors").exists()
    assert os.environ.get("ZOO_HUB_NAMESPACE") is None
