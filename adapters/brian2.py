"""Brian2: small graphs as neuron groups and explicit synapses, as an independent simulator.

Every node becomes a ``NeuronGroup``; every edge becomes ``Synapses``, one for each weight that is not zero. Spikes travel as
events (``on_pre``), analog values as summed variables. Firing and reset are Brian2's own (``threshold='u > v_th'``,
``reset='v = v_reset'``). The integration is an explicit statement instead of a differential equation, so that it has the
contract's very bits; it is one operation per statement, because Brian2 sorts the terms of longer expressions.

Edges have no delay in the contract, but Brian2 updates all groups before it delivers any spike, which would cost one step per
layer. So its objects run in the order of the graph within each step.

A batch becomes copies of the network. Graphs with more than ``MAX_NEURONS`` neurons or ``MAX_SYNAPSES`` synapses per picture
are refused: Brian2 would take minutes for each.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import brian2
import nir
import numpy as np
import torch
from torch import Tensor

from zoo.adapters.checks import check_dt, check_type, given_inputs, nodes_of, unknown_nodes
from zoo.adapters.membranes import NEURONS, membranes
from zoo.adapters.ops import LAYERS, Array
from zoo.errors import InvalidGraphError, InvalidInputError, UnsupportedGraphError, ZooError
from zoo.nir_graphs import metadata, shapes
from zoo.nir_graphs.reference import SPIKING, Record, Trace, delay_steps, recorded_nodes
from zoo.nir_graphs.structure import evaluation_order, predecessors

MAX_NEURONS, MAX_SYNAPSES = 4_000, 200_000
COPIES = 400_000
"""Synapses of all copies that are simulated at once; larger batches are simulated in parts."""
_DO, _FIRE, _RESET, _SEND, _STRIDE = 1, 2, 3, 4, 8
_TYPES = {torch.float32: np.float32, torch.float64: np.float64}


@dataclass(frozen=True)
class Connections:
    """One synapse per weight that is not zero.

    Attributes:
        pre, post: neurons, as indices into the flattened value of a node.
        weight: of each.
    """

    pre: Array
    post: Array
    weight: Array


def connections(node: Any, shape: tuple[int, ...]) -> tuple[Connections, Array]:
    """The synapses into a node from a source of some shape, and the node's constant part (flat)."""
    size = int(np.prod(shape))
    if type(node) not in LAYERS:
        each = np.arange(size)
        return Connections(each, each, np.ones(size)), np.zeros(size)
    layer = LAYERS[type(node)](node, torch.float64)
    with torch.no_grad():
        constant = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        _require_few(shape, len(constant))
        matrix = layer(torch.eye(size, dtype=torch.float64).unflatten(1, shape)).flatten(1)
        if isinstance(node, nir.Affine | nir.Conv1d | nir.Conv2d):
            matrix = _without_bias(layer, matrix, size, shape)
    pre, post = matrix.nonzero(as_tuple=True)
    return Connections(pre.numpy(), post.numpy(), matrix[pre, post].numpy()), constant.numpy()


def _without_bias(layer: Any, matrix: Tensor, size: int, shape: tuple[int, ...]) -> Tensor:
    """The weights alone, exactly: the bias is set to zero, not subtracted."""
    layer.bias.zero_()
    out: Tensor = layer(torch.eye(size, dtype=matrix.dtype).unflatten(1, shape)).flatten(1)
    return out


def _require_few(shape: tuple[int, ...], outputs: int) -> None:
    if int(np.prod(shape)) > MAX_NEURONS or outputs > MAX_NEURONS:
        raise _TooLarge(f"connects {int(np.prod(shape))} with {outputs} neurons")


class _TooLarge(Exception):  # noqa: N818 - internal: the caller adds the node's name
    pass


class BrianRunnable:
    """A NIR graph in Brian2. See :class:`zoo.adapters.base.Runnable`."""

    def __init__(self, graph: nir.NIRGraph, *, dtype: torch.dtype, dt: float | None) -> None:
        check_type(dtype)
        self.shapes = shapes.infer(graph)
        self.graph, self.dtype = graph, dtype
        self.dt = metadata.get(graph).dt if dt is None else dt
        check_dt(self.dt)
        self.order, self.sources = evaluation_order(graph), predecessors(graph)
        neurons = sum(isinstance(node, NEURONS) for node in graph.nodes.values())
        self.own_cells = (neurons, neurons)
        self.edges, self.constants = _wire(graph, self.shapes, self.sources)
        self.synapses = sum(len(edge.pre) for edges in self.edges.values() for edge in edges)
        for name in nodes_of(graph, nir.Delay):
            _require_whole_steps(name, graph.nodes[name], self.dt)

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...), or one per Input node -> outputs (T, B, ...) by Output node, from rest."""
        return {name: torch.from_numpy(value) for name, value in self.run(x).outputs.items()}

    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with spikes and potentials of the recorded nodes."""
        given = {name: value.detach().cpu().numpy() for name, value in given_inputs(self.graph, x).items()}
        wanted = recorded_nodes(self.graph, record)
        batch = next(iter(given.values())).shape[1]
        size = max(1, COPIES // max(1, self.synapses))
        parts = []
        for start in range(0, batch, size):
            part = {name: value[:, start : start + size] for name, value in given.items()}
            with _settings(_TYPES[self.dtype]):
                parts.append(_Simulation(self, part, wanted).run())
        joined = [_joined([getattr(part, kind) for part in parts]) for kind in ("outputs", "spikes", "potentials")]
        return Trace(*joined)


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def _wire(
    graph: nir.NIRGraph, known: Mapping[str, tuple[int, ...]], sources: Mapping[str, list[str]]
) -> tuple[dict[str, list[Connections]], dict[str, Array]]:
    """(synapses of every in-edge, constant part) by node.

    Raises:
        UnsupportedGraphError: more neurons or synapses than Brian2 can be asked for.
    """
    edges: dict[str, list[Connections]] = {}
    constants: dict[str, Array] = {}
    reasons: list[str] = []
    for name, node in graph.nodes.items():
        if reasons or not sources[name]:
            continue
        try:
            made = [connections(node, known[source]) for source in sources[name][:1]]
        except _TooLarge as error:
            reasons.append(f"node {name!r} {error}, more than {MAX_NEURONS}: too large for explicit synapses")
            continue
        edges[name] = [made[0][0]] * len(sources[name])
        constants[name] = made[0][1]
    neurons = sum(int(np.prod(shape)) for shape in known.values())
    synapses = sum(len(edge.pre) for group in edges.values() for edge in group)
    if not reasons and (neurons > 10 * MAX_NEURONS or synapses > MAX_SYNAPSES):
        reasons.append(f"{neurons} neurons and {synapses} synapses are more than {10 * MAX_NEURONS} and {MAX_SYNAPSES}")
    if reasons:
        raise UnsupportedGraphError("brian2", reasons)
    return edges, constants


def _require_whole_steps(name: str, node: nir.Delay, dt: float) -> None:
    try:
        delay_steps(node, dt)
    except InvalidGraphError as error:
        raise InvalidGraphError(f"node {name!r}: {error}") from None


@contextmanager
def _settings(dtype: Any) -> Iterator[None]:
    """Numpy code, no rewriting of expressions, the type of the computation; as before afterwards."""
    wanted = {
        "codegen.target": "numpy",
        "codegen.loop_invariant_optimisations": False,
        "core.default_float_dtype": dtype,
    }
    before = {name: brian2.prefs[name] for name in wanted}
    try:
        for name, value in wanted.items():
            brian2.prefs[name] = value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of pyparsing, on how Brian2 2.9 calls it
            yield
    finally:
        for name, value in before.items():
            brian2.prefs[name] = value


class _Simulation:
    """One network for one batch.

    Args:
        runnable: what to simulate.
        given: inputs (T, B, ...) by Input node.
        wanted: nodes to be recorded.
    """

    def __init__(self, runnable: BrianRunnable, given: Mapping[str, Array], wanted: set[str]) -> None:
        self.runnable, self.graph, self.given, self.wanted = runnable, runnable.graph, given, wanted
        self.steps, self.batch = next(iter(given.values())).shape[:2]
        self.network: Any = brian2.Network()
        self.clock: Any = brian2.Clock(dt=1 * brian2.ms)
        self.groups: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.spikes: dict[str, Any] = {}
        for position, name in enumerate(runnable.order):
            self._group(name, position * _STRIDE)
        for name in runnable.order:
            for index, source in enumerate(runnable.sources[name]):
                self._synapses(name, index, source, runnable.order.index(source) * _STRIDE + _SEND)
        for name in {*wanted, *nodes_of(self.graph, nir.Output)}:
            self._monitor(name)

    def run(self) -> Trace:
        """Simulate all steps."""
        self.network.run(self.steps * brian2.ms, namespace={})
        outputs = {name: self._analog(name) for name in nodes_of(self.graph, nir.Output)}
        fires = [name for name in self.wanted if isinstance(self.graph.nodes[name], SPIKING)]
        return Trace(
            outputs, {name: self._events(name) for name in fires}, {name: self._analog(name) for name in self.wanted}
        )

    def _size(self, name: str) -> int:
        return int(np.prod(self.runnable.shapes[name]))

    def _group(self, name: str, order: int) -> None:
        """The neurons of one node and what they do in a step."""
        node = self.graph.nodes[name]
        count = len(self.runnable.sources[name])
        summed = [f"x{i}" for i in range(count)]
        code, variables = self._code(name, node, summed)
        fires = isinstance(node, SPIKING)
        names = [*(f"x{i}" for i in range(count)), "u", *variables]
        if fires:
            names.append("v_th")
        model = "\n".join(f"{variable} : 1" for variable in dict.fromkeys(names))
        known = {"stimulus": self._stimulus(name)} if isinstance(node, nir.Input) else {}
        events = {"threshold": "u > v_th", "reset": "v = v_reset" if "v" in variables else ""} if fires else {}
        group: Any = brian2.NeuronGroup(
            self.batch * self._size(name), model, clock=self.clock, namespace=known, **events
        )
        for variable, value in variables.items():
            self._set(group, variable, value, name)
        if fires:
            self._set(group, "v_th", node.threshold if isinstance(node, nir.Threshold) else node.v_threshold, name)
            _schedule(group.thresholder["spike"], order + _FIRE)
            for reset in group.resetter.values():
                _schedule(reset, order + _RESET)
        operations = [group.run_regularly(code, when="groups", order=order + _DO)]
        if count:
            clear = "\n".join(f"x{i} = 0" for i in range(count))
            operations.append(group.run_regularly(clear, when="start"))
        if isinstance(node, nir.Delay):
            operations.append(group.run_regularly(_shift(node, self.runnable.dt, summed), when="end"))
        self.groups[name] = group
        self.network.add(group, *operations)

    def _code(self, name: str, node: Any, terms: list[str]) -> tuple[str, dict[str, Any]]:
        """(statements of one step, variables with their values); ``u`` is what is compared or handed on."""
        if isinstance(node, nir.Input):
            return "u = stimulus(t, i)", {}
        if isinstance(node, nir.Delay):
            steps = delay_steps(node, self.runnable.dt)
            past = {f"d{k}": 0.0 for k in range(1, int(steps.max()) + 1)}
            chosen = " + ".join(f"int(steps == {k}) * d{k}" for k in range(1, len(past) + 1))
            return f"u = {chosen}", {"steps": steps, **past}  # one term is not zero
        if isinstance(node, NEURONS):
            code, variables = _integration(membranes(node, self.runnable.dt))
            return f"{_sum(terms, 'x')}\n{code}", variables
        constant = self.runnable.constants[name]
        if constant.any():
            return _sum([*terms, "constant"], "u"), {"constant": constant}
        return _sum(terms, "u"), {}

    def _stimulus(self, name: str) -> Any:
        values = self.given[name].reshape(self.steps, -1).astype(np.float64)
        return brian2.TimedArray(values, dt=1 * brian2.ms)

    def _set(self, group: Any, variable: str, value: Any, name: str) -> None:
        """The same for every copy; numbers per element in the order of the flattened node."""
        array, shape = np.asarray(value, np.float64), self.runnable.shapes[name]
        flat = array.ravel() if array.size == self._size(name) else np.broadcast_to(array, shape).ravel()
        setattr(group, variable, np.tile(flat, self.batch))

    def _synapses(self, name: str, index: int, source: str, order: int) -> None:
        """All copies of one edge."""
        edge = self.runnable.edges[name][index]
        if not len(edge.pre):
            return
        before, after = self.groups[source], self.groups[name]
        fires = isinstance(self.graph.nodes[source], SPIKING)
        if fires:
            made: Any = brian2.Synapses(before, after, "w : 1", on_pre=f"x{index}_post += w", clock=self.clock)
            _schedule(made.pre, order)
        else:
            made = brian2.Synapses(before, after, f"w : 1\nx{index}_post = w * u_pre : 1 (summed)", clock=self.clock)
            _schedule(made.summed_updaters[f"x{index}_post"], order)
        copies = np.arange(self.batch)[:, None]
        made.connect(
            i=(copies * self._size(source) + edge.pre).ravel(), j=(copies * self._size(name) + edge.post).ravel()
        )
        made.w = np.tile(edge.weight, self.batch)
        self.network.add(made)

    def _monitor(self, name: str) -> None:
        group = self.groups[name]
        self.values[name] = brian2.StateMonitor(group, "u", record=True, when="end", order=-1, clock=self.clock)
        self.network.add(self.values[name])
        if isinstance(self.graph.nodes[name], SPIKING):
            self.spikes[name] = brian2.SpikeMonitor(group, when="end")
            self.network.add(self.spikes[name])

    def _analog(self, name: str) -> Array:
        return self._shaped(name, np.asarray(self.values[name].u).T)

    def _events(self, name: str) -> Array:
        monitor = self.spikes[name]
        out = np.zeros((self.steps, self.batch * self._size(name)), _TYPES[self.runnable.dtype])
        out[np.rint(np.asarray(monitor.t / brian2.ms)).astype(int), np.asarray(monitor.i)] = 1
        return self._shaped(name, out)

    def _shaped(self, name: str, flat: Array) -> Array:
        return np.ascontiguousarray(flat.reshape(self.steps, self.batch, *self.runnable.shapes[name]))


def _schedule(item: Any, order: int) -> None:
    item.when, item.order = "groups", order


def _sum(terms: list[str], name: str) -> str:
    """Statements that add terms left to right."""
    return "\n".join([f"{name} = {terms[0]}", *(f"{name} = {name} + {term}" for term in terms[1:])])


def _shift(node: nir.Delay, dt: float, terms: list[str]) -> str:
    longest = int(delay_steps(node, dt).max())
    return "\n".join([*(f"d{k} = d{k - 1}" for k in range(longest, 1, -1)), _sum(terms, "d1")])


def _integration(parts: Any) -> tuple[str, dict[str, Any]]:
    """Statements and variables of a neuron that gets ``x``: ``c`` is its synapse's current, ``v`` its membrane's potential."""
    lines: list[str] = []
    variables: dict[str, Any] = {}
    x = "x"
    for part, v in zip(parts, ("v",) if len(parts) == 1 else ("c", "v"), strict=True):
        variables |= {v: 0.0, f"r_{v}": part.r}
        lines.append(f"in_{v} = r_{v} * {x}")
        if part.k is not None:
            variables |= {f"k_{v}": part.k, f"leak_{v}": part.v_leak}
            lines += [f"out_{v} = leak_{v} - {v}", f"in_{v} = out_{v} + in_{v}", f"in_{v} = k_{v} * in_{v}"]
        lines.append(f"{v} = {v} + in_{v}")
        x = v
    lines.append("u = v")
    if parts[-1].threshold is not None:
        variables["v_reset"] = parts[-1].reset
    return "\n".join(lines), variables


class BrianBackend:
    """See :class:`zoo.adapters.base.Backend`."""

    name = "brian2"

    def check(self, graph: nir.NIRGraph) -> list[str]:
        """Nodes that have no discrete-time meaning, and graphs that are too large."""
        reasons = unknown_nodes(graph)
        if reasons:
            return reasons
        try:
            _wire(graph, shapes.infer(graph), predecessors(graph))
        except UnsupportedGraphError as error:
            return list(error.reasons)
        except ZooError:
            pass  # build says what is wrong with the graph
        return []

    def build(
        self,
        graph: nir.NIRGraph,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        dt: float | None = None,
        fuse: bool = True,
    ) -> BrianRunnable:
        """See :class:`zoo.adapters.base.Backend`. Brian2 runs on the CPU, node by node."""
        del fuse
        if torch.device(device).type != "cpu":
            raise InvalidInputError(f"Brian2 runs on the CPU, not on {device!r}")
        reasons = unknown_nodes(graph)
        if reasons:
            raise UnsupportedGraphError(self.name, reasons)
        return BrianRunnable(graph, dtype=dtype, dt=dt)


BACKEND = BrianBackend()
