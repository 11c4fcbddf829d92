"""Any NIR graph, not only the zoo's own, read and brought to the form that the zoo runs."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nir

from zoo.errors import GraphWarning
from zoo.nir_graphs import untrusted
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import Edge, FlatGraph
from zoo.nir_graphs.normalise import normalise

_SILENT = {"dt", "number form"}
"""Kinds of notes that say what holds, or how numbers were stored, but change no value."""


def prepare(
    path_or_graph: str | Path | nir.NIRGraph | FlatGraph, *, dt: Any = None, delayed_edges: Iterable[Edge] = ()
) -> FlatGraph:
    """Read a graph and normalise it.

    Args:
        path_or_graph: a ``.nir`` file, which is read in a process of its own, or a graph.
        dt: length of a step in the graph's unit of time; by default what the zoo's metadata says.
        delayed_edges: edges that act one step later, for cycles through several neurons.

    Raises:
        FileMissingError, CorruptGraphError: see :func:`zoo.nir_graphs.untrusted.read`.
        InvalidGraphError, InvalidInputError: see :func:`zoo.nir_graphs.normalise.normalise`.
    """
    graph = path_or_graph
    if isinstance(graph, str | Path):
        graph = untrusted.read(graph)
    return normalise(graph, dt=dt, delayed_edges=delayed_edges)


def warn_of(notes: Iterable[Note], stacklevel: int = 2) -> None:
    """One Python warning per kind of change: the first note of the kind, and how many more there are."""
    kinds: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        kinds[note.kind].append(note)
    for kind, found in kinds.items():
        if kind not in _SILENT:
            more = f" (and {len(found) - 1} more of this kind; see .notes)" if len(found) > 1 else ""
            warnings.warn(f"{found[0]}{more}", GraphWarning, stacklevel=stacklevel + 1)
