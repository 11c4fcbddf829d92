"""``.nir`` files that nobody has vouched for, read in a process of their own.

The HDF5 library is a large parser in C, and parser bugs strike before any check of ours can. So a child process opens the
file, with limits on memory, time and open files, and hands back plain arrays as ``.npy`` files and the structure as JSON, which
this process can read without trusting the child. If the child crashes, runs too long or wants too much, the file is refused.

``python -m zoo.nir_graphs.untrusted`` is the child: a line of JSON with ``path`` and ``out`` on standard input, a line with the
outcome on standard output, until the input ends.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from zoo.errors import CorruptGraphError
from zoo.nir_graphs import io

SECONDS = 10.0
"""Of processor time that any file may take; some damaged ones make the HDF5 library loop for ever."""
SECONDS_PER_BYTE = 1e-6
"""More for large ones: at least ten times what they need."""
STRUCTURE_LIMIT = 256 * 2**20  # bytes of JSON
_TOO_LONG = int(getattr(signal, "SIGXCPU", 24))
_MANY = 64  # elements from which an array is looked at for being constant


def read(path: str | Path) -> nir.NIRGraph:
    """Read a ``.nir`` file that may be hostile; what :func:`zoo.nir_graphs.io.read` does, in a process with limits.

    Args:
        path: of the file, written by any version of NIR.

    Returns:
        The graph, not type-checked; constant arrays are read-only broadcast views.

    Raises:
        FileMissingError: no such file.
        CorruptGraphError: damaged, hostile, too large, or no NIR graph; the message says what was found.
    """
    path = Path(path)
    with io.explained(path), tempfile.TemporaryDirectory(prefix="nir-zoo-") as folder:
        _run_child(path.absolute(), Path(folder))
        return io.build(_Unpacking(Path(folder)).structure())


def seconds(path: Path) -> float:
    """Of processor time that a file may take."""
    return SECONDS + SECONDS_PER_BYTE * path.stat().st_size


def command() -> list[str]:
    """How the child is started."""
    return [sys.executable, "-m", "zoo.nir_graphs.untrusted"]


def environment() -> dict[str, str]:
    """Of the child: the same packages, one thread, no plug-ins of HDF5."""
    paths = os.pathsep.join(str(Path(part).absolute()) for part in sys.path)
    return os.environ | {"PYTHONPATH": paths, "HDF5_PLUGIN_PATH": "::", "OPENBLAS_NUM_THREADS": "1"}


def _run_child(path: Path, folder: Path) -> None:
    request = json.dumps({"path": str(path), "out": str(folder)}) + "\n"
    limit = seconds(path)
    try:
        done = subprocess.run(  # noqa: S603 - this very interpreter
            command(),
            input=request,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=10 * limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CorruptGraphError(f"reading it takes longer than {10 * limit:.0f} seconds") from None
    if done.returncode == -_TOO_LONG:
        raise CorruptGraphError(f"reading it takes longer than {limit:.0f} seconds")
    if done.returncode < 0:
        raise CorruptGraphError(f"the HDF5 library crashed on it, or it took too much (signal {-done.returncode})")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CorruptGraphError(f"the process that reads it failed: {last}") from None
    if "error" in answer:
        raise CorruptGraphError(str(answer["error"]))


class _Packing:
    """Dictionaries of arrays, as JSON and ``.npy`` files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def structure(self, fields: dict[str, Any]) -> None:
        """Write everything."""
        (self.folder / "structure.json").write_text(json.dumps(self.pack(fields)), encoding="utf-8")

    def pack(self, value: Any) -> Any:
        """A value as JSON, with arrays beside it."""
        if isinstance(value, dict):
            return {"dict": {key: self.pack(inner) for key, inner in value.items()}}
        if value is None:
            return {"nothing": True}
        if isinstance(value, str):
            return {"text": value}
        array = np.asarray(value)
        if array.dtype.kind == "O":
            return {"texts": [str(part) for part in array.ravel()], "shape": array.shape}
        if array.size > _MANY and _is_constant(array):
            return {"constant": self.save(array.ravel()[0]), "shape": array.shape}
        return {"array": self.save(array)}

    def save(self, array: npt.ArrayLike) -> int:
        """Write an array; its number."""
        np.save(self.folder / f"{self.count}.npy", array, allow_pickle=False)
        self.count += 1
        return self.count - 1


def _is_constant(array: npt.NDArray[Any]) -> bool:
    """Whether all elements are the same, bit for bit."""
    if all(stride == 0 for stride in array.strides):
        return True
    plain = np.ascontiguousarray(array).ravel()
    raw = plain.view(np.dtype(f"V{plain.dtype.itemsize}")).view(np.uint8).reshape(len(plain), -1)
    return bool((raw == raw[0]).all())


class _Unpacking:
    """The way back, which trusts nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def structure(self) -> dict[str, Any]:
        """Everything."""
        path = self.folder / "structure.json"
        if path.stat().st_size > STRUCTURE_LIMIT:
            raise CorruptGraphError("it has too many parts")
        fields = self.unpack(json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(fields, dict):
            raise CorruptGraphError("it holds no group 'node'")
        return fields

    def unpack(self, packed: Any) -> Any:
        """A value."""
        if "dict" in packed:
            return {str(key): self.unpack(inner) for key, inner in packed["dict"].items()}
        if "nothing" in packed:
            return None
        if "text" in packed:
            return str(packed["text"])
        if "texts" in packed:
            return np.array([str(text) for text in packed["texts"]], dtype=object).reshape(packed["shape"])
        if "constant" in packed:
            return np.broadcast_to(self.load(packed["constant"]), tuple(int(side) for side in packed["shape"]))
        return self.load(packed["array"])[()]

    def load(self, number: int) -> npt.NDArray[Any]:
        """An array by its number."""
        array: npt.NDArray[Any] = np.load(self.folder / f"{int(number)}.npy", allow_pickle=False)
        if array.dtype.kind not in "biufc":
            raise CorruptGraphError(f"an array has the type {array.dtype}, which is neither numbers nor text")
        return array


def _limit() -> None:
    """Memory, time and files that this process may use; nothing where the system has no such limits."""
    try:
        import resource
    except ImportError:
        return
    for kind, wanted in (
        (resource.RLIMIT_AS, 2 * io.MAX_BYTES + 2**30),
        (resource.RLIMIT_FSIZE, 2 * io.MAX_BYTES),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _limit_time(path: Path) -> None:
    """Processor seconds for the next file."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds(path)), hard))


def _limit_memory(path: Path) -> None:
    """Address space for the next file: what is in use, and twice what its values may take."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * io.budget(path) + 64 * 2**20, hard))


def _answers(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        request = json.loads(line)
        path = Path(request["path"])
        _limit_time(path)
        _limit_memory(path)
        try:
            _Packing(Path(request["out"])).structure(io.read_fields(path))
            yield {}
        except MemoryError:
            yield {"error": "it needs more memory than a file of its size may take"}
        except Exception as error:  # noqa: BLE001 - whatever it is, the file is refused and the parent says so
            yield {"error": str(error) or type(error).__name__}


def main() -> None:
    """Serve requests."""
    _limit()
    for answer in _answers(iter(sys.stdin.readline, "")):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
