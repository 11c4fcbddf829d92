"""Subgraphs put into the graph itself, under names that cannot collide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.fields import Note, Shape, shape_of, text
from zoo.nir_graphs.structure import sources_of, within_step

MAX_DEPTH = 64


@dataclass(frozen=True)
class DraftEdge:
    """An edge between flat names.

    Attributes:
        ends: (source, target).
        said: the edges of the original graph that it stands for; several where a subgraph's border was joined.
    """

    ends: tuple[str, str]
    said: frozenset[tuple[str, str]]


@dataclass
class Draft:
    """A graph on its way to its flat form.

    Attributes:
        nodes, edges: so far.
        notes: what was changed.
        expected: (node, shape of its output, border that states it).
        made: nodes that stand for nothing in the original graph.
    """

    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[DraftEdge] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    expected: list[tuple[str, Shape, str]] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def note(self, kind: str, sentence: str) -> None:
        """Remember a change."""
        self.notes.append(Note(kind, sentence))

    @property
    def sources(self) -> dict[str, list[str]]:
        """For each node the sources of its in-edges, in edge order."""
        return sources_of(self.nodes, (edge.ends for edge in self.edges))

    @property
    def targets(self) -> dict[str, list[str]]:
        """For each node the targets of its out-edges, in edge order."""
        return sources_of(self.nodes, (edge.ends[::-1] for edge in self.edges))

    @property
    def reads(self) -> dict[str, Sequence[str]]:
        """What each node reads within one step."""
        return within_step(self.sources, {n for n, node in self.nodes.items() if isinstance(node, nir.Delay)})

    def unique(self, name: str) -> str:
        """A name that no node has."""
        while name in self.nodes:
            name += "_"
        return name

    def remove(self, gone: Collection[str]) -> None:
        """Take nodes and their edges out."""
        self.nodes = {name: node for name, node in self.nodes.items() if name not in gone}
        self.edges = [edge for edge in self.edges if not set(edge.ends) & set(gone)]

    def delay(self, source: str, targets: Sequence[str], dt: float) -> str:
        """Put a Delay of one step between a node and some of its targets; what comes back is summed last."""
        name = self.unique(f"{source}.delay")
        self.nodes[name] = nir.Delay(np.asarray(dt))
        self.made.add(name)
        moved = [edge for edge in self.edges if edge.ends[0] == source and edge.ends[1] in targets]
        self.edges = [edge for edge in self.edges if edge not in moved]
        self.edges.append(DraftEdge((source, name), frozenset()))
        self.edges += [DraftEdge((name, edge.ends[1]), edge.said) for edge in moved]
        return name


def flattened(graph: nir.NIRGraph) -> Draft:
    """A draft without subgraphs.

    Raises:
        InvalidGraphError: an edge that names a missing node, a subgraph with several inputs or outputs, nesting without end.
    """
    draft = Draft()
    taken = set(graph.nodes)
    renamed: dict[str, str] = {}
    _put(draft, graph, "", taken, renamed, 0)
    if any(isinstance(node, nir.NIRGraph) for node in graph.nodes.values()):
        subgraphs = [name for name, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)]
        draft.note(
            "subgraph", f"put the nodes of the subgraphs {', '.join(map(repr, subgraphs))} into the graph itself"
        )
    for old, new in renamed.items():
        draft.note("name", f"the node {old!r} of a subgraph is called {new!r}, since another node has its name")
    for (source, target), count in Counter(edge.ends for edge in draft.edges).items():
        if count > 1:
            draft.note(
                "duplicate edge", f"the edge {source} -> {target} is there {count} times: its source is summed as often"
            )
    return draft


def _edges(graph: nir.NIRGraph, where: str) -> list[tuple[str, str]]:
    """The edge list as pairs of ``str`` that name nodes."""
    edges = []
    for edge in graph.edges:
        if isinstance(edge, str | bytes) or len(edge) != 2:
            raise InvalidGraphError(f"the edge {edge!r} of {where or 'the graph'} is no pair of node names")
        ends = tuple(text(end) for end in edge)
        for end in ends:
            if end not in graph.nodes:
                raise InvalidGraphError(
                    f"the edge {ends[0]} -> {ends[1]} of {where or 'the graph'} names the node {end!r}, which does not exist"
                )
        source, target = str(ends[0]), str(ends[1])
        if isinstance(graph.nodes[target], nir.Input):
            raise InvalidGraphError(
                f"the edge {source} -> {target} leads into an Input, where values only enter a graph"
            )
        if isinstance(graph.nodes[source], nir.Output):
            raise InvalidGraphError(
                f"the edge {source} -> {target} leads out of an Output, where values only leave a graph"
            )
        edges.append((source, target))
    return edges


def _put(
    draft: Draft, graph: nir.NIRGraph, prefix: str, taken: set[str], renamed: dict[str, str], depth: int
) -> dict[str, tuple[str, str]]:
    """Add the nodes and edges of a graph; returns the (entry, exit) node of each of its names."""
    if depth > MAX_DEPTH:
        raise InvalidGraphError(f"subgraphs are nested more than {MAX_DEPTH} levels deep (at {prefix[:80]!r})")
    ends: dict[str, tuple[str, str]] = {}
    borders: list[tuple[str, nir.NIRNode]] = []
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            flat = _unique(prefix + name, taken, renamed) if prefix else name
            draft.nodes[flat] = node
            ends[name] = (flat, flat)
            continue
        label = f"{prefix}{name}"
        _require_one_of_each(node, label)
        inner = _put(draft, node, f"{label}.", taken, renamed, depth + 1)
        entry, leave = (_border(node, kind) for kind in (nir.Input, nir.Output))
        ends[name] = (inner[entry][0], inner[leave][0])
        borders += [(inner[entry][0], node.nodes[entry]), (inner[leave][0], node.nodes[leave])]
    for source, target in _edges(graph, prefix[:-1]):
        said = frozenset({(prefix + source, prefix + target)})
        draft.edges.append(DraftEdge((ends[source][1], ends[target][0]), said))
    for flat, border in borders:
        _join(draft, flat, border)
    return ends


def _unique(name: str, taken: set[str], renamed: dict[str, str]) -> str:
    unique = name
    while unique in taken:
        unique += "_"
    taken.add(unique)
    if unique != name:
        renamed[name] = unique
    return unique


def _border(graph: nir.NIRGraph, kind: type) -> str:
    return next(name for name, node in graph.nodes.items() if isinstance(node, kind))


def _require_one_of_each(graph: nir.NIRGraph, label: str) -> None:
    for kind in (nir.Input, nir.Output):
        count = sum(isinstance(node, kind) for node in graph.nodes.values())
        if count != 1:
            raise InvalidGraphError(
                f"the subgraph {label!r} has {count} {kind.__name__} nodes; which one an edge means is ambiguous"
            )


def _join(draft: Draft, name: str, border: Any) -> None:
    """Replace an inner Input or Output, which only passes values on."""
    types = border.input_type if isinstance(border, nir.Input) else border.output_type
    stated = None if types is None else next(iter(types.values()), None)
    arriving = [edge for edge in draft.edges if edge.ends[1] == name]
    if len(arriving) == 1:
        source = arriving[0].ends[0]
        if stated is not None:
            draft.expected.append((source, _shape(name, stated), name))
        draft.expected = [(source if n == name else n, shape, b) for n, shape, b in draft.expected]
        draft.nodes.pop(name)
        draft.edges = [
            DraftEdge((source, edge.ends[1]), edge.said | arriving[0].said) if edge.ends[0] == name else edge
            for edge in draft.edges
            if edge is not arriving[0]
        ]
        return
    draft.nodes[name] = nir.Scale(np.asarray(1.0))
    draft.made.add(name)
    if stated is not None:
        draft.expected.append((name, _shape(name, stated), name))


def _shape(name: str, stated: Any) -> Shape:
    try:
        return shape_of(stated)
    except ValueError as error:
        raise InvalidGraphError(f"the border {name!r} of a subgraph states a shape that is none: {error}") from None
