"""A Hub with one published model, an empty cache, and what a test does to them."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import zoo
from tests.hub_server.server import HubServer, serve
from tests.hub_server.store import Blob
from zoo.cards import CARDS
from zoo.hub import publish as publishing

MODEL = "spiking-yolo-digits"
REPO = f"spikes/{MODEL}"
TAG = f"hf-hub:{REPO}@v1"
RIGHT = "right bytes"


class Warnings(logging.Handler):
    """Keeps what the zoo warns of."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.texts.append(record.getMessage())


@dataclass
class World:
    """A Hub with one published model, and an empty cache.

    Attributes:
        hub: the server.
        folder: for everything.
        commit: of the published model.
        warnings: what was warned of.
    """

    hub: HubServer
    folder: Path
    commit: str
    warnings: Warnings = field(default_factory=Warnings)

    def load(self, name: str = TAG, backend: str = "snntorch") -> str:
        """Load a model: ``right bytes`` if its weights are those of the bundled one, or the error."""
        found: Any = zoo.load(name, backend=backend)
        if backend != "snntorch":
            expected = zoo.load(MODEL, backend=backend).info
            return RIGHT if found.info == expected else "silently different"
        expected_state = zoo.load(MODEL).state_dict()
        same = all(torch.equal(tensor, expected_state[key]) for key, tensor in found.state_dict().items())
        return RIGHT if same else "silently different"

    def again(self) -> str:
        """Load once more, without the fault."""
        self.hub.faults.clear()
        return self.load()

    def publish(self, name: str = MODEL, **settings: Any) -> publishing.Published:
        """Publish a bundled model."""
        with tempfile.TemporaryDirectory(dir=self.folder) as staged:
            target = Path(staged) / "repo"
            publishing.stage(CARDS / name, target, REPO)
            return publishing.publish(target, REPO, **settings)

    def cached(self, name: str) -> Path:
        """A file in the cache."""
        return next((self.folder / "cache").glob(f"models--*/snapshots/*/{name}"))

    def damage(self, name: str) -> None:
        """Flip a bit of a file in the cache."""
        content = self.cached(name).resolve()
        data = bytearray(content.read_bytes())
        data[len(data) // 2] ^= 1
        content.write_bytes(data)

    def replace(self, **files: bytes) -> None:
        """Commit other content, with _ for the dot, as somebody could who may write there."""
        repo = self.hub.store.repos[REPO]
        content = dict(repo.at("main").files)
        for name, data in files.items():
            content[name.replace("_", ".")] = Blob.regular(data)
        repo.tags["v1"] = repo.commit("changed", content).oid

    def index(self, **changes: str) -> None:
        """Let the index name this model, pinned."""
        done = self.publish()
        card = zoo.info(TAG)
        publishing.write_index_entry(self.folder / "index", card, done)
        path = self.folder / "index" / MODEL / "card.json"
        data = json.loads(path.read_text())
        path.write_text(json.dumps({**data, "hub": {**data["hub"], **changes}}))
        os.environ["ZOO_INDEX"] = str(self.folder / "index")


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A fresh one; the environment is put back in the end."""
    handler = Warnings()
    logger = logging.getLogger("zoo.hub")
    logger.addHandler(handler)
    settings = {"HF_HUB_CACHE": str(folder / "cache"), "HF_TOKEN": "hf_owner", "HF_HUB_DISABLE_XET": "1"}
    unset = ("ZOO_INDEX", "ZOO_HUB_NAMESPACE", "HF_HUB_OFFLINE")
    with mock.patch.dict(os.environ, settings), serve() as hub:
        for name in unset:
            os.environ.pop(name, None)
        os.environ["HF_ENDPOINT"] = hub.url
        made = World(hub, folder, "", handler)
        try:
            made.commit = made.publish(tag="v1").commit
            yield made
        finally:
            logger.removeHandler(handler)
