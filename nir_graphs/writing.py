"""Writing ``.nir`` files, compactly: whole or not at all, and nothing that NIR cannot hold. See :mod:`zoo.nir_graphs.io`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import numpy.typing as npt

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.fields import as_array, distinct
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import Graph
from zoo.support.files import replace_atomically

_TYPES = {"input_type", "output_type", "metadata"}
"""What a node derives from its fields, and what is written apart."""
_SMALL = 1024
"""Elements below which compressing an array is not worth it."""


def write(graph: Graph, path: str | Path) -> Path:
    """Write a graph as a ``.nir`` file, whole or not at all.

    Args:
        graph: any NIR graph, subgraphs included, or a ``FlatGraph``.
        path: of the file; an existing one is replaced once the new one is complete.

    Raises:
        InvalidGraphError: something that a ``.nir`` file cannot hold, for example a node name with ``/``, a missing value, NaN.
            Nothing has been written then.
    """
    plain = graph.to_nir() if isinstance(graph, FlatGraph) else graph
    _require_writable(plain, "")
    with replace_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("version", data=nir.version, dtype=h5py.string_dtype())
        _write_graph(file.create_group("node"), plain)
    return Path(path)


def stored_fields(node: nir.NIRNode) -> dict[str, Any]:
    """What a file holds of a node: its constructor arguments by name, without its types; Input and Output have a shape only."""
    if isinstance(node, nir.Input):
        return {"shape": _shape(node.input_type, "input")}
    if isinstance(node, nir.Output):
        return {"shape": _shape(node.output_type, "output")}
    fields = {f.name: getattr(node, f.name) for f in dataclasses.fields(node) if f.name not in _TYPES}
    if isinstance(node, nir.Flatten):
        fields["input_type"] = _shape(node.input_type, "input")
    return fields


def _shape(types: Any, key: str) -> Any:
    return None if types is None else types.get(key)


def _require_writable(graph: nir.NIRGraph, path: str) -> None:
    for name, node in graph.nodes.items():
        where = f"{path}{name}"
        _require_key(name, f"the node name {where!r}")
        if isinstance(node, nir.NIRGraph):
            _require_writable(node, f"{where}.")
            continue
        for field, value in stored_fields(node).items():
            if value is None and field in {"input_shape", "input_type"}:
                continue  # nir reads a node without it
            array = _plain(value, f"the {field} of node {where!r}")
            if array is None:
                raise InvalidGraphError(f"the node {where!r} has no {field}; NIR cannot store a missing value")
            if array.dtype.kind == "f" and np.isnan(distinct(array)).any():
                raise InvalidGraphError(f"the {field} of node {where!r} contains NaN")
        _require_metadata(node.metadata, f"the metadata of node {where!r}")
    _require_metadata(graph.metadata, "the metadata of the graph" if not path else f"the metadata of {path[:-1]!r}")
    for edge in graph.edges:
        for end in edge:
            if end not in graph.nodes:
                raise InvalidGraphError(f"the edge {edge[0]} -> {edge[1]} names the node {end!r}, which does not exist")


def _require_key(key: Any, what: str) -> None:
    """A name that HDF5 takes for exactly one step of a path."""
    if not isinstance(key, str) or key in {"", ".", ".."} or "\0" in key:
        raise InvalidGraphError(f"{what} cannot be written: it must be text that is not empty, '.' or '..'")
    if "/" in key:
        raise InvalidGraphError(
            f"{what} cannot be written: a .nir file is HDF5, which takes '/' for a separator; call it "
            f"{key.replace('/', '.')!r}, for example"
        )
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidGraphError(f"{what} cannot be written: it is no valid Unicode text") from None


def _require_metadata(values: Any, what: str) -> None:
    if values is None:
        return
    if not isinstance(values, Mapping):
        raise InvalidGraphError(f"{what} must be a dictionary, not {type(values).__name__}")
    for key, value in values.items():
        _require_key(key, f"the key {key!r} in {what}")
        inner = f"{key!r} in {what}"
        if isinstance(value, Mapping):
            _require_metadata(value, inner)
        else:
            _plain(value, inner)


def _plain(value: Any, what: str) -> npt.NDArray[Any] | None:
    """A value as an array that HDF5 can hold; text as an array of objects, None as None.

    Raises:
        InvalidGraphError: it is neither numbers nor text.
    """
    if value is None:
        return None
    try:
        array = as_array(value)
    except (TypeError, ValueError) as error:
        raise InvalidGraphError(f"{what} cannot be written: it is neither numbers nor text ({error})") from None
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.dtype.kind == "O" and not all(isinstance(part, str | bytes) for part in array.ravel()):
        raise InvalidGraphError(f"{what} cannot be written: {type(value).__name__} is neither numbers nor text")
    if array.dtype.kind not in "biufcO":
        raise InvalidGraphError(f"{what} cannot be written: it has the type {array.dtype}")
    return array


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
    for field, value in stored_fields(node).items():
        if value is not None:
            _write_value(group, field, value)
    _write_metadata(group, node.metadata)


def _write_metadata(group: h5py.Group, values: Mapping[str, Any] | None) -> None:
    if values:
        _write_values(group.create_group("metadata"), values)


def _write_values(group: h5py.Group, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            _write_values(group.create_group(key), value)
        else:
            _write_value(group, key, value)


def _write_value(group: h5py.Group, key: str, value: Any) -> None:
    array = _plain(value, key)
    if array is None:
        group.create_dataset(key, data=h5py.Empty("f4"))
    elif array.dtype.kind == "O":
        group.create_dataset(key, data=array if array.ndim else array.item(), dtype=h5py.string_dtype())
    elif array.size > 1 and distinct(array).size == 1 and array.dtype.kind in "biuf":
        # a fill value and no storage: readers see the whole array, the file holds one number
        fill = distinct(array).reshape(())[()]
        group.create_dataset(key, shape=array.shape, dtype=array.dtype, fillvalue=fill)
    elif _shrinks(array):
        group.create_dataset(key, data=array, compression="gzip", compression_opts=4, shuffle=True)
    else:
        group.create_dataset(key, data=array)


def _shrinks(array: npt.NDArray[Any]) -> bool:
    """Whether an array is large, and its numbers are short, as quantised weights are, or mostly zero."""
    if array.dtype.kind != "f" or array.size < _SMALL:
        return False
    short = array.dtype == np.float32 and not (array.view(np.uint32) & 0xFFF).any()
    return short or 2 * np.count_nonzero(array) <= array.size
