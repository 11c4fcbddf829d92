"""Any NIR graph, not only the zoo's own, brought to the form that the zoo runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import nir
import numpy as np

from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs import metadata, shapes, untrusted
from zoo.nir_graphs.passes.base import rebuilt
from zoo.nir_graphs.passes.dead_nodes import dead_nodes
from zoo.nir_graphs.passes.explicit_delays import ExplicitDelays
from zoo.nir_graphs.passes.flatten_subgraphs import flatten_subgraphs
from zoo.nir_graphs.structure import evaluation_order, predecessors


@dataclass(frozen=True)
class Report:
    """What importing a graph changed or assumed.

    Attributes:
        dt: length of a step, and where it comes from.
        notes: one sentence each.
    """

    dt: float
    notes: list[str] = field(default_factory=list)


def prepare(path_or_graph: str | Path | nir.NIRGraph, *, dt: float | None = None) -> tuple[nir.NIRGraph, Report]:
    """Read, flatten and complete a graph.

    Subgraphs are flattened; cycles without a Delay get one of one step on the edge back into the neuron; scalar parameters and
    missing v_reset (files older than nir 1.0.5) are filled in. The zoo's own graphs are taken as they are.

    Args:
        path_or_graph: a ``.nir`` file, which is read in a process of its own, or a graph.
        dt: length of a step in the graph's unit of time; by default from the zoo's metadata, else 1.

    Returns:
        The graph with its dt noted in the metadata, and a report of what was done.

    Raises:
        FileMissingError, CorruptGraphError: see :func:`zoo.nir_graphs.untrusted.read`.
        InvalidGraphError: something ambiguous or malformed; names the nodes.
        InvalidInputError: dt that is not positive.
    """
    if dt is not None and not (dt > 0 and np.isfinite(dt)):
        raise InvalidInputError(f"dt must be a positive number, got {dt}")
    graph = path_or_graph if isinstance(path_or_graph, nir.NIRGraph) else untrusted.read(path_or_graph)
    notes: list[str] = []
    info = metadata.get(graph)
    is_own = metadata.has_info(graph)
    if dt is None:
        dt = info.dt
        notes.append(f"dt = {dt}, " + ("from the metadata" if is_own else "assumed, since the graph does not say"))
    if is_own:
        evaluation_order(graph)  # a cycle without a Delay is a defect in a graph of ours
    else:
        graph = _completed(_flat(graph, notes), dt, notes)
    shapes.infer(graph)
    graph = rebuilt(graph, dict(graph.nodes), list(graph.edges))
    return metadata.put(graph, replace(info, dt=dt)), Report(dt, notes)


def _flat(graph: nir.NIRGraph, notes: list[str]) -> nir.NIRGraph:
    subgraphs = [name for name, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)]
    if subgraphs:
        graph = flatten_subgraphs(graph)
        notes.append(f"flattened the subgraphs {', '.join(subgraphs)}")
    for kind in (nir.Input, nir.Output):
        if not any(isinstance(node, kind) for node in graph.nodes.values()):
            raise InvalidGraphError(f"the graph has no {kind.__name__} node")
    return graph


def _completed(graph: nir.NIRGraph, dt: float, notes: list[str]) -> nir.NIRGraph:
    lonely = [name for name, before in predecessors(graph).items() if not before]
    lonely = [name for name in lonely if not isinstance(graph.nodes[name], nir.Input)]
    if lonely:
        graph = dead_nodes(graph)
        left = [name for name in lonely if name in graph.nodes]
        if left:
            raise InvalidGraphError(f"the node {left[0]!r} has no input, but an Output depends on it")
        notes.append(f"removed {', '.join(lonely)}: no input, and no Output depends on it")
    delays = ExplicitDelays(dt)
    graph = delays(graph)
    notes += [
        f"the edge {source} -> {target} closes a cycle without a Delay: it got one of one step"
        for source, target in delays.inserted
    ]
    return graph
