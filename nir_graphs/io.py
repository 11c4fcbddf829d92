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

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import numpy.typing as npt

from zoo.errors import CorruptGraphError, FileMissingError, InvalidGraphError
from zoo.support.files import replace_atomically

MAX_BYTES = 4 * 2**30  # of stored values, once decompressed
MIN_BYTES = 256 * 2**20  # that even a tiny file may unpack to
MAX_RATIO = (
    32  # above that, of unpacked values to the size of the file: constant arrays that stock nir compressed reach it
)
MAX_ELEMENTS = 2**31  # of one array, also of one that is only a fill value
MAX_OBJECTS = 1_000_000
MAX_DEPTH = 16
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_RESETTABLE = {"IF", "LIF", "CubaLIF"}


def write(graph: nir.NIRGraph, path: str | Path) -> Path:
    """Write a graph as a ``.nir`` file, whole or not at all.

    Args:
        graph: any NIR graph, subgraphs included.
        path: of the file; an existing one is replaced once the new one is complete.

    Raises:
        InvalidGraphError: something that a ``.nir`` file cannot hold: a node name with ``/``, a missing value, NaN.
    """
    _require_writable(graph, "")
    with replace_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("version", data=nir.version, dtype=h5py.string_dtype())
        _write_graph(file.create_group("node"), graph)
    return Path(path)


def _fields(node: nir.NIRNode) -> dict[str, Any]:
    """Constructor arguments of a node by name, without its types; Input and Output have a shape only."""
    if isinstance(node, nir.Input):
        return {"shape": np.asarray(node.input_type["input"])}
    if isinstance(node, nir.Output):
        return {"shape": np.asarray(node.output_type["output"])}
    names = [f.name for f in dataclasses.fields(node) if f.name not in {"input_type", "output_type", "metadata"}]
    fields = {name: getattr(node, name) for name in names}
    if isinstance(node, nir.Flatten):
        fields["input_type"] = np.asarray(node.input_type["input"])
    return fields


def _require_writable(graph: nir.NIRGraph, path: str) -> None:
    for name, node in graph.nodes.items():
        where = f"{path}{name}"
        if not name or "/" in name or name in {".", ".."}:
            raise InvalidGraphError(f"the node name {where!r} cannot be written: HDF5 takes '/' for a path separator")
        if isinstance(node, nir.NIRGraph):
            _require_writable(node, f"{where}.")
            continue
        for field, value in _fields(node).items():
            if value is None and field != "input_shape":
                raise InvalidGraphError(f"the node {where!r} has no {field}; NIR cannot store a missing value")
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and np.isnan(_distinct(value)).any():
                raise InvalidGraphError(f"the {field} of node {where!r} contains NaN")
    for edge in graph.edges:
        for end in edge:
            if end not in graph.nodes:
                raise InvalidGraphError(f"the edge {edge[0]} -> {edge[1]} names the node {end!r}, which does not exist")


def _distinct(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The part of an array that is not repeated by broadcasting."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def _write_graph(group: h5py.Group, graph: nir.NIRGraph) -> None:
    group.create_dataset("type", data="NIRGraph", dtype=h5py.string_dtype())
    edges = np.array([list(edge) for edge in graph.edges], dtype=object).reshape(-1, 2)
    group.create_dataset("edges", data=edges, dtype=h5py.string_dtype())
    nodes = group.create_group("nodes")
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            _write_graph(nodes.create_group(name), node)
        else:
            _write_node(nodes.create_group(name), node)
    _write_metadata(group, graph.metadata)


def _write_node(group: h5py.Group, node: nir.NIRNode) -> None:
    group.create_dataset("type", data=type(node).__name__, dtype=h5py.string_dtype())
    for field, value in _fields(node).items():
        if value is not None:
            _write_value(group, field, value)
    _write_metadata(group, node.metadata)


def _write_metadata(group: h5py.Group, values: dict[str, Any] | None) -> None:
    if values:
        _write_values(group.create_group("metadata"), values)


def _write_values(group: h5py.Group, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _write_values(group.create_group(key), value)
        else:
            _write_value(group, key, value)


def _write_value(group: h5py.Group, key: str, value: Any) -> None:
    if isinstance(value, str):
        group.create_dataset(key, data=value, dtype=h5py.string_dtype())
        return
    array = np.asarray(value)
    distinct = _distinct(array)
    if array.size > 1 and distinct.size == 1 and array.dtype.kind in "biuf":
        # a fill value and no storage: readers see the whole array, the file holds one number
        group.create_dataset(key, shape=array.shape, dtype=array.dtype, fillvalue=distinct.item())
    elif _is_coarse(array):
        group.create_dataset(key, data=array, compression="gzip", compression_opts=4, shuffle=True)
    else:
        group.create_dataset(key, data=array)


def _is_coarse(array: npt.NDArray[Any]) -> bool:
    """Whether an array is large and its numbers are short, as quantised weights are: then it shrinks to a quarter."""
    return array.dtype == np.float32 and array.size >= 1024 and not (array.view(np.uint32) & 0xFFF).any()


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
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        UnicodeError,
        AttributeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise CorruptGraphError(f"{path} is damaged or not a NIR file: {error}") from error


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
        return self.group(node, "node", 0)

    def group(self, group: h5py.Group, where: str, depth: int) -> dict[str, Any]:
        """A group as a dictionary of arrays, strings and dictionaries."""
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
                content[key] = self.group(member, inner, depth + 1)
            elif isinstance(member, h5py.Dataset):
                content[key] = self.dataset(member, inner)
            else:
                raise CorruptGraphError(f"{inner} is neither a group nor a dataset")
        return content

    def dataset(self, dataset: h5py.Dataset, where: str) -> Any:
        """A dataset as a string, or an array; one without storage as a broadcast view of its fill value."""
        if dataset.external:
            raise CorruptGraphError(f"{where} keeps its values in another file")
        if dataset.is_virtual:
            raise CorruptGraphError(f"{where} is a virtual dataset, which could lead out of the file")
        plist = dataset.id.get_create_plist()
        for index in range(plist.get_nfilters()):
            if plist.get_filter(index)[0] not in _FILTERS:
                raise CorruptGraphError(f"{where} uses a filter other than gzip, shuffle and checksum")
        if dataset.shape is None:
            raise CorruptGraphError(f"{where} is empty")
        if dataset.size > MAX_ELEMENTS:
            raise CorruptGraphError(f"{where} declares {dataset.size} elements; the limit is {MAX_ELEMENTS}")
        text = h5py.check_string_dtype(dataset.dtype) is not None
        if not text and dataset.dtype.kind not in "biuf":
            raise CorruptGraphError(f"{where} has the type {dataset.dtype}, which no NIR file uses")
        if not text and dataset.size > 1 and dataset.id.get_storage_size() == 0:
            return self.finite(np.broadcast_to(np.asarray(dataset.fillvalue, dataset.dtype), dataset.shape), where)
        self.bytes += dataset.size * dataset.dtype.itemsize
        if self.bytes > self.budget:
            raise CorruptGraphError(
                f"its values take more than {self.budget:,} bytes, the limit for a file of its size"
            )
        value = dataset[()]
        if isinstance(value, bytes):
            return value.decode("utf8")
        return value if text else self.finite(value, where)

    @staticmethod
    def finite(value: Any, where: str) -> Any:
        """The value, unless it holds NaN."""
        array = np.asarray(value)
        if array.dtype.kind == "f" and np.isnan(_distinct(array)).any():
            raise CorruptGraphError(f"{where} contains NaN")
        return value


def _build_graph(fields: dict[str, Any], where: str) -> nir.NIRGraph:
    if fields.get("type") != "NIRGraph" or not isinstance(fields.get("nodes"), dict) or "edges" not in fields:
        raise CorruptGraphError(f"{where or 'the root'} is not a NIRGraph with nodes and edges")
    nodes = {name: _build_node(part, f"{where}{name}") for name, part in fields["nodes"].items()}
    edges = [(_text(a), _text(b)) for a, b in np.asarray(fields["edges"]).reshape(-1, 2)]
    for source, target in edges:
        for end in (source, target):
            if end not in nodes:
                raise CorruptGraphError(f"the edge {source} -> {target} names the node {end!r}, which does not exist")
    return nir.NIRGraph(nodes, edges, metadata=fields.get("metadata", {}), type_check=False)


def _build_node(fields: Any, where: str) -> nir.NIRNode:
    kind = fields.get("type") if isinstance(fields, dict) else None
    if kind == "NIRGraph":
        return _build_graph(fields, f"{where}.")
    if not isinstance(kind, str) or kind not in nir.ir.__all_ir:
        raise CorruptGraphError(f"the node {where!r} has the type {kind!r}, which is no NIR primitive")
    if kind in _RESETTABLE and "v_reset" not in fields and "v_threshold" in fields:
        # files older than nir 1.0.5; stock nir would allocate a dense array of zeros here
        like = np.asarray(fields["v_threshold"])
        fields = {**fields, "v_reset": np.broadcast_to(np.zeros((), like.dtype), like.shape)}
    try:
        return nir.dict2NIRNode(fields)
    except (TypeError, ValueError, KeyError, AssertionError, AttributeError, IndexError) as error:
        raise CorruptGraphError(f"the node {where!r} is not a valid {kind}: {error}") from error


def _text(value: Any) -> str:
    return value.decode("utf8") if isinstance(value, bytes) else str(value)
