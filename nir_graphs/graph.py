"""``FlatGraph``: the one form in which a graph is judged, run, certified and converted.

It is made once, at the door, by :func:`zoo.nir_graphs.normalise.normalise`: from what the zoo exports and from what others
wrote alike. Everything that can be derived from a graph is derived here: the order of evaluation, who reads whom, which nodes
form cycles, all shapes. Nothing behind the door derives any of it again, and nothing can change a graph that has passed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import nir
import numpy as np

from zoo.nir_graphs.fields import Array, Note, Shape, frozen
from zoo.nir_graphs.metadata import GraphInfo
from zoo.nir_graphs.nodes import FACTS, NodeFacts
from zoo.nir_graphs.structure import evaluation_order, sources_of, strong_components

Edge = tuple[str, str]


@dataclass(frozen=True, eq=False)
class FlatNode:
    """One node, its fields checked.

    ``node["tau"]`` is the value of a field. Parameters with one number per element are compact: they have the axes of the
    node's shape, with length 1 where nothing changes, or no axes at all, so that they broadcast to values (..., \\*shape).
    Weights are arrays; strides, dilations and kernel sizes are one integer per axis; ``padding`` is (before, after) per axis;
    a Delay has its whole number of ``steps``.

    Attributes:
        name: in the graph.
        type: NIR class.
        values: by field.
        input_shape: without time and batch.
        shape: of the output, likewise.
        metadata: that others have attached to the node.
    """

    name: str
    type: type[nir.NIRNode]
    values: Mapping[str, Any]
    input_shape: Shape
    shape: Shape
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = {key: frozen(v) if isinstance(v, np.ndarray) else v for key, v in self.values.items()}
        object.__setattr__(self, "values", MappingProxyType(values))
        object.__setattr__(self, "metadata", MappingProxyType(deepcopy(dict(self.metadata))))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return FlatNode, (
            self.name, self.type, dict(self.values), self.input_shape, self.shape, dict(self.metadata),
        )  # fmt: skip

    @property
    def kind(self) -> str:
        """Name of the type."""
        return self.type.__name__

    @property
    def facts(self) -> NodeFacts:
        """The row of the node table."""
        return FACTS[self.type]

    def full(self, name: str) -> Array:
        """A parameter as a read-only view of the node's whole shape."""
        return np.broadcast_to(self.values[name], self.input_shape)

    def number(self, name: str) -> float | None:
        """The one number that a parameter consists of, or None where elements differ."""
        value = self.values[name]
        return float(value) if np.ndim(value) == 0 else None

    def to_nir(self) -> nir.NIRNode:
        """The node in NIR's own form."""
        node = _to_nir(self)
        if self.metadata:
            node.metadata = deepcopy(dict(self.metadata))
        return node


@dataclass(frozen=True, eq=False)
class FlatGraph:
    """A graph without subgraphs whose every number, shape and cycle has been checked.

    Attributes:
        nodes: by name, in the order of the file.
        edges: in the order in which their sources are summed.
        dt: length of a step, in the unit of the graph's time constants.
        info: the zoo's note in the metadata; an empty one for graphs of others.
        notes: what was changed or assumed when the graph was made, one sentence each.
        metadata: what others have attached to the graph.
        sources: for each node the sources of its in-edges, in edge order.
        targets: for each node the targets of its out-edges, in edge order.
        order: nodes ordered so that within one step each comes after those it reads; a Delay reads the step before.
        components: strongly connected components, each after those it depends on; cycles through Delays are one component.
        inputs, outputs: names of the Input and Output nodes.
    """

    nodes: Mapping[str, FlatNode]
    edges: tuple[Edge, ...]
    dt: float
    info: GraphInfo = field(default_factory=GraphInfo)
    notes: tuple[Note, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(init=False)
    targets: Mapping[str, tuple[str, ...]] = field(init=False)
    order: tuple[str, ...] = field(init=False)
    components: tuple[tuple[str, ...], ...] = field(init=False)
    inputs: tuple[str, ...] = field(init=False)
    outputs: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        sources = sources_of(self.nodes, self.edges)
        targets: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in self.edges:
            targets[source].append(target)
        delays = {name for name, node in self.nodes.items() if node.type is nir.Delay}
        derived = {
            "nodes": MappingProxyType(dict(self.nodes)),
            "metadata": MappingProxyType(deepcopy(dict(self.metadata))),
            "sources": MappingProxyType({name: tuple(before) for name, before in sources.items()}),
            "targets": MappingProxyType({name: tuple(after) for name, after in targets.items()}),
            "order": tuple(evaluation_order(sources, delays)),
            "components": tuple(tuple(component) for component in strong_components(sources)),
            "inputs": self.names(nir.Input),
            "outputs": self.names(nir.Output),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return FlatGraph, (dict(self.nodes), self.edges, self.dt, self.info, self.notes, dict(self.metadata))

    def __copy__(self) -> FlatGraph:
        return self

    def __deepcopy__(self, _memo: Any) -> FlatGraph:
        return self

    def names(self, *kinds: type) -> tuple[str, ...]:
        """Names of the nodes of some types, in the order of the file."""
        return tuple(name for name, node in self.nodes.items() if node.type in kinds)

    def where(self, condition: Callable[[NodeFacts], bool]) -> tuple[str, ...]:
        """Names of the nodes whose facts meet a condition, in the order of the file."""
        return tuple(name for name, node in self.nodes.items() if condition(node.facts))

    @property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node, without time and batch."""
        return {name: node.shape for name, node in self.nodes.items()}

    def is_cycle(self, component: Iterable[str]) -> bool:
        """Whether a component is a cycle, rather than one node that does not read itself."""
        first, *others = component
        return bool(others) or first in self.sources[first]

    @property
    def has_memory(self) -> bool:
        """Whether any node remembers earlier steps."""
        return any(node.facts.stateful or node.type is nir.Delay for node in self.nodes.values())

    def with_info(self, info: GraphInfo) -> FlatGraph:
        """The same graph with another note of the zoo; dt stays."""
        return FlatGraph(self.nodes, self.edges, self.dt, replace(info, dt=self.dt), self.notes, self.metadata)

    def with_notes(self, notes: Iterable[Note]) -> FlatGraph:
        """The same graph with further notes."""
        return FlatGraph(self.nodes, self.edges, self.dt, self.info, (*self.notes, *notes), self.metadata)

    def to_nir(self) -> nir.NIRGraph:
        """The graph in NIR's own form, with the zoo's note in its metadata; parameters are views, not copies."""
        from zoo.nir_graphs import metadata

        graph = nir.NIRGraph(
            {name: node.to_nir() for name, node in self.nodes.items()},
            list(self.edges),
            deepcopy(dict(self.metadata)),
            False,
        )
        return metadata.put(graph, replace(self.info, dt=self.dt))


def _to_nir(node: FlatNode) -> nir.NIRNode:
    if node.type in _WRITERS:
        return _WRITERS[node.type](node)
    if node.facts.elements:
        return node.type(**{name: node.full(name) for name in node.facts.elements})
    return node.type(**dict(node.values))


def _pool(node: FlatNode) -> nir.NIRNode:
    kernel, stride = np.array(node["kernel_size"]), np.array(node["stride"])
    return node.type(kernel_size=kernel, stride=stride, padding=np.array([before for before, _ in node["padding"]]))


def _convolution(node: FlatNode) -> nir.NIRNode:
    even = all(before == after for before, after in node["padding"])
    padding: Any = tuple(before for before, _ in node["padding"]) if even else "same"  # only 'same' pads unevenly
    parts = {"stride": node["stride"], "padding": padding, "dilation": node["dilation"]}
    size: Any = node.input_shape[1:]
    if node.type is nir.Conv1d:
        size = size[0]
        parts = {key: value[0] if isinstance(value, tuple) else value for key, value in parts.items()}
    graph_node = node.type(input_shape=None, weight=node["weight"], groups=node["groups"], bias=node["bias"], **parts)
    graph_node.input_shape = size  # set afterwards: nir 1.0.8 infers wrong types of grouped convolutions from it
    return graph_node


_WRITERS: dict[type, Callable[[FlatNode], nir.NIRNode]] = {
    nir.Input: lambda node: nir.Input(np.array(node.shape)),
    nir.Output: lambda node: nir.Output(np.array(node.shape)),
    nir.Flatten: lambda node: nir.Flatten({"input": np.array(node.input_shape)}, node["start_dim"], node["end_dim"]),
    nir.Conv1d: _convolution,
    nir.Conv2d: _convolution,
    nir.SumPool2d: _pool,
    nir.AvgPool2d: _pool,
}
"""Types whose NIR form is more than their checked values by name."""
