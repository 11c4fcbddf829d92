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

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import nir
import numpy as np

from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs import metadata
from zoo.nir_graphs.fields import Fields, Shape, names, shape_of
from zoo.nir_graphs.flatten import Draft, flattened
from zoo.nir_graphs.graph import Edge, FlatGraph, FlatNode
from zoo.nir_graphs.nodes import FACTS, NEURONS
from zoo.nir_graphs.structure import cycles

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
    step = _time_step(draft, step, info)
    _delay_feedback(draft, step, set(delayed_edges))
    nodes = _Shaping(draft, step).run()
    note = replace(info or metadata.GraphInfo(), dt=step)
    return FlatGraph(nodes, tuple(edge.ends for edge in draft.edges), step, note, tuple(draft.notes), others)


def number(dt: Any) -> float:
    """dt as a float: Python and numpy numbers and 0-d arrays are taken.

    Raises:
        InvalidInputError: anything else, or not positive and finite.
    """
    try:
        value = float(np.asarray(dt, np.float64).item())
    except (TypeError, ValueError):
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
            kind = type(draft.nodes[name]).__name__
            raise InvalidGraphError(f"the node {name!r} ({kind}) has no input, but an Output depends on it")
    dead = _reach(rootless, targets)
    draft.note(
        "dead nodes",
        f"removed {names(n for n in draft.nodes if n in dead)}: without input, and no Output depends on them",
    )
    draft.remove(dead)


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
    found = [
        (name, type(node).__name__, field_name, float(np.min(Fields(name, node).reals(field_name))))
        for name, node in draft.nodes.items()
        for field_name in FACTS[type(node)].times
    ]
    return min(found, key=lambda item: item[3], default=None)


def _delay_feedback(draft: Draft, dt: float, said: Collection[Edge]) -> None:
    """Put the Delays into cycles that have none."""
    if said:
        _delay_said(draft, dt, said)
    for component in cycles(draft.reads):
        members = set(component)
        neurons = [name for name in component if type(draft.nodes[name]) in NEURONS]
        inside = [edge for edge in draft.edges if set(edge.ends) <= members]
        if len(neurons) != 1:
            listed = names((f"{a} -> {b}" for a, b in (edge.ends for edge in inside)), 12)
            raise InvalidGraphError(
                f"the edges {listed} form a cycle without a Delay that passes through {len(neurons)} neurons, so it does not "
                "say where the step lies; name the edges that act one step later with delayed_edges=[(source, target)], or "
                "put a nir.Delay of one dt on them"
            )
        _delay_output(draft, neurons[0], [edge.ends[1] for edge in inside if edge.ends[0] == neurons[0]], dt)
        if any(set(c) <= members for c in cycles(draft.reads)):
            raise InvalidGraphError(
                f"some of the nodes {names(component)} form a cycle without a Delay and without a neuron; put a nir.Delay "
                "of one dt on the edge that closes it"
            )


def _delay_output(draft: Draft, neuron: str, targets: list[str], dt: float) -> None:
    name = draft.delay(neuron, targets, dt)
    draft.note(
        "feedback",
        f"a cycle without a Delay: the output of {neuron!r} acts one step later on {names(dict.fromkeys(targets))} "
        f"(through the new Delay {name!r})",
    )


def _delay_said(draft: Draft, dt: float, said: Collection[Edge]) -> None:
    """Delays on the edges that the caller names, which must lie on cycles without one."""
    on_cycles = [set(component) for component in cycles(draft.reads)]
    for source, target in said:
        found = [edge.ends for edge in draft.edges if (source, target) in {edge.ends, *edge.said}]
        if not found:
            raise InvalidInputError(f"delayed_edges names {source} -> {target}, which is no edge of the graph")
        if not all(any(set(ends) <= members for members in on_cycles) for ends in found):
            raise InvalidInputError(f"delayed_edges names {source} -> {target}, which is on no cycle without a Delay")
        for begin in dict.fromkeys(ends[0] for ends in found):
            _delay_output(draft, begin, [ends[1] for ends in found if ends[0] == begin], dt)


@dataclass
class _Shaping:
    """Finds all shapes and checks all fields.

    A node is read as soon as the shape of one of its sources is known. In a cycle without any input from outside, the
    parameters of a node with one number per element tell.
    """

    draft: Draft
    dt: float
    nodes: dict[str, FlatNode] = field(default_factory=dict)

    def run(self) -> dict[str, FlatNode]:
        """All nodes, in the order of the draft."""
        sources = self.draft.sources
        waiting = list(self.draft.nodes)
        while waiting:
            left = [name for name in waiting if not self._try(name, sources[name])]
            if len(left) == len(waiting):
                self._guess(left)
                left = [name for name in left if name not in self.nodes]
            waiting = left
        for name, before in sources.items():
            self._require_fit(name, before)
        for source, shape, border in self.draft.expected:
            if self.nodes[source].shape != shape:
                raise InvalidGraphError(
                    f"the border {border!r} of a subgraph states the shape {shape}, but gets {self.nodes[source].shape}"
                )
        return {name: self.nodes[name] for name in self.draft.nodes}

    def _try(self, name: str, sources: list[str]) -> bool:
        node = self.draft.nodes[name]
        if isinstance(node, nir.Input):
            self._read(name, self._stated(name, node.input_type, "input"))
            return True
        known = next((s for s in sources if s in self.nodes), None)
        if known is not None:
            self._read(name, self.nodes[known].shape)
        return known is not None

    def _guess(self, left: list[str]) -> None:
        """Read one node whose own parameters tell its shape."""
        for name in left:
            node = self.draft.nodes[name]
            shapes = [np.shape(Fields(name, node).reals(f, 0.0)) for f in FACTS[type(node)].elements]
            if any(shapes):
                self._read(name, max(shapes, key=len))
                return
        raise InvalidGraphError(
            f"the shapes of the nodes {names(left)} cannot be known: they form cycles that nothing enters; write the "
            "parameters of one of them with all axes"
        )

    def _read(self, name: str, shape: Shape) -> None:
        node = self.draft.nodes[name]
        fields = Fields(name, node)
        values, out = FACTS[type(node)].read(fields, shape, self.dt)
        if isinstance(node, nir.Output) and node.output_type.get("output") is not None:
            stated = self._stated(name, node.output_type, "output")
            if stated != shape:
                fields.refuse(f"states the shape {stated}, but gets {shape}")
        if name not in self.draft.made:
            self.draft.notes += fields.notes
        self.nodes[name] = FlatNode(name, type(node), values, shape, out, dict(getattr(node, "metadata", None) or {}))

    def _stated(self, name: str, types: Any, key: str) -> Shape:
        kind = "Input" if key == "input" else "Output"
        value = None if types is None else types.get(key)
        if value is None:
            raise InvalidGraphError(f"the node {name!r} ({kind}) does not state its shape")
        try:
            return shape_of(value)
        except ValueError as error:
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
