"""Mutations, driven by Hypothesis, and what comes of them."""

from __future__ import annotations

import copy
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.worker import SECONDS

ROOT = Path(__file__).resolve().parents[2]
MEMORY_LIMIT = 10**9
"""Bytes that reading any mutated file may take."""
NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    16,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63,
    2**64 - 1,
)
LEAVES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 255, 10**4, 10**9, 2**63, 10**400, 0.0, 0.5, -1e308, "", "a", "spiking", "../x", "\0",
    [], {}, [[]], "spikeyolo-n", "eas-snn-s", "spikingyolox-nano", "spiking-yolo-tiny", "ems-yolo-resnet10", "native",
    "official",
)  # fmt: skip


@dataclass
class Tally:
    """What came of one format.

    Attributes:
        format: its name.
        inputs: how many were tried.
        refused, read: with one clear error; as if it were good.
        contained: crashes and endless loops of the HDF5 library: the process that reads ``.nir`` ends, the file is refused.
        failures: crashes, hangs and escapes, with how to make them again.
        memory: largest, in bytes.
        seconds: for all.
    """

    format: str
    inputs: int = 0
    refused: int = 0
    read: int = 0
    contained: int = 0
    failures: list[str] = field(default_factory=list)
    memory: int = 0
    seconds: float = 0.0

    def row(self) -> dict[str, object]:
        """For results/fuzz.csv."""
        return {
            "format": self.format, "inputs": self.inputs, "refused": self.refused, "read": self.read,
            "contained": self.contained, "failures": len(self.failures), "memory_mb": self.memory / 1e6,
            "seconds": self.seconds,
        }  # fmt: skip


class Worker:
    """A process that reads; it is started anew where it dies."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, data: bytes) -> dict[str, Any]:
        """What comes of a file with this content."""
        if self.process is None:
            self.process = self._started()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        (self.folder / self.target.file).write_bytes(data)
        process.stdin.write("\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 10 * SECONDS)
        line = process.stdout.readline() if ready else ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.close()
        return {"outcome": "died" if ready else "hang", "trace": f"return code {process.returncode}", "rss": 0}

    def _started(self) -> subprocess.Popen[str]:
        paths = os.pathsep.join([str(ROOT), *sys.path])
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", self.target.name, str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=self.folder.parent,
            env=os.environ | {"PYTHONPATH": paths, "HDF5_PLUGIN_PATH": "::", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed after one to four changes of bytes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(
            st.sampled_from(("flip", "flip", "byte", "byte", "number", "number", "delete", "insert", "copy", "cut"))
        )
        if kind == "flip" and data:
            data[where] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and data:
            data[where] = draw(st.integers(0, 255))
        elif kind == "number":
            size = draw(st.sampled_from((1, 2, 4, 8)))
            number = draw(st.sampled_from(NUMBERS)) % 256**size
            data[where : where + size] = number.to_bytes(size, draw(st.sampled_from(("little", "big"))))
        elif kind == "delete":
            del data[where : where + draw(st.integers(1, 64))]
        elif kind == "insert":
            data[where:where] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "copy":
            start = draw(st.integers(0, max(len(data) - 1, 0)))
            data[where:where] = data[start : start + draw(st.integers(1, 64))]
        elif kind == "cut" and draw(st.integers(0, 3)) == 0:
            del data[where:]
    return bytes(data)


@st.composite
def mutated_json(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed after one to four changes of its values and keys."""
    data = json.loads(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(data))
        if not places:
            break
        inside, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(("leaf", "leaf", "leaf", "number", "text", "delete", "add")))
        if kind == "leaf":
            inside[key] = copy.deepcopy(draw(st.sampled_from(LEAVES)))
        elif kind == "number":
            inside[key] = draw(st.integers(-(2**64), 2**64) | st.integers(0, 100) | st.floats(allow_nan=False))
        elif kind == "text":
            inside[key] = draw(st.text(max_size=20))
        elif kind == "delete":
            del inside[key]
        elif isinstance(inside, dict):
            names = st.sampled_from(("ts", "tm", "form", "x", "a" * 200, "../x", "variant", key))
            inside[draw(names)] = copy.deepcopy(draw(st.sampled_from(LEAVES)))
        else:
            inside.extend(inside * draw(st.sampled_from((1, 1000))) if len(inside) < 100 else [])
    return json.dumps(data).encode()


def _places(data: Any) -> Any:
    """(container, key) of every value in JSON data."""
    for key in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, key
        yield from _places(data[key])


def fuzz(name: str, count: int, *, seed: int = 0, progress: Callable[[], None] = lambda: None) -> Tally:
    """Try mutated files of one format.

    Args:
        name: a key of ``TARGETS``.
        count: how many.
        seed: another one gives other files.
        progress: called after each.
    """
    target, tally = TARGETS[name], Tally(name)
    with tempfile.TemporaryDirectory(prefix="nir-zoo-fuzz-") as root:
        seeds_folder, folder = Path(root) / "seeds", Path(root) / "work"
        seeds_folder.mkdir()
        folder.mkdir()
        seeds = target.seeds(seeds_folder)
        strategy: Any = mutated(seeds)
        if target.text:
            strategy = strategy | mutated_json(seeds[:1] if name == "manifest" else seeds)
        worker = Worker(target, folder)

        @with_seed(seed)
        @settings(
            max_examples=count, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(strategy)
        def one(data: bytes) -> None:
            if tally.inputs < count:
                _try(worker, target.rebuild(data) if target.rebuild else data, tally)
                progress()

        started = time.monotonic()
        try:
            while tally.inputs < count:  # Hypothesis ends early where it finds no more new ones
                one()
                seed += 1
                one = with_seed(seed)(one)
        finally:
            worker.close()
        tally.seconds = time.monotonic() - started
    return tally


def _try(worker: Worker, data: bytes, tally: Tally) -> None:
    answer = worker(data)
    outcome = answer["outcome"]
    tally.inputs += 1
    tally.memory = max(tally.memory, answer.get("rss", 0))
    if outcome == "read":
        tally.read += 1
    elif outcome == "refused":
        tally.refused += 1
    elif outcome == "died" and tally.format == "nir":
        tally.contained += 1
    else:
        kept = Path(tempfile.mkdtemp(prefix=f"nir-zoo-{tally.format}-")) / worker.target.file
        kept.write_bytes(data)
        tally.failures.append(f"{outcome}: {kept}\n{answer.get('trace', '')}")
    if answer.get("rss", 0) > MEMORY_LIMIT and not any(text.startswith("memory") for text in tally.failures):
        tally.failures.append(f"memory: {answer['rss'] / 1e9:.2f} GB")
