"""Subgraphs put into the graph itself, under names that cannot collide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import nir
import numpy as np

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.fields import Note, Shape, shape_of, text
from zoo.nir_graphs.structure import sources_of, within_step

MAX_DEPTH = 64
MAX_SIZE = 1_000_000
"""Nodes and edges of a flat graph: subgraphs that hold the same subgraph twice, level by level, grow exponentially."""
Pair = tuple[str, str]


@dataclass(frozen=True)
class DraftEdge:
    """An edge between flat names.

    Attributes:
        ends: (source, target).
        said: the edge of the original graph that it stands for, None for new ones.
        via: the border of a subgraph that it came out of, before that was joined.
    """

    ends: Pair
    said: Pair | None = None
    via: str | None = None


@dataclass
class Draft:
    """A graph on its way to its flat form.

    Attributes:
        nodes, edges: so far.
        notes: what was changed.
        joined: the in-edge of each Input and Output of a subgraph that had only one, and is no node any more.
        sums: Inputs and Outputs of subgraphs with several in-edges or none, which have become Scale(1).
        expected: (node, shape of its output, border that states it).
        made: nodes that stand for no computation of the original graph.
    """

    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[DraftEdge] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    joined: dict[str, DraftEdge] = field(default_factory=dict)
    sums: set[str] = field(default_factory=set)
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

    def add(self, name: str, node: nir.NIRNode) -> str:
        """Add a node that stands for no computation of the original graph, under a name that no node has."""
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        self.made.add(name)
        return name

    def remove(self, gone: Collection[str]) -> None:
        """Take nodes and their edges out."""
        gone = set(gone)
        self.nodes = {name: node for name, node in self.nodes.items() if name not in gone}
        self.edges = [edge for edge in self.edges if gone.isdisjoint(edge.ends)]
        self.expected = [item for item in self.expected if item[0] not in gone]

    def delay(self, late: Collection[int], dt: float) -> dict[str, str]:
        """Put Delays of one step on edges, given by their places in the edge list.

        One Delay serves all these edges of a node. What comes late is summed last, in the order of the edge list.

        Returns:
            The name of the Delay of each source.
        """
        late = set(late)
        names: dict[str, str] = {}
        edges, moved = [], []
        for place, edge in enumerate(self.edges):
            if place not in late:
                edges.append(edge)
                continue
            source, target = edge.ends
            if source not in names:
                names[source] = self.add(f"{source}.delay", nir.Delay(np.asarray(dt)))
            moved.append(replace(edge, ends=(names[source], target)))
        self.edges = [*edges, *(DraftEdge(ends) for ends in names.items()), *moved]
        return names

    def saying(self, pairs: Collection[Pair]) -> dict[Pair, list[int]]:
        """The places of the edges that stand for edges of the original graph; flat names come first."""
        found: dict[Pair, list[int]] = {pair: [] for pair in pairs}
        for place, edge in enumerate(self.edges):
            if edge.ends in found:
                found[edge.ends].append(place)
        wanted = {pair for pair, places in found.items() if not places}
        through: dict[str, frozenset[Pair]] = {}
        for place, edge in enumerate(self.edges):
            for pair in self._said(edge, wanted, through):
                found[pair].append(place)
        return found

    def _said(self, edge: DraftEdge, wanted: set[Pair], through: dict[str, frozenset[Pair]]) -> frozenset[Pair]:
        """Those wanted edges that an edge stands for, itself or through joined borders; ``through`` remembers borders."""
        chain = [edge]
        while (border := chain[-1].via) is not None and border not in through:
            chain.append(self.joined[border])
        said = frozenset[Pair]() if border is None else through[border]
        for before, after in pairwise(reversed(chain)):
            said |= wanted & {before.said}
            through[str(after.via)] = said
        return said | (wanted & {edge.said})


def flattened(graph: nir.NIRGraph) -> Draft:
    """A draft without subgraphs.

    Raises:
        InvalidGraphError: an edge that names a missing node, a subgraph with several inputs or outputs, nesting without end.
    """
    if _size(graph, 0, {}) > MAX_SIZE:
        raise InvalidGraphError(f"the graph has more than {MAX_SIZE} nodes and edges, those of its subgraphs included")
    draft = Draft()
    flattening = _Flattening(draft, set(graph.nodes))
    flattening.put(graph)
    _join_borders(draft, flattening.borders)
    subgraphs = [name for name, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)]
    if subgraphs:
        draft.note(
            "subgraph", f"put the nodes of the subgraphs {', '.join(map(repr, subgraphs))} into the graph itself"
        )
    for old, new in flattening.renamed:
        draft.note("name", f"the node {old!r} of a subgraph is called {new!r}, since another node has its name")
    for (source, target), count in Counter(edge.ends for edge in draft.edges).items():
        if count > 1:
            draft.note(
                "duplicate edge", f"the edge {source} -> {target} is there {count} times: its source is summed as often"
            )
    return draft


def _size(graph: nir.NIRGraph, depth: int, known: dict[int, int]) -> int:
    """Nodes and edges of a graph with its subgraphs; ``known`` has those of subgraphs, which may occur many times."""
    if depth > MAX_DEPTH:
        raise InvalidGraphError(f"subgraphs are nested more than {MAX_DEPTH} levels deep")
    if id(graph) not in known:
        inner = [node for node in graph.nodes.values() if isinstance(node, nir.NIRGraph)]
        known[id(graph)] = len(graph.nodes) + len(graph.edges) + sum(_size(node, depth + 1, known) for node in inner)
    return known[id(graph)]


def _edges(graph: nir.NIRGraph, where: str) -> list[Pair]:
    """The edge list as pairs of ``str`` that name nodes."""
    edges = []
    if isinstance(graph.edges, set | frozenset | Mapping):
        raise InvalidGraphError(
            f"the edges of {where} are a {type(graph.edges).__name__}; they must be a list, since their order is that of sums"
        )
    for edge in graph.edges:
        try:
            ends = () if isinstance(edge, str | bytes) else tuple(edge)
        except TypeError:
            ends = ()
        if len(ends) != 2:
            raise InvalidGraphError(f"the edge {edge!r} of {where} is no pair of node names")
        source, target = (_name(end) for end in ends)
        for end in (source, target):
            if end not in graph.nodes:
                raise InvalidGraphError(
                    f"the edge {source} -> {target} of {where} names the node {end!r}, which does not exist"
                )
        _require_ends(graph, source, target, where)
        edges.append((source, target))
    return edges


def _name(end: Any) -> str:
    word = text(end)
    return repr(end) if word is None else word


def _require_ends(graph: nir.NIRGraph, source: str, target: str, where: str) -> None:
    if isinstance(graph.nodes[target], nir.Input):
        raise InvalidGraphError(
            f"the edge {source} -> {target} of {where} leads into an Input, where values only enter a graph"
        )
    if isinstance(graph.nodes[source], nir.Output):
        raise InvalidGraphError(
            f"the edge {source} -> {target} of {where} leads out of an Output, where values only leave a graph"
        )


@dataclass
class _Flattening:
    """Adds a graph and its subgraphs to a draft.

    Attributes:
        draft: to be filled.
        taken: names that are in use.
        renamed: (name, other name) of the nodes that could not have theirs.
        borders: Inputs and Outputs of subgraphs.
    """

    draft: Draft
    taken: set[str]
    renamed: list[tuple[str, str]] = field(default_factory=list)
    borders: dict[str, nir.NIRNode] = field(default_factory=dict)

    def put(self, graph: nir.NIRGraph, prefix: str = "") -> dict[str, tuple[str, str]]:
        """Add a graph; returns the (entry, exit) node of each of its names."""
        where = f"the subgraph {prefix[:-1]!r}" if prefix else "the graph"
        ends: dict[str, tuple[str, str]] = {}
        for name, node in graph.nodes.items():
            if not isinstance(name, str):
                raise InvalidGraphError(f"{where} has a node with the name {name!r}; names must be text")
            ends[name] = self._node(prefix, name, node)
        self.draft.edges += [
            DraftEdge((ends[source][1], ends[target][0]), (prefix + source, prefix + target))
            for source, target in _edges(graph, where)
        ]
        return ends

    def _node(self, prefix: str, name: str, node: nir.NIRNode) -> tuple[str, str]:
        """Add one node; returns its (entry, exit)."""
        if isinstance(node, nir.NIRGraph):
            _require_one_of_each(node, f"{prefix}{name}")
            inner = self.put(node, f"{prefix}{name}.")
            return inner[_border(node, nir.Input)][0], inner[_border(node, nir.Output)][0]
        flat = self._unique(prefix + name) if prefix else str(name)
        self.draft.nodes[flat] = node
        if prefix and isinstance(node, nir.Input | nir.Output):
            self.borders[flat] = node
        return flat, flat

    def _unique(self, name: str) -> str:
        unique = name
        while unique in self.taken:
            unique += "_"
        self.taken.add(unique)
        if unique != name:
            self.renamed.append((name, unique))
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


def _join_borders(draft: Draft, borders: Mapping[str, nir.NIRNode]) -> None:
    """Replace the borders of subgraphs: those with one in-edge disappear, the others sum, and become Scale(1)."""
    arriving: dict[str, list[DraftEdge]] = {name: [] for name in borders}
    for edge in draft.edges:
        if edge.ends[1] in arriving:
            arriving[edge.ends[1]].append(edge)
    origin = _origins({name: edges[0].ends[0] for name, edges in arriving.items() if len(edges) == 1})

    def from_origin(edge: DraftEdge) -> DraftEdge:
        source, target = edge.ends
        return replace(edge, ends=(origin[source], target), via=source) if source in origin else edge

    for name, border in borders.items():
        if name in origin:
            draft.joined[name] = from_origin(arriving[name][0])
        else:
            draft.sums.add(name)
            draft.made.add(name)
            draft.nodes[name] = nir.Scale(np.asarray(1.0))
        stated = _stated(name, border)
        if stated is not None:
            draft.expected.append((origin.get(name, name), stated, name))
    draft.nodes = {name: node for name, node in draft.nodes.items() if name not in origin}
    draft.edges = [from_origin(edge) for edge in draft.edges if edge.ends[1] not in origin]


def _origins(before: Mapping[str, str]) -> dict[str, str]:
    """For each border with one source, the first node before it that is none such; borders in a ring have none."""
    origin: dict[str, str] = {}
    rings: set[str] = set()
    for name in before:
        chain: dict[str, None] = {}
        here = name
        while here in before and here not in origin and here not in chain and here not in rings:
            chain[here] = None
            here = before[here]
        if here in chain or here in rings:
            rings.update(chain)
        else:
            origin.update(dict.fromkeys(chain, origin.get(here, here)))
    return origin


def _stated(name: str, border: Any) -> Shape | None:
    """The shape that a border states, or None."""
    types = border.input_type if isinstance(border, nir.Input) else border.output_type
    stated = None if types is None else next(iter(types.values()), None)
    if stated is None:
        return None
    try:
        return shape_of(stated)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidGraphError(f"the border {name!r} of a subgraph states a shape that is none: {error}") from None
