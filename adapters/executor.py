"""The graph executor that all torch backends share.

Nodes are ordered once. What lies on a cycle (through a Delay) is stepped through time; stateless nodes run once on all T steps
folded into the batch; neurons outside cycles step through their own sequence. In-edges are summed left to right in the order
of the edge list. A value is dropped after its last reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nir
import torch
from torch import Tensor, nn

from zoo.adapters import fusion
from zoo.adapters.ops import KNOWN, LAYERS, NEURON_NODES, Delay, Neuron, Stateful, Threshold
from zoo.errors import InvalidInputError, UnsupportedGraphError
from zoo.nir_graphs import metadata
from zoo.nir_graphs.reference import SPIKING, Record, Trace, recorded_nodes
from zoo.nir_graphs.structure import evaluation_order, predecessors, strong_components, successors

Spike = Callable[[Tensor], Tensor]


@dataclass
class Cells:
    """What a framework brings.

    Attributes:
        name: of the backend.
        neuron: makes the framework's own cell for a node, or returns None where it has none that is exact.
        spike: the framework's Heaviside function with a surrogate gradient.
    """

    name: str
    neuron: Callable[[Any, torch.dtype, float], Stateful | None]
    spike: Spike | None = None


def check(graph: nir.NIRGraph) -> list[str]:
    """Why the executor cannot run a graph: node types that it does not know."""
    return [
        f"node {name!r} is a {type(node).__name__}, which has no discrete-time meaning here; zoo.import_nir flattens subgraphs"
        for name, node in graph.nodes.items()
        if type(node) not in KNOWN
    ]


@dataclass
class _Context:
    """Values of one run."""

    values: dict[str, Tensor]
    readers: Counter[str]
    wanted: set[str]
    spikes: dict[str, Tensor] = field(default_factory=dict)
    potentials: dict[str, Tensor] = field(default_factory=dict)

    def take(self, terms: list[str]) -> Tensor:
        """Sum of the terms, left to right; frees what nobody reads any more."""
        total = self.values[terms[0]]
        for index, term in enumerate(terms[1:]):
            # from the second addition on the sum is ours alone and can be changed in place
            total = total + self.values[term] if index == 0 else total.add_(self.values[term])
        for term in terms:
            self.readers[term] -= 1
            if self.readers[term] <= 0:
                self.values.pop(term, None)
        return total

    def put(self, name: str, value: Tensor) -> None:
        """Keep a value if anybody will read it."""
        if self.readers[name] > 0:
            self.values[name] = value

    def note(self, name: str, spikes: Tensor | None, potential: Tensor) -> None:
        """Record a node if that was asked for."""
        if name in self.wanted:
            if spikes is not None:
                self.spikes[name] = spikes
            self.potentials[name] = potential


Unit = Callable[[_Context], None]


class TorchRunnable(nn.Module):
    """A NIR graph in torch, with a framework's own cells. See :class:`zoo.adapters.base.Runnable`.

    Args:
        graph: flat graph.
        cells: of the framework.
        dtype: in which to compute.
        device: torch device.
        dt: length of a step.
        fuse: use fused kernels.

    Raises:
        UnsupportedGraphError: a node that cannot be run.
        InvalidGraphError: a cycle without a Delay.
    """

    def __init__(
        self,
        graph: nir.NIRGraph,
        cells: Cells,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        dt: float | None = None,
        fuse: bool = True,
    ) -> None:
        super().__init__()
        reasons = check(graph)
        if reasons:
            raise UnsupportedGraphError(cells.name, reasons)
        if dtype not in {torch.float32, torch.float64}:
            raise InvalidInputError(f"graphs run in float32 or float64, not in {dtype}")
        self.graph = graph
        self.dtype = dtype
        self.device = device
        self.dt = metadata.get(graph).dt if dt is None else dt
        self.cells = cells
        self.order = evaluation_order(graph)
        self.sources = predecessors(graph)
        self.inputs = [n for n, node in graph.nodes.items() if isinstance(node, nir.Input)]
        self.outputs = [n for n, node in graph.nodes.items() if isinstance(node, nir.Output)]
        self.ops = nn.ModuleList()
        self.own = 0
        self.units: list[tuple[Unit, list[str]]] = []
        _Planner(self, fuse=fuse).plan()
        self.readers = Counter(term for _, terms in self.units for term in terms)
        self.to(device)

    @property
    def own_cells(self) -> tuple[int, int]:
        """(neuron nodes on the framework's own cells, all neuron nodes, Thresholds included)."""
        return self.own, sum(isinstance(node, (*NEURON_NODES, nir.Threshold)) for node in self.graph.nodes.values())

    def forward(self, x: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...) -> outputs (T, B, ...) by Output node, from rest."""
        return self._execute(x, set())[0]

    @torch.no_grad()
    def run(self, x: Tensor | dict[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with spikes and potentials of the recorded nodes."""
        outputs, context = self._execute(x, recorded_nodes(self.graph, record))
        parts = (outputs, context.spikes, context.potentials)
        return Trace(*({name: value.cpu().numpy() for name, value in part.items()} for part in parts))

    def _execute(self, x: Tensor | dict[str, Tensor], wanted: set[str]) -> tuple[dict[str, Tensor], _Context]:
        context = _Context(self._given(x), Counter(self.readers), wanted)
        context.readers.update(self.outputs)
        for unit, _ in self.units:
            unit(context)
        return {name: context.values[name] for name in self.outputs}, context

    def _given(self, x: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
        given = x if isinstance(x, dict) else {self.inputs[0]: x}
        if set(given) != set(self.inputs):
            raise InvalidInputError(f"the graph has the inputs {', '.join(self.inputs)}, got {', '.join(given)}")
        for name, value in given.items():
            expected = tuple(int(n) for n in self.graph.nodes[name].input_type["input"])
            if tuple(value.shape[2:]) != expected or value.numel() == 0:
                raise InvalidInputError(f"input {name!r} must have the shape (T, B, *{expected}), got {tuple(value.shape)}")
        return {name: value.to(self.device, self.dtype) for name, value in given.items()}


def fold(op: nn.Module, x: Tensor) -> Tensor:
    """Run a stateless layer on all time steps at once."""
    return op(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class _Planner:
    """Turns a graph into a list of units, each a function on the context, in an order that respects all edges."""

    def __init__(self, owner: TorchRunnable, *, fuse: bool) -> None:
        self.owner = owner
        self.graph = owner.graph
        self.fuse = fuse
        self.components = strong_components(owner.sources)
        self.loops = {name for c in self.components if self._is_loop(c) for name in c}
        self.count_of: dict[frozenset[str], str] = {}
        self.bank_of: dict[str, fusion.Bank] = {}
        self.chain_of: dict[str, list[str]] = {}

    def _is_loop(self, component: list[str]) -> bool:
        return len(component) > 1 or component[0] in self.owner.sources[component[0]]

    def plan(self) -> None:
        """Fill ``owner.units``."""
        loops: dict[str, fusion.SoftReset] = {}
        if self.fuse:
            loops = self._find_fusions()
        done: set[str] = set()
        for component in self.components:
            if component[0] in done:
                continue
            if component[0] in loops:
                self._soft_reset(loops[component[0]])
            elif self._is_loop(component):
                self._loop(component)
            else:
                done |= self._node(component[0])

    def _find_fusions(self) -> dict[str, fusion.SoftReset]:
        sources, targets = self.owner.sources, successors(self.graph)
        loops = {}
        for component in self.components:
            match = fusion.match_soft_reset(self.graph, component, sources) if self._is_loop(component) else None
            read_outside = {
                name for name in component for target in targets[name] if target not in component
            }  # nothing but spikes may leave a fused loop
            if match is not None and read_outside <= set(match.levels):
                loops[component[0]] = match
                self.count_of[frozenset(match.levels)] = match.key
        for bank in fusion.find_banks(self.graph, sources, self.loops):
            self.count_of[frozenset(bank.nodes)] = bank.key
            self.bank_of.update(dict.fromkeys(bank.nodes, bank))
        for chain in fusion.find_chains(self.graph, sources, targets):
            self.chain_of.update(dict.fromkeys(chain, chain))
        return loops

    def _terms(self, names: list[str]) -> list[str]:
        """What to sum for a list of sources: a whole bank in front is replaced by its count, which is exact."""
        for size in range(len(names), 0, -1):
            key = self.count_of.get(frozenset(names[:size]))
            if key is not None and len(set(names[:size])) == size:
                return [key, *names[size:]]
        return names

    def _keep(self, op: Any) -> Any:
        self.owner.ops.append(op)
        self.owner.own += getattr(op, "own_cell", False)
        return op

    def _emit(self, unit: Unit, terms: list[str]) -> None:
        self.owner.units.append((unit, terms))

    def _make(self, name: str) -> Any:
        """The operation of a node."""
        node, owner = self.graph.nodes[name], self.owner
        if type(node) in LAYERS:
            return self._keep(LAYERS[type(node)](node, owner.dtype))
        if isinstance(node, nir.Threshold):
            return self._keep(Threshold(node, owner.dtype, owner.cells.spike))
        if isinstance(node, nir.Delay):
            return self._keep(Delay(node, owner.dt))
        cell = owner.cells.neuron(node, owner.dtype, owner.dt)
        return self._keep(cell or Neuron(node, owner.dtype, owner.dt, owner.cells.spike))

    def _node(self, name: str) -> set[str]:
        """Emit the unit of a node outside cycles; returns the nodes that it covers."""
        if name in self.owner.inputs:
            return {name}
        if name in self.bank_of:
            bank = self.bank_of[name]
            self._bank(bank)
            return set(bank.nodes)
        if name in self.chain_of:
            chain = self.chain_of[name]
            if name == chain[-1]:
                layers = [LAYERS[nir.Conv2d](self.graph.nodes[part], self.owner.dtype) for part in chain]
                self._stateless(name, self._terms(self.owner.sources[chain[0]]), self._keep(fusion.Chain(layers)))
            return {name}
        terms = self._terms(self.owner.sources[name])
        if not terms:
            raise UnsupportedGraphError(self.owner.cells.name, [f"node {name!r} has no input"])
        placement = fusion.match_placement(self.graph.nodes[name]) if self.fuse else None
        op = self._keep(placement) if placement is not None else self._make(name)
        if isinstance(op, Stateful):
            self._neuron(name, terms, op)
        elif isinstance(op, Delay):
            self._emit(lambda c: c.put(name, op.unrolled(c.take(terms))), terms)
        else:
            self._stateless(name, terms, op)
        return {name}

    def _stateless(self, name: str, terms: list[str], op: nn.Module) -> None:
        fires = isinstance(op, Threshold)

        def unit(context: _Context) -> None:
            x = context.take(terms)
            y = fold(op, x)
            context.note(name, y if fires else None, x if fires else y)
            context.put(name, y)

        self._emit(unit, terms)

    def _neuron(self, name: str, terms: list[str], op: Stateful) -> None:
        fires = isinstance(self.graph.nodes[name], SPIKING)

        def unit(context: _Context) -> None:
            x = context.take(terms)
            state = op.start(x[0])
            outputs, potentials = [], []
            for current in x:
                out, potential, state = op.step(current, state)
                outputs.append(out)
                potentials.append(potential)
            y = torch.stack(outputs)
            if name in context.wanted:
                context.note(name, y if fires else None, torch.stack(potentials))
            context.put(name, y)

        self._emit(unit, terms)

    def _bank(self, bank: fusion.Bank) -> None:
        """A count for all who read the whole bank, and single levels for those who do not."""
        count = self._keep(fusion.Count(bank.thresholds, self.owner.dtype, self.owner.cells.spike))
        if bank.pool is not None and bank.below is not None:
            self._pooled_bank(bank, bank.below, bank.pool)
            return
        terms = self._terms(bank.sources)

        def unit(context: _Context) -> None:
            x = context.take(terms)
            if context.readers[bank.key] > 0:
                context.put(bank.key, fold(count, x))
            for node, threshold in zip(bank.nodes, count.thresholds, strict=True):
                if context.readers[node] > 0 or node in context.wanted:
                    y = (x > threshold).to(x.dtype)
                    context.note(node, y, x)
                    context.put(node, y)

        self._emit(unit, terms)

    def _pooled_bank(self, bank: fusion.Bank, below: fusion.Bank, pool: Any) -> None:
        """Max-pool of a count. The single sums are only made where somebody asks for them."""

        def unit(context: _Context) -> None:
            counts = context.take([below.key])
            pooled = fold(lambda x: nn.functional.max_pool2d(x, pool.kernel, pool.stride, pool.padding), counts)
            context.put(bank.key, pooled)
            for level, node in enumerate(bank.nodes, 1):
                if node in context.wanted:
                    context.note(node, (pooled >= level).to(pooled.dtype), fold(pool, (counts >= level).to(pooled.dtype)))
                context.put(node, (pooled >= level).to(pooled.dtype))

        self._emit(unit, [below.key])

    def _soft_reset(self, loop: fusion.SoftReset) -> None:
        cell = self._keep(fusion.SoftResetCell(loop, self.owner.dtype, self.owner.cells.spike))
        terms = self._terms(loop.sources)

        def unit(context: _Context) -> None:
            counts, potentials = cell(context.take(terms))
            context.put(loop.key, counts)
            for node, threshold in zip(loop.levels, cell.count.thresholds, strict=True):
                if context.readers[node] > 0 or node in context.wanted:
                    y = (potentials > threshold).to(potentials.dtype)
                    context.note(node, y, potentials)
                    context.put(node, y)

        self._emit(unit, terms)

    def _loop(self, component: list[str]) -> None:
        """Step a cycle through time, node by node."""
        members = [name for name in self.owner.order if name in set(component)]
        outside = [term for name in members for term in self.owner.sources[name] if term not in set(component)]
        loop = _Loop(members, {n: self._make(n) for n in members}, self.owner.sources, self.graph)

        def unit(context: _Context) -> None:
            external = {term: context.values[term] for term in set(outside)}
            for name, (values, potentials) in loop.run(external).items():
                fires = isinstance(self.graph.nodes[name], SPIKING)
                context.note(name, values if fires else None, potentials)
                context.put(name, values)
            for term in outside:
                context.readers[term] -= 1

        self._emit(unit, outside)


@dataclass
class _Loop:
    """Nodes on a cycle, in an order in which each step can be computed."""

    members: list[str]
    ops: dict[str, Any]
    sources: dict[str, list[str]]
    graph: nir.NIRGraph

    def run(self, external: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Values and potentials (T, B, ...) of all members."""
        length = len(next(iter(external.values())))
        like = next(iter(external.values()))[0]
        states: dict[str, Any] = {}
        past: dict[str, list[Tensor]] = {name: [] for name in self.members}
        history: dict[str, tuple[list[Tensor], list[Tensor]]] = {name: ([], []) for name in self.members}
        for t in range(length):
            now = {name: value[t] for name, value in external.items()}
            for name in self.members:
                now[name], potential = self._step(name, now, states, past, like)
                history[name][0].append(now[name])
                history[name][1].append(potential)
            for name in self.members:
                if isinstance(self.ops[name], Delay):
                    past[name].append(self._sum(name, now))
                    del past[name][: -max(self.ops[name].counts)]
        return {name: (torch.stack(values), torch.stack(potentials)) for name, (values, potentials) in history.items()}

    def _sum(self, name: str, now: dict[str, Tensor]) -> Tensor:
        total = now[self.sources[name][0]]
        for source in self.sources[name][1:]:
            total = total + now[source]
        return total

    def _step(
        self, name: str, now: dict[str, Tensor], states: dict[str, Any], past: dict[str, list[Tensor]], like: Tensor
    ) -> tuple[Tensor, Tensor]:
        op = self.ops[name]
        if isinstance(op, Delay):
            value = op.read(past[name], like)
            return value, value
        x = self._sum(name, now)
        if isinstance(op, Stateful):
            state = states[name] if name in states else op.start(x)
            value, potential, states[name] = op.step(x, state)
            return value, potential
        value = op(x)
        return value, x if isinstance(op, Threshold) else value
