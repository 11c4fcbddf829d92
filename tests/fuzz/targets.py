"""What is fuzzed: for each format good and hostile seeds, and the function that reads a file of it."""

from __future__ import annotations

import io as buffers
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CANARY = "canary"
"""A file that hostile code would make."""


@dataclass(frozen=True)
class Target:
    """One format.

    Attributes:
        name: of the format.
        file: name that the mutated bytes get.
        seeds: called with an empty folder; returns the contents that mutations start from.
        read: called with the folder that holds the file; raises ZooError, or says what it read.
        text: mutate as JSON, too.
        rebuild: called with mutated bytes to make them a file, for formats that wrap others.
    """

    name: str
    file: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path], Any]
    text: bool = False
    rebuild: Callable[[bytes], bytes] | None = None


# .nir


def nir_seeds(folder: Path) -> list[bytes]:
    """A good file, and every attack."""
    from tests.attacks import nir_corpus

    attacks = nir_corpus.write_all(folder)
    return [(folder / "good.nir").read_bytes()] * 10 + [*(path.read_bytes() for path in attacks)]


def read_nir(folder: Path) -> Any:
    """As the child process of ``untrusted.read`` does."""
    from tests.attacks.nir_corpus import SECRET
    from zoo.nir_graphs import io

    path = folder / "model.nir"
    with io.explained(path):
        graph = io.build(io.read_fields(path))
    weight = getattr(graph.nodes.get("linear"), "weight", None)
    if weight is not None and (weight == SECRET).any():
        raise AssertionError("it read another file")
    return sorted(graph.nodes)


# config.json


def config_seeds(_folder: Path) -> list[bytes]:
    """Those of the bundled models."""
    from zoo.cards import CARDS

    return [path.read_bytes() for path in sorted(CARDS.glob("*/config.json"))]


def read_config(folder: Path) -> Any:
    """Parse, and build the detector that it describes."""
    import torch

    from zoo.config import read_config as read
    from zoo.detectors.building import from_config

    config = read(folder / "config.json")
    with torch.random.fork_rng(devices=[]):
        return from_config(config).config.arch


# model.safetensors


def _weights() -> dict[str, Any]:
    import torch

    return {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(3), "count": torch.tensor(3)}


def safetensors_seeds(folder: Path) -> list[bytes]:
    """A good file, and hand-made headers."""
    from zoo.hub.bundle import save_weights

    save_weights(folder / "good", _weights())
    good = (folder / "good").read_bytes()
    entry = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
    headers = [
        {"a.bias": entry, "a.weight": entry},  # both at the same place
        {"a.bias": {**entry, "data_offsets": [4, 16]}},  # a hole
        {"a.bias": {**entry, "data_offsets": [0, 2**40]}},
        {"a.bias": {**entry, "shape": [2**40, 2**40]}},
        {"a.bias": {**entry, "dtype": "F1024"}},
        {"__metadata__": {"x": "y" * 1000}, "a.bias": entry},
    ]
    made = [_safetensors(json.dumps(header).encode(), bytes(12)) for header in headers]
    return [good, *made, (2**40).to_bytes(8, "little") + good[8:]]


def _safetensors(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def read_safetensors(folder: Path) -> Any:
    """With the strict check of keys, shapes and types."""
    from zoo.hub.bundle import load_weights

    expected = _weights()
    found = load_weights(folder / "model.safetensors", expected)
    if any(found[key].shape != value.shape or found[key].dtype != value.dtype for key, value in expected.items()):
        raise AssertionError("other weights than the architecture has")
    return sorted(found)


# The same file in a model folder, whose manifest knows the good one


def folder_seeds(folder: Path) -> list[bytes]:
    """The good file only."""
    from zoo.hub.bundle import save_weights

    save_weights(folder / "good", _weights())
    return [(folder / "good").read_bytes()]


def read_folder(folder: Path) -> Any:
    """Nothing but the good file is read."""
    import torch

    from zoo.hub.bundle import read_weights_of, save_weights
    from zoo.hub.integrity import write_manifest

    weights = folder / "model.safetensors"
    if not (folder / "manifest.json").exists():
        given = weights.read_bytes()
        save_weights(weights, _weights())
        write_manifest(folder)
        weights.write_bytes(given)
    expected = _weights()
    found = read_weights_of(folder, expected)
    if not all(torch.equal(found[key], value) for key, value in expected.items()):
        raise AssertionError("silently different weights")
    return sorted(found)


# manifest.json, beside the files that it lists


def manifest_seeds(folder: Path) -> list[bytes]:
    """A good one, and one that leads out."""
    from zoo.hub.integrity import write_manifest

    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(bytes(100))
    write_manifest(folder)
    good = (folder / "manifest.json").read_bytes()
    return [good, good.replace(b"config.json", b"../secret.txt"), good.replace(b"config.json", b"/etc/passwd")]


def read_manifest(folder: Path) -> Any:
    """Check the folder against it; whatever passes has the content that the manifest names."""
    from zoo.hub.integrity import check_manifest, digest

    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(bytes(100))
    found = check_manifest(folder)
    for name, entry in found.files.items():
        path = folder / name
        if path.resolve().parent != folder.resolve():
            raise AssertionError("it names a file outside of its folder")
        if digest(path) != entry:
            raise AssertionError("it passed a file that it does not describe")
    return sorted(found.files)


# Recordings of event cameras, and their boxes


def events_seeds(folder: Path) -> list[bytes]:
    """Recordings in files of Prophesee's kind."""
    import numpy as np

    from zoo.data.events import empty_events
    from zoo.data.prophesee import write_dat

    events = empty_events(50)
    events["t"], events["x"], events["y"] = np.arange(50) * 100, np.arange(50) % 30, np.arange(50) % 20
    long = events.copy()
    long["t"] += 2**32
    return [
        write_dat(folder / f"{index}.dat", part, (24, 32)).read_bytes() for index, part in enumerate((events, long))
    ]


def read_events(folder: Path) -> Any:
    """All events, and all windows."""
    from zoo.data.prophesee import DatFile, stream_windows

    file = DatFile(folder / "recording.dat")
    count = len(file.read())
    height, width = file.sensor_size
    for index, (_, events) in enumerate(stream_windows(file, 10_000, 20_000)):
        if len(events) and (int(events["x"].max()) >= width or int(events["y"].max()) >= height):
            raise AssertionError("an event lies outside of the sensor")
        if index > 100:
            break
    return count


def boxes_seeds(folder: Path) -> list[bytes]:
    """Boxes in ``.npy`` files: of today, of the first toolbox, and files of other kinds."""
    import numpy as np

    from zoo.data.prophesee import BOX_DTYPE, write_boxes

    boxes = np.zeros(5, BOX_DTYPE)
    boxes["w"] = boxes["h"] = 10
    names = [{"t": "ts"}.get(name, name) for name in BOX_DTYPE.names or ()]
    old = boxes.astype(np.dtype({"names": names, "formats": [BOX_DTYPE[index] for index in range(len(names))]}))
    np.save(folder / "old.npy", old)
    np.savez(folder / "many.npz", boxes=boxes)
    np.save(folder / "objects.npy", np.array([{"t": 1}], dtype=object))
    good = write_boxes(folder / "good.npy", boxes).read_bytes()
    huge = good.replace(b"(5,)", b"(9999999999999,)").replace(b"            \n", b"\n")
    return [good, huge, *((folder / name).read_bytes() for name in ("old.npy", "many.npz", "objects.npy"))]


def read_boxes(folder: Path) -> Any:
    """All boxes."""
    from zoo.data.prophesee import read_boxes as read

    return len(read(folder / "recording_bbox.npy"))


# Checkpoints of authors


def pickle_seeds(folder: Path) -> list[bytes]:
    """The pickles inside of checkpoints: state dicts, whole models, and hostile ones that would make a canary."""
    import os
    import pickle

    import torch
    from torch import nn

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {folder.parent / CANARY} {CANARY}",)

    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    seeds = []
    for content in (model.state_dict(), {"ema": model, "epoch": 3}, {"model": model.half().state_dict()}):
        buffer = buffers.BytesIO()
        torch.save(content, buffer)
        with zipfile.ZipFile(buffer) as archive:
            seeds.append(next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")))
    return [*seeds, *(pickle.dumps(content, protocol=2) for content in (Hostile(), {"model": {"weight": Hostile()}}))]


def pack_checkpoint(pickled: bytes) -> bytes:
    """A zip file as torch.save makes it, so that mutations reach the unpickler."""
    buffer = buffers.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for index, size in enumerate((24, 12, 12, 12, 12, 12, 8)):
            archive.writestr(f"archive/data/{index}", bytes(size))
    return buffer.getvalue()


def checkpoint_seeds(folder: Path) -> list[bytes]:
    """Whole checkpoints."""
    return [pack_checkpoint(pickled) for pickled in pickle_seeds(folder)]


def read_checkpoint(folder: Path) -> Any:
    """Without running anything in it."""
    import torch

    from zoo.importers.pickles import read_checkpoint as read

    found = read(folder / "checkpoint.pt")
    if not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise AssertionError("it holds something other than tensors")
    return sorted(found)


TARGETS = {
    target.name: target
    for target in (
        Target("nir", "model.nir", nir_seeds, read_nir),
        Target("config", "config.json", config_seeds, read_config, text=True),
        Target("safetensors", "model.safetensors", safetensors_seeds, read_safetensors),
        Target("folder", "model.safetensors", folder_seeds, read_folder),
        Target("manifest", "manifest.json", manifest_seeds, read_manifest, text=True),
        Target("events", "recording.dat", events_seeds, read_events),
        Target("boxes", "recording_bbox.npy", boxes_seeds, read_boxes),
        Target("pickle", "checkpoint.pt", pickle_seeds, read_checkpoint, rebuild=pack_checkpoint),
        Target("checkpoint", "checkpoint.pt", checkpoint_seeds, read_checkpoint),
    )
}
