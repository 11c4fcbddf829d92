"""The door: any NIR graph becomes a :class:`~zoo.nir_graphs.graph.FlatGraph`, or is refused with the reason.

What is read into graphs of others (DESIGN.md section 3b), each with a note:

* Subgraphs are put into the graph itself. A border with one edge disappears; one with several becomes Scale(1), which keeps
  the order of the sum.
* A cycle without a Delay that passes through exactly one neuron: the output of that neuron acts one step later inside the
  cycle. So the Delay goes on the neuron's out-edges that lie inside; external inputs and biases act at once. Through none or
  several neurons it is not clear where the step lies: refused, unless the caller names the edges.
* One edge listed twice is two connections: the source is summed twice.
* Parameters broadcast to the node's shape; numbers become native float32 or float64.
* Nodes without input on which no Output depends are removed, together with what reads them.
* Nothing may lead into an Input or out of an Output.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import nir
import numpy as np

from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs import feedback, metadata
from zoo.nir_graphs.fields import Fields, Note, Shape, names, shape_of, shown
from zoo.nir_graphs.flatten import Draft, flattened
from zoo.nir_graphs.graph import Edge, FlatGraph, FlatNode
from zoo.nir_graphs.nodes import FACTS

Graph: TypeAlias = "nir.NIRGraph | FlatGraph"


def normalise(graph: Graph, *, dt: Any = None, delayed_edges: Iterable[Edge] = ()) -> FlatGraph:
    """Check a graph and bring it to the one form that the zoo runs.

    Args:
        graph: NIR graph, with subgraphs or without; a ``FlatGraph`` is returned as it is.
        dt: length of a step in the graph's unit of time; by default what the zoo's metadata in the graph says. A graph that
            names neither times nor dt runs at dt = 1.
        delayed_edges: (source, target) of edges that act one step later, for cycles through several neurons.

    Raises:
        InvalidGraphError: something malformed or ambiguous; names the node and the rule.
        InvalidInputError: dt that is no positive number, or that the graph needs and nobody tells; edges that are not there.
        CorruptGraphError: the zoo's own note in the metadata cannot be read.
    """
    step = None if dt is None else number(dt)
    if isinstance(graph, FlatGraph):
        if list(delayed_edges):
            raise InvalidInputError(
                "delayed_edges are for NIR graphs; the cycles of this graph have their Delays already"
            )
        if step is not None and step != graph.dt:
            raise InvalidInputError(f"this graph was made with dt = {graph.dt:g}; to use {step:g}, import it again")
        return graph
    if not isinstance(graph, nir.NIRGraph):
        raise InvalidInputError(f"a graph must be a nir.NIRGraph, not {type(graph).__name__}")
    info, others = metadata.split(graph)
    draft = flattened(graph)
    if info is None and metadata.KEY in others:
        draft.note("metadata", f"the metadata has a key {metadata.KEY!r} of another tool, which is not read")
    _require_borders(draft)
    _require_known(draft)
    _remove_dead(draft)
    step = _time_step(draft, step, info if metadata.states_dt(graph) else None)
    feedback.delay_said(draft, step, delayed_edges)
    feedback.delay_cycles(draft, step)
    nodes = _Shaping(draft, step).run()
    note = replace(info or metadata.GraphInfo(), dt=step)
    return FlatGraph(nodes, tuple(edge.ends for edge in draft.edges), step, note, tuple(draft.notes), others)


def number(dt: Any) -> float:
    """dt as a float: Python and numpy numbers and 0-d arrays are taken.

    Raises:
        InvalidInputError: anything else, or not positive and finite.
    """
    try:
        value = math.nan if isinstance(dt, str | bytes) else float(np.asarray(dt, np.float64).item())
    except (TypeError, ValueError, RuntimeError):
        raise InvalidInputError(f"dt must be a positive number, got {dt!r}") from None
    if not (np.isfinite(value) and value > 0):
        raise InvalidInputError(f"dt must be a positive number, got {value:g}")
    return value


def _require_borders(draft: Draft) -> None:
    """At least one Input and one Output."""
    for kind in (nir.Input, nir.Output):
        if not any(isinstance(node, kind) for node in draft.nodes.values()):
            raise InvalidGraphError(f"the graph has no {kind.__name__} node")


def _require_known(draft: Draft) -> None:
    for name, node in draft.nodes.items():
        if type(node) not in FACTS:
            raise InvalidGraphError(f"the node {name!r} is a {type(node).__name__}, which has no discrete-time meaning")


def _remove_dead(draft: Draft) -> None:
    """Nodes without input are removed with what reads them, unless an Output depends on them: then they are refused."""
    sources, targets = draft.sources, draft.targets
    rootless = [n for n, before in sources.items() if not before and not isinstance(draft.nodes[n], nir.Input)]
    if not rootless:
        return
    live = _reach([n for n, node in draft.nodes.items() if isinstance(node, nir.Output)], sources)
    for name in rootless:
        if name in live:
            depends = "" if isinstance(draft.nodes[name], nir.Output) else ", but an Output depends on it"
            raise InvalidGraphError(f"{_called(draft, name)} has no input{depends}")
    dead = _reach(rootless, targets)
    for name in draft.nodes:
        if name in dead:
            why = "has no input" if not sources[name] else "reads nodes that have no input"
            draft.note("dead nodes", f"removed {_called(draft, name)}: it {why}, and no Output depends on it")
    draft.remove(dead)


def _called(draft: Draft, name: str) -> str:
    """A node as messages call it."""
    if name in draft.sums:
        return f"the border {name!r} of a subgraph"
    return f"the node {name!r} ({type(draft.nodes[name]).__name__})"


def _reach(starts: Iterable[str], neighbours: dict[str, list[str]]) -> set[str]:
    found = set(starts)
    queue = list(found)
    while queue:
        for name in neighbours[queue.pop()]:
            if name not in found:
                found.add(name)
                queue.append(name)
    return found


def _time_step(draft: Draft, given: float | None, info: metadata.GraphInfo | None) -> float:
    """dt, from the argument, the metadata, or 1 where nothing depends on it."""
    if given is not None:
        if info is not None and info.dt != given:
            draft.note("dt", f"dt = {given:g}, as the caller says; the metadata says {info.dt:g}")
        return given
    if info is not None:
        return info.dt
    least = _least_time(draft)
    if least is not None:
        name, kind, field_name, value = least
        raise InvalidInputError(
            f"the graph names times, but no length of a step: say dt=... in its unit of time (zoo ... --dt). Its smallest "
            f"time is the {field_name} {value:g} of the node {name!r} ({kind}); dt is usually well below that"
        )
    draft.note("dt", "dt = 1: the graph names neither times nor a length of a step")
    return 1.0


def _least_time(draft: Draft) -> tuple[str, str, str, float] | None:
    """(node, its type, field, value) of the smallest time that the graph names."""
    found = []
    for name, node in draft.nodes.items():
        fields = Fields(name, node)
        for field_name in FACTS[type(node)].times:
            values = fields.reals(field_name)
            if not (values > 0).all():
                fields.refuse(f"has a {field_name} of {shown(values)}; it must be positive")
            found.append((name, type(node).__name__, field_name, float(values.min())))
    return min(found, key=lambda item: item[3], default=None)


@dataclass
class _Shaping:
    """Finds all shapes and checks all fields.

    A node is read as soon as the shape of one of its sources is known. In a cycle without any input from outside, the
    parameters of a node tell.
    """

    draft: Draft
    dt: float
    nodes: dict[str, FlatNode] = field(default_factory=dict)
    notes: dict[str, list[Note]] = field(default_factory=dict)

    def run(self) -> dict[str, FlatNode]:
        """All nodes, in the order of the draft."""
        draft = self.draft
        targets = draft.targets
        for name, node in draft.nodes.items():
            if isinstance(node, nir.Input):
                self._spread(name, self._stated(name, node.input_type, "input"), targets)
        if len(self.nodes) < len(draft.nodes):
            self._guess(targets)
        for name, before in draft.sources.items():
            self._require_fit(name, before)
        for source, shape, border in draft.expected:
            if self.nodes[source].shape != shape:
                raise InvalidGraphError(
                    f"the border {border!r} of a subgraph states the shape {shape}, but gets {self.nodes[source].shape}"
                )
        for name in draft.nodes:
            draft.notes += self.notes.get(name, [])
        return {name: self.nodes[name] for name in draft.nodes}

    def _spread(self, name: str, shape: Shape, targets: Mapping[str, list[str]]) -> None:
        """Read a node, and all those behind it that have not been read."""
        self._read(name, shape)
        queue = deque([name])
        while queue:
            source = queue.popleft()
            for target in targets[source]:
                if target not in self.nodes:
                    self._read(target, self.nodes[source].shape)
                    queue.append(target)

    def _guess(self, targets: Mapping[str, list[str]]) -> None:
        """Start where a node's own fields tell its shape, best those that tell all of it."""
        left = [name for name in self.draft.nodes if name not in self.nodes]
        stated = {name: shape for name, shape, _ in self.draft.expected}
        told = {name: shape for name in left if (shape := self._told(name, stated.get(name)))}
        for name in sorted(told, key=lambda name: (1 in told[name], -math.prod(told[name]))):
            if name not in self.nodes:
                self._spread(name, told[name], targets)
        unknown = [name for name in left if name not in self.nodes]
        if unknown:
            raise InvalidGraphError(
                f"the shapes of the nodes {names(unknown)} cannot be known: they form cycles that nothing enters; write "
                "the parameters of one of them with all axes"
            )

    def _told(self, name: str, output: Shape | None) -> Shape | None:
        """The input shape of a node as far as its own fields, or the output shape that a border states, tell it."""
        node = self.draft.nodes[name]
        fields, elements = Fields(name, node), FACTS[type(node)].elements
        if isinstance(node, nir.Output) and (node.output_type or {}).get("output") is not None:
            return self._stated(name, node.output_type, "output")
        if isinstance(node, nir.Linear | nir.Affine):
            return fields.reals("weight").shape[-1:]
        if elements and output is not None:
            return output
        shapes = [np.shape(fields.reals(each, 0.0)) for each in elements]
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            return max(shapes, key=len)

    def _read(self, name: str, shape: Shape) -> None:
        node = self.draft.nodes[name]
        fields = Fields(name, node)
        values, out = FACTS[type(node)].read(fields, shape, self.dt)
        if isinstance(node, nir.Output) and (node.output_type or {}).get("output") is not None:
            stated = self._stated(name, node.output_type, "output")
            if stated != shape:
                fields.refuse(f"states the shape {stated}, but gets {shape}")
        if fields.notes and name not in self.draft.made:
            self.notes[name] = fields.notes
        others = getattr(node, "metadata", None)
        kept = dict(others) if isinstance(others, Mapping) else {}
        self.nodes[name] = FlatNode(name, type(node), values, shape, out, kept)

    def _stated(self, name: str, types: Any, key: str) -> Shape:
        kind = "Input" if key == "input" else "Output"
        value = None if types is None else types.get(key)
        if value is None:
            raise InvalidGraphError(f"the node {name!r} ({kind}) does not state its shape")
        try:
            return shape_of(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidGraphError(f"the node {name!r} ({kind}) states a shape that is none: {error}") from None

    def _require_fit(self, name: str, sources: list[str]) -> None:
        expected = self.nodes[name].input_shape
        for source in sources:
            shape = self.nodes[source].shape
            if shape != expected:
                others = [s for s in sources if self.nodes[s].shape == expected]
                raise InvalidGraphError(
                    f"the inputs of node {name!r} ({self.nodes[name].kind}) differ in shape: {source!r} gives {shape}, "
                    + (f"{others[0]!r} gives {expected}" if others else f"its parameters say {expected}")
                )
