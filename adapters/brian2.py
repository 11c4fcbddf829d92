"""Brian2: small graphs as neuron groups and explicit synapses, as an independent simulator.

Every node becomes a ``NeuronGroup``; every edge becomes ``Synapses``, one for each weight that is not zero. Spikes travel as
events (``on_pre``), analog values as summed variables. A node with weights and several in-edges gets a group in front that sums
them, left to right, so that the weights act on the sum as the contract says. Firing and reset are Brian2's own
(``threshold='u > v_th'``, ``reset='v = v_reset'``). The integration is an explicit statement instead of a differential
equation, so that it has the contract's very bits; it is one operation per statement, because Brian2 sorts the terms of longer
expressions.
A Delay keeps the values of the last steps in an array that a ``NetworkOperation`` reads and writes.

Edges have no delay in the contract, but Brian2 updates all groups before it delivers any spike, which would cost one step per
layer. So its objects run in the order of the graph within each step.

A batch becomes copies of the network. Graphs with more than ``MAX_NEURONS`` neurons per node or ``MAX_SYNAPSES`` synapses are
refused: Brian2 would take minutes for each image. Brian2's preferences are global, so one simulation runs at a time, whatever
thread asks for it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import brian2
import nir
import numpy as np
import torch
from torch import Tensor

from zoo.adapters.brian2_wiring import Station, stations
from zoo.adapters.checks import check_type, given_inputs
from zoo.adapters.membranes import membranes
from zoo.errors import InvalidInputError, UnsupportedGraphError
from zoo.nir_graphs.fields import Array, Note
from zoo.nir_graphs.graph import FlatGraph, FlatNode
from zoo.nir_graphs.normalise import Graph, normalise
from zoo.nir_graphs.reference import Record, Trace, recorded_nodes

COPIES = 400_000
"""Synapses of all copies that are simulated at once; larger batches are simulated in parts."""
_DO, _FIRE, _RESET, _SEND, _STRIDE = 1, 2, 3, 4, 8
_TYPES = {torch.float32: np.float32, torch.float64: np.float64}
_PREFERENCES = threading.Lock()


class BrianRunnable:
    """A NIR graph in Brian2. See :class:`zoo.adapters.base.Runnable`."""

    def __init__(self, graph: FlatGraph, *, dtype: torch.dtype) -> None:
        check_type(dtype)
        self.graph, self.dtype = graph, dtype
        neurons = len(graph.where(lambda facts: facts.stateful))
        self.own_cells = (neurons, neurons)
        self.stations = stations(graph)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was changed or assumed when the graph was normalised."""
        return self.graph.notes

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...), or one per Input node -> outputs (T, B, ...) by Output node, from rest."""
        return {name: torch.from_numpy(value) for name, value in self.run(x).outputs.items()}

    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with spikes and potentials of the recorded nodes."""
        given = {name: value.detach().cpu().numpy() for name, value in given_inputs(self.graph, x).items()}
        wanted = recorded_nodes(self.graph, record)
        steps, batch = next(iter(given.values())).shape[:2]
        size = max(1, COPIES // self._cost(steps))
        parts = []
        for start in range(0, batch, size):
            part = {name: value[:, start : start + size] for name, value in given.items()}
            with _PREFERENCES, _settings(_TYPES[self.dtype]):
                parts.append(_Simulation(self, part, wanted).run())
        joined = [_joined([getattr(part, kind) for part in parts]) for kind in ("outputs", "spikes", "potentials")]
        return Trace(*joined)

    def _cost(self, steps: int) -> int:
        """Numbers that one copy holds: a weight per synapse, and what its Delays remember."""
        wires = sum(station.synapse_count for station in self.stations)
        remembered = sum(_depth(s.node, steps) * s.size for s in self.stations if s.node.type is nir.Delay)
        return max(1, wires + remembered)


def _depth(node: FlatNode, steps: int) -> int:
    """How many of the last steps a Delay has to remember in a run of so many."""
    return min(int(node["steps"].max()), steps)


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


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
        self.orders = {station.name: place * _STRIDE for place, station in enumerate(runnable.stations)}
        for station in runnable.stations:
            self._group(station)
        for station in runnable.stations:
            for index, source in enumerate(station.sources):
                self._synapses(station, index, source)
        for name in {*wanted, *self.graph.outputs}:
            self._monitor(name)

    def run(self) -> Trace:
        """Simulate all steps."""
        self.network.run(self.steps * brian2.ms, namespace={})
        outputs = {name: self._analog(name) for name in self.graph.outputs}
        fires = [name for name in self.wanted if self._fires(name)]
        return Trace(
            outputs, {name: self._events(name) for name in fires}, {name: self._analog(name) for name in self.wanted}
        )

    def _fires(self, name: str) -> bool:
        """Whether a station sends spikes; those that sum do not."""
        return name in self.graph.nodes and self.graph.nodes[name].facts.spiking

    def _group(self, station: Station) -> None:
        """The neurons of one station and what they do in a step."""
        node, fires, order = station.node, self._fires(station.name), self.orders[station.name]
        terms = [f"x{i}" for i in range(len(station.sources))]
        code, variables = self._code(station, terms)
        names = [*terms, "u", *variables]
        known = {"stimulus": self._stimulus(station.name)} if node.type is nir.Input else {}
        reset = "v = v_reset" if "v" in variables else ""
        events = {"threshold": "u > v_th", "reset": reset} if fires else {}
        group: Any = brian2.NeuronGroup(
            self.batch * station.size,
            "\n".join(f"{variable} : 1" for variable in dict.fromkeys(names)),
            clock=self.clock,
            namespace=known,
            **events,
        )
        for variable, value in variables.items():
            self._set(group, variable, value, station)
        if fires:
            _schedule(group.thresholder["spike"], order + _FIRE)
            for resetter in group.resetter.values():
                _schedule(resetter, order + _RESET)
        operations = [group.run_regularly(code, when="groups", order=order + _DO)] if code else []
        if terms:
            operations.append(group.run_regularly("\n".join(f"{term} = 0" for term in terms), when="start"))
        if node.type is nir.Delay:
            operations += self._memory(station, group, terms)
        self.groups[station.name] = group
        self.network.add(group, *operations)

    def _code(self, station: Station, terms: list[str]) -> tuple[str, dict[str, Any]]:
        """(statements of one step, variables with their values); ``u`` is what is compared or handed on."""
        node = station.node
        if node.type is nir.Input:
            return "u = stimulus(t, i)", {}
        if node.type is nir.Delay:
            return "", {}
        if node.facts.stateful:
            code, variables = _integration(membranes(node, self.graph.dt))
            return f"{_sum(terms)}\n{code}", variables
        result, variables = "x", {"v_th": node["threshold"]} if node.facts.spiking else {}
        if not station.sums and station.synapses.bias is not None:
            result, variables["bias"] = "x + bias", station.synapses.bias
        if not station.sums and station.synapses.divisor != 1:
            result, variables["divisor"] = "x / divisor", station.synapses.divisor
        return f"{_sum(terms)}\nu = {result}", variables

    def _memory(self, station: Station, group: Any, terms: list[str]) -> list[Any]:
        """What lets a Delay remember: a ring of the last steps, read in its turn and written after the step."""
        depth = _depth(station.node, self.steps)
        steps = np.tile(station.node.full("steps").ravel(), self.batch)
        ring = np.zeros((depth, steps.size), _TYPES[self.runnable.dtype])
        remembers, each = steps <= depth, np.arange(steps.size)
        u = group.variables["u"].get_value()
        inputs = [group.variables[term].get_value() for term in terms]
        now = 0

        def read() -> None:
            u[:] = np.where(remembers, ring[(now - steps) % depth, each], 0)

        def write() -> None:
            nonlocal now
            total = inputs[0]
            for value in inputs[1:]:
                total = total + value
            ring[now % depth] = total
            now += 1

        return [
            brian2.NetworkOperation(read, clock=self.clock, when="groups", order=self.orders[station.name] + _DO),
            brian2.NetworkOperation(write, clock=self.clock, when="end"),
        ]

    def _stimulus(self, name: str) -> Any:
        values = self.given[name].reshape(self.steps, -1).astype(np.float64)
        return brian2.TimedArray(values, dt=1 * brian2.ms)

    def _set(self, group: Any, variable: str, value: Any, station: Station) -> None:
        """The same for every copy; numbers per element in the order of the flattened node."""
        array = np.asarray(value, np.float64)
        flat = array if array.shape == (station.size,) else np.broadcast_to(array, station.node.shape).ravel()
        setattr(group, variable, np.tile(flat, self.batch))

    def _synapses(self, station: Station, index: int, source: str) -> None:
        """All copies of one edge."""
        wires, order = station.synapses, self.orders[source] + _SEND
        if not len(wires.pre):
            return
        before, after, target = self.groups[source], self.groups[station.name], f"x{index}_post"
        if self._fires(source):
            made: Any = brian2.Synapses(before, after, "w : 1", on_pre=f"{target} += w", clock=self.clock)
            _schedule(made.pre, order)
        else:
            made = brian2.Synapses(before, after, f"w : 1\n{target} = w * u_pre : 1 (summed)", clock=self.clock)
            _schedule(made.summed_updaters[target], order)
        copies = np.arange(self.batch)[:, None]
        sizes = len(before) // self.batch, station.size
        made.connect(i=(copies * sizes[0] + wires.pre).ravel(), j=(copies * sizes[1] + wires.post).ravel())
        made.w = np.tile(wires.weight, self.batch)
        self.network.add(made)

    def _monitor(self, name: str) -> None:
        group = self.groups[name]
        self.values[name] = brian2.StateMonitor(group, "u", record=True, when="end", order=-1, clock=self.clock)
        self.network.add(self.values[name])
        if self._fires(name):
            self.spikes[name] = brian2.SpikeMonitor(group, when="end")
            self.network.add(self.spikes[name])

    def _analog(self, name: str) -> Array:
        return self._shaped(name, np.asarray(self.values[name].u).T)

    def _events(self, name: str) -> Array:
        monitor, size = self.spikes[name], len(self.groups[name])
        out = np.zeros((self.steps, size), _TYPES[self.runnable.dtype])
        out[np.rint(np.asarray(monitor.t / brian2.ms)).astype(int), np.asarray(monitor.i)] = 1
        return self._shaped(name, out)

    def _shaped(self, name: str, flat: Array) -> Array:
        return np.ascontiguousarray(flat.reshape(self.steps, self.batch, *self.graph.nodes[name].shape))


def _schedule(item: Any, order: int) -> None:
    item.when, item.order = "groups", order


def _sum(terms: list[str]) -> str:
    """Statements that add terms left to right; the result is ``x``.

    Brian2 turns ``x = x / y`` into ``x *= 1 / y``, and ``x = y`` into another name of the same array. So every other statement
    gives its result a new name.
    """
    first, *others = terms
    if not others:
        return f"x = {first}"
    return "\n".join([f"x = {first} + {others[0]}", *(f"x = x + {term}" for term in others[1:])])


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
        variables |= {"v_th": parts[-1].threshold, "v_reset": parts[-1].reset}
    return "\n".join(lines), variables


class BrianBackend:
    """See :class:`zoo.adapters.base.Backend`."""

    name = "brian2"

    def check(self, graph: Graph, *, dt: float | None = None) -> list[str]:
        """See :class:`zoo.adapters.base.Backend`. Brian2 runs every valid graph that is small enough."""
        try:
            stations(normalise(graph, dt=dt))
        except UnsupportedGraphError as error:
            return list(error.reasons)
        return []

    def build(
        self,
        graph: Graph,
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
        return BrianRunnable(normalise(graph, dt=dt), dtype=dtype)


BACKEND = BrianBackend()
