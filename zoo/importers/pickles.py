"""Official checkpoints as plain tensors, without running any code from them.

Authors publish whole models as PyTorch pickles, and unpickling runs whatever the file says. Here, a pickle can only name
things: classes of the model's own packages become inert stand-ins that hold their attributes, tensors are rebuilt from the
file's own storages, and anything else that it wants called is refused.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from zoo.errors import CheckpointError, CorruptFileError, FileMissingError

MAX_BYTES = 4 * 2**30
MAX_PICKLE = 64 * 2**20
MAX_DEPTH = 64

# Packages whose classes may appear in an official checkpoint. They are never imported.
_STAND_IN_ROOTS = {
    "ultralytics",
    "models",
    "utils",
    "yolo",
    "yolox",
    "spikingjelly",
    "timm",
    "einops",
    "argparse",
    "pathlib",
}
_STAND_IN_PREFIXES = ("torch.nn.", "torch.optim.", "torch.cuda.amp.")
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class StandIn:
    """Takes the place of an object of a foreign class: keeps attributes and items, does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Ignore whatever the file would construct it from."""
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        self.items: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__.setdefault("items", []).append((key, value))

    def append(self, value: Any) -> None:
        """Keep an item."""
        self.__dict__.setdefault("items", []).append(value)

    def extend(self, values: Any) -> None:
        """Keep items."""
        self.__dict__.setdefault("items", []).extend(values)


@dataclass(frozen=True)
class _Storage:
    """One-dimensional values of a storage in the file."""

    values: Tensor


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Tensor:
    """``torch._utils._rebuild_tensor_v2`` with every number checked against the storage."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or any(not isinstance(n, int) or n < 0 for n in numbers):
        raise CheckpointError("a tensor of the checkpoint is malformed")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    count = 1
    for n in size:
        count *= n
    if count and (last >= len(storage.values) or count > len(storage.values)):
        raise CheckpointError("a tensor of the checkpoint reaches beyond its storage")
    return storage.values.as_strided(tuple(size), tuple(stride), offset).clone()


def _rebuild_parameter(data: Any, *_rest: Any) -> Any:
    """``torch._utils._rebuild_parameter``: the bare tensor."""
    return data


_CALLABLES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_args: {},
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,  # as pickle protocol 2 calls it, which torch.save uses
    ("__builtin__", "frozenset"): frozenset,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _Unpickler(pickle.Unpickler):
    """Finds no class but those of the tables above."""

    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file, encoding="utf-8")
        self.archive = archive
        self.root = root
        self.storages: dict[str, _Storage] = {}
        self.read = 0

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) in _CALLABLES:
            return _CALLABLES[module_name, global_name]
        if module_name == "torch" and global_name in _STORAGES:
            return _STORAGES[global_name]
        if module_name == "torch" and isinstance(getattr(torch, global_name, None), torch.dtype):
            return getattr(torch, global_name)
        is_known = module_name.split(".", 1)[0] in _STAND_IN_ROOTS or module_name.startswith(_STAND_IN_PREFIXES)
        if is_known and global_name.isidentifier():
            return type(global_name, (StandIn,), {"__module__": "stand_in"})
        raise CheckpointError(
            f"the checkpoint wants to call {module_name}.{global_name}, which is no part of a model. It may be hostile; "
            "nothing in it was run"
        )

    def persistent_load(self, pid: Any, /) -> _Storage:
        try:
            kind, dtype, key, _location, count = pid
        except (TypeError, ValueError):
            raise CheckpointError("the checkpoint refers to a storage in an unknown way") from None
        if (
            kind != "storage"
            or not isinstance(dtype, torch.dtype)
            or not str(key).isalnum()
            or not isinstance(count, int)
        ):
            raise CheckpointError("the checkpoint refers to a storage in an unknown way")
        name = f"{self.root}/data/{key}"
        if name not in self.storages:
            content = _member(self.archive, name, MAX_BYTES - self.read)
            self.read += len(content)
            size = torch.empty((), dtype=dtype).element_size()
            if len(content) != count * size:
                raise CheckpointError(f"the storage {key} has {len(content)} bytes, but should have {count * size}")
            values = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self.storages[name] = _Storage(values)
        return self.storages[name]


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise CheckpointError(f"the checkpoint lacks its part {name}") from None
    # PyTorch never compresses; a compressed part could unpack to any size
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
        raise CheckpointError(f"the part {name} of the checkpoint is compressed or larger than {limit} bytes")
    return archive.read(info)


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict of an official checkpoint: key -> tensor, in the file's own types.

    Reads whole-model pickles (the averaged model ``ema`` wins over ``model``), plain state dicts saved by ``torch.save``, and
    ``.safetensors``.

    Raises:
        FileMissingError: no such file.
        CorruptFileError: damaged, or no checkpoint.
        CheckpointError: it wants code run, refers outside itself, or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise FileMissingError(f"there is no checkpoint {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CorruptFileError(f"{path} is not a safetensors file: {error}") from None
    content = _unpickle(path)
    return _state_dict(content, path)


def _require_small_memo(data: bytes) -> None:
    """Refuse a pickle that numbers its objects out of order: Python would make room for as many as the largest number says."""
    known = 0
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            if not isinstance(argument, int) or argument > known:
                raise CheckpointError(f"it numbers an object {argument} after {known} objects, as no checkpoint does")
            known = max(known, argument + 1)
        elif opcode.name == "MEMOIZE":
            known += 1


def _unpickle(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [name[: -len("/data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise CorruptFileError(f"{path} is a zip file, but not one that torch.save made")
            data = _member(archive, f"{roots[0]}/data.pkl", MAX_PICKLE)
            _require_small_memo(data)
            return _Unpickler(io.BytesIO(data), archive, roots[0]).load()
    except zipfile.BadZipFile:
        raise CorruptFileError(
            f"{path} is damaged or not a checkpoint of PyTorch 1.6 or later; older ones must be saved again"
        ) from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise CorruptFileError(f"{path} is damaged: {error}") from None
    except (
        RecursionError,
        MemoryError,
        OverflowError,
        OSError,
        RuntimeError,
        UnicodeError,
        NotImplementedError,
    ) as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from None


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    candidates = [content]
    if isinstance(content, Mapping):
        candidates = [content.get(key) for key in ("ema", "model", "state_dict")] + [content]
    for candidate in candidates:
        found = _tensors(candidate)
        if found:
            return found
    raise CheckpointError(f"{path} holds no weights: neither 'ema', 'model' or 'state_dict', nor tensors themselves")


def _tensors(candidate: Any) -> dict[str, Tensor]:
    if isinstance(candidate, StandIn):
        found: dict[str, Tensor] = {}
        _walk(candidate, "", found, 0)
        return found
    if isinstance(candidate, Mapping) and candidate and all(isinstance(value, Tensor) for value in candidate.values()):
        return {str(key): value for key, value in candidate.items()}
    return {}


def _walk(module: StandIn, prefix: str, found: dict[str, Tensor], depth: int) -> None:
    """Collect parameters and buffers as ``nn.Module.state_dict`` would."""
    if depth > MAX_DEPTH:
        raise CheckpointError(f"the model is nested more than {MAX_DEPTH} modules deep")
    transient = getattr(module, "_non_persistent_buffers_set", ())
    for table in ("_parameters", "_buffers"):
        for name, value in dict(getattr(module, table, {})).items():
            if isinstance(value, Tensor) and not (table == "_buffers" and name in transient):
                found[prefix + str(name)] = value
    for name, child in dict(getattr(module, "_modules", {})).items():
        if isinstance(child, StandIn):
            _walk(child, f"{prefix}{name}.", found, depth + 1)
