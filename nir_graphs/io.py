"""Reading and writing ``.nir`` files, compactly and safely.

The layout is NIR's own: stock ``nir.read(path, type_check=False)`` loads every file that :func:`write` makes. Two things differ
from stock ``nir``:

* Neuron parameters of a convolutional network are constant arrays of (C, H, W). They are written as HDF5 datasets that have
  a fill value and no allocated storage, and are read back as broadcast views: a detector's file is as small as its weights.
* ``.nir`` is HDF5, and HDF5 files can point to other files on the reader's disk. Stock ``nir.read`` follows such pointers.
  Here, whatever leads out of the file or in circles, or is absurdly large, is refused before it is read.

That does not help against defects of the HDF5 library itself, which parses a file before anything here sees it. So files that
nobody has vouched for are read by :func:`zoo.nir_graphs.untrusted.read`, in a process of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from zoo.errors import CorruptGraphError, FileMissingError
from zoo.nir_graphs.fields import distinct, text
from zoo.nir_graphs.writing import write

MAX_BYTES = 4 * 2**30  # of stored values, once decompressed
MIN_BYTES = 256 * 2**20  # that even a tiny file may unpack to
MAX_RATIO = (
    32  # above that, of unpacked values to the size of the file: constant arrays that stock nir compressed reach it
)
MAX_ELEMENTS = 2**31  # of one array, also of one that is only a fill value
MAX_OBJECTS = 1_000_000
MAX_DEPTH = 16
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
    h5py.h5z.FILTER_SZIP,
}
"""What ``nir.write`` offers, and checksums."""
_NUMBERS = "biuf"
_RESETTABLE = {"IF", "LIF", "CubaLIF"}
_CUBA = {"CubaLI", "CubaLIF"}
_SINGLE = {"type", "stride", "padding", "dilation", "groups", "start_dim", "end_dim"}
"""Fields that some tools store as arrays of one, which nir cannot take."""


def read(path: str | Path) -> nir.NIRGraph:
    """Read a ``.nir`` file without following anything that leads out of it.

    Args:
        path: of the file, written by any version of NIR.

    Returns:
        The graph, not type-checked; constant arrays are read-only broadcast views.

    Raises:
        FileMissingError: no such file.
        CorruptGraphError: damaged, hostile, too large, or no NIR graph; the message says what was found.
    """
    path = Path(path)
    with explained(path):
        return build(read_fields(path))


def read_fields(path: Path) -> dict[str, Any]:
    """The content of a ``.nir`` file as dictionaries of arrays, strings and dictionaries: all of it that HDF5 is needed for.

    Raises:
        OSError, RuntimeError, ...: whatever :func:`explained` explains.
    """
    with h5py.File(path, "r") as file:
        return _Reader(budget(path)).root(file)


def budget(path: Path) -> int:
    """Bytes that the values of a file may take."""
    return min(MAX_BYTES, max(MIN_BYTES, MAX_RATIO * path.stat().st_size))


def build(fields: dict[str, Any]) -> nir.NIRGraph:
    """The graph that :func:`read_fields` has read.

    Raises:
        CorruptGraphError, ...: whatever :func:`explained` explains.
    """
    return _build_graph(fields, "")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into one error that names it.

    Raises:
        FileMissingError: no such file.
        CorruptGraphError: anything else.
    """
    if not path.is_file():
        raise FileMissingError(f"there is no file {path}")
    try:
        yield
    except CorruptGraphError as error:
        raise CorruptGraphError(f"{path} is not a NIR file that can be trusted: {error}") from None
    except Exception as error:  # HDF5, numpy and nir raise whatever comes up; all of it means that the file is no good
        raise CorruptGraphError(f"{path} is damaged or not a NIR file: {str(error) or type(error).__name__}") from error


def _member(group: h5py.Group, key: str) -> Any:
    link = group.get(key, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise CorruptGraphError(f"'{group.name}/{key}' is a {type(link).__name__}, which could lead out of the file")
    return group[key]


class _Reader:
    """Reads groups into dictionaries under a budget."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self.objects = 0
        self.seen: set[int] = set()

    def root(self, file: h5py.File) -> dict[str, Any]:
        """The graph of a file."""
        node = _member(file, "node")
        if not isinstance(node, h5py.Group):
            raise CorruptGraphError("it holds no group 'node'")
        return self.group(node, "node", "node")

    def group(self, group: h5py.Group, where: str, role: str, depth: int = 0) -> dict[str, Any]:
        """A group as a dictionary of arrays, strings and dictionaries.

        Args:
            group: to read.
            where: it is, for messages.
            role: ``node``, ``nodes`` or ``metadata``. Of metadata nothing is computed, so anything may be in it.
            depth: of nesting.
        """
        address = h5py.h5o.get_info(group.id).addr
        if address in self.seen:
            raise CorruptGraphError(f"{where} is linked more than once")
        self.seen.add(address)
        if depth > MAX_DEPTH:
            raise CorruptGraphError(f"{where} is nested more than {MAX_DEPTH} levels deep")
        content: dict[str, Any] = {}
        for key in group:
            self.objects += 1
            if self.objects > MAX_OBJECTS:
                raise CorruptGraphError(f"it holds more than {MAX_OBJECTS} objects")
            member = _member(group, key)
            inner = f"{where}/{key}"
            if isinstance(member, h5py.Group):
                content[key] = self.group(member, inner, _role(role, key), depth + 1)
            elif isinstance(member, h5py.Dataset):
                content[key] = self.dataset(member, inner, free=_role(role, key) == "metadata")
            else:
                raise CorruptGraphError(f"{inner} is neither a group nor a dataset")
        return content

    def dataset(self, dataset: h5py.Dataset, where: str, *, free: bool) -> Any:
        """A dataset as a string, or an array; one without storage as a broadcast view of its fill value.

        Args:
            dataset: to read.
            where: it is, for messages.
            free: it is metadata: it may be complex, empty, NaN or infinite.
        """
        self.require_contained(dataset, where)
        if dataset.shape is None:
            if free:
                return None
            raise CorruptGraphError(f"{where} is empty")
        if dataset.size > MAX_ELEMENTS:
            raise CorruptGraphError(f"{where} declares {dataset.size} elements; the limit is {MAX_ELEMENTS}")
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        if not is_text and dataset.dtype.kind not in _NUMBERS + ("c" if free else ""):
            raise CorruptGraphError(f"{where} has the type {dataset.dtype}, which is neither numbers nor text")
        if not is_text and dataset.size > 1 and dataset.id.get_storage_size() == 0:
            value = np.broadcast_to(np.asarray(dataset.fillvalue, dataset.dtype), dataset.shape)
        else:
            self.bytes += dataset.size * dataset.dtype.itemsize
            if self.bytes > self.budget:
                raise CorruptGraphError(
                    f"its values take more than {self.budget:,} bytes, the limit for a file of its size"
                )
            value = dataset[()]
        if is_text:
            return _decoded(value, where)
        if not free and np.asarray(value).dtype.kind == "f" and np.isnan(distinct(np.asarray(value))).any():
            raise CorruptGraphError(f"{where} contains NaN")
        return value

    @staticmethod
    def require_contained(dataset: h5py.Dataset, where: str) -> None:
        """All values lie in this very file, stored in a way that ``nir.write`` knows."""
        if dataset.external:
            raise CorruptGraphError(f"{where} keeps its values in another file")
        if dataset.is_virtual:
            raise CorruptGraphError(f"{where} is a virtual dataset, which could lead out of the file")
        plist = dataset.id.get_create_plist()
        for index in range(plist.get_nfilters()):
            number, _, _, name = plist.get_filter(index)
            if number not in _FILTERS:
                raise CorruptGraphError(
                    f"{where} is compressed by the filter {number} ({name.decode('utf8', 'replace')}); only gzip, lzf, szip, "
                    "shuffle and checksums are read"
                )


def _role(parent: str, key: str) -> str:
    """What a member of a group is for."""
    if parent in {"metadata", "nodes"}:
        return "node" if parent == "nodes" else "metadata"
    return key if key in {"metadata", "nodes"} else "node"


def _decoded(value: Any, where: str) -> Any:
    """Text of fixed or variable length as ``str``, or as an array of them."""
    try:
        if isinstance(value, bytes | str):
            return value.decode("utf8") if isinstance(value, bytes) else value
        array = np.asarray(value)
        texts = [part.decode("utf8") if isinstance(part, bytes) else str(part) for part in array.ravel()]
    except UnicodeDecodeError:
        raise CorruptGraphError(f"{where} holds text that is no UTF-8") from None
    decoded = np.empty(len(texts), object)
    decoded[:] = texts
    return decoded.reshape(array.shape)


def _build_graph(fields: dict[str, Any], where: str) -> nir.NIRGraph:
    label = repr(where[:-1]) if where else "the root"
    if text(_single(fields.get("type"))) != "NIRGraph" or not isinstance(fields.get("nodes"), dict):
        raise CorruptGraphError(f"{label} is not a NIRGraph with nodes and edges")
    nodes = {name: _build_node(part, f"{where}{name}") for name, part in fields["nodes"].items()}
    edges = _edges(fields.get("edges"), label)
    for source, target in edges:
        for end in (source, target):
            if end not in nodes:
                raise CorruptGraphError(f"the edge {source} -> {target} names the node {end!r}, which does not exist")
    return nir.NIRGraph(nodes, edges, metadata=_metadata(fields, label), type_check=False)


def _edges(value: Any, label: str) -> list[tuple[str, str]]:
    array = np.asarray(value)
    if array.size == 0 and value is not None:
        return []
    if array.dtype.kind != "O" or array.ndim != 2 or array.shape[1] != 2 or value is None:
        raise CorruptGraphError(f"the edges of {label} are no pairs of node names")
    return [(str(source), str(target)) for source, target in array]


def _metadata(fields: dict[str, Any], label: str) -> dict[str, Any]:
    values = fields.get("metadata", {})
    if not isinstance(values, dict):
        raise CorruptGraphError(f"the metadata of {label} is no group")
    return values


def _build_node(fields: Any, where: str) -> nir.NIRNode:
    kind = text(_single(fields.get("type"))) if isinstance(fields, dict) else None
    if kind == "NIRGraph":
        return _build_graph(fields, f"{where}.")
    if kind is None or kind not in nir.ir.__all_ir:
        raise CorruptGraphError(f"the node {where!r} has the type {kind!r}, which is no NIR primitive")
    single = _SINGLE | ({"input_shape"} if kind == "Conv1d" else set())
    fields = {key: _single(value) if key in single else value for key, value in fields.items()}
    fields["metadata"] = _metadata(fields, f"the node {where!r}")
    if kind in _RESETTABLE and "v_reset" not in fields and "v_threshold" in fields:
        # files older than nir 1.0.5; stock nir would allocate a dense array of zeros here
        like = np.asarray(fields["v_threshold"])
        fields["v_reset"] = np.broadcast_to(np.zeros((), like.dtype), like.shape)
    try:
        return _current_based(kind, fields) if kind in _CUBA else nir.dict2NIRNode(fields)
    except Exception as error:  # nir checks with assertions, and fails where arrays have other axes than it expects
        raise CorruptGraphError(
            f"the node {where!r} is not a valid {kind}: {str(error) or type(error).__name__}"
        ) from error


def _single(value: Any) -> Any:
    """An array of one as its element."""
    return value.reshape(())[()] if isinstance(value, np.ndarray) and value.size == 1 else value


def _current_based(kind: str, fields: dict[str, Any]) -> nir.NIRNode:
    """A CubaLI or CubaLIF without the dense array that nir makes of ``w_in``, however small the file."""
    arrays = {key: np.asarray(value) for key, value in fields.items() if key not in {"type", "metadata"}}
    shape = arrays["v_leak"].shape
    for key, array in arrays.items():
        if array.shape != shape and not (key == "w_in" and array.size == 1):
            raise ValueError(f"its {key} has the shape {array.shape}, its v_leak {shape}")
    one: dict[str, Any] = {key: distinct(array).ravel()[:1].reshape(()) for key, array in arrays.items()}
    node = nir.dict2NIRNode({**one, "type": kind, "metadata": fields["metadata"]})
    for key, array in arrays.items():
        setattr(node, key, np.broadcast_to(array.reshape(()) if array.size == 1 else array, shape))
    node.w_in = np.broadcast_to(np.asarray(node.w_in), shape)
    node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(shape)}
    return node


__all__ = ["budget", "build", "explained", "read", "read_fields", "write"]
