"""JAX: the graph as a pure function, compiled by XLA.

Nodes without memory run once on all time steps folded into the batch, neurons are scanned over their own sequence
(``lax.scan``), and only what lies on a cycle is stepped node by node. Membranes that do not fire run on ``spyx.nn.LI``; those
that fire are plain JAX, because Spyx's neurons compare the potential of the step before and can only subtract. ``own_cells``
counts the nodes on Spyx's cells. Thresholds are compared; their gradient is Spyx's SuperSpike surrogate.

``runnable.function(parameters, x)`` is the pure function, for ``jax.grad``, ``jax.jit`` or for building on;
``runnable.parameters`` are its constants by node. In float64 give it what ``runnable.array(x)`` makes: JAX itself, also
``jax.jit`` of what it is given, makes float32 arrays of float64 numbers unless x64 is on. What the caller computes with the
outputs is the caller's: inside ``with jax.enable_x64(True)`` it stays in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import nir
import numpy as np
import torch
from jax import lax
from torch import Tensor

from zoo.adapters.checks import check_shapes, check_type, given_inputs, not_run
from zoo.adapters.jax_ops import LAYERS, Delay, Layer, Neuron, Operation, Value, Values, operation
from zoo.adapters.membranes import MEMBRANES
from zoo.errors import InvalidInputError, UnsupportedGraphError
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.nodes import STATEFUL
from zoo.nir_graphs.normalise import Graph, normalise
from zoo.nir_graphs.reference import Record, Trace, recorded_nodes

Parameters = Mapping[str, Any]
"""By node and by name; a neuron's also by membrane."""
_TYPES = {torch.float32: np.float32, torch.float64: np.float64}
_PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "xpu": "gpu"}


class JaxRunnable:
    """A NIR graph in JAX. See :class:`zoo.adapters.base.Runnable`.

    Args:
        graph: what to run.
        dtype: of the computation, float32 or float64.
        device: torch's name of a device.

    Attributes:
        parameters: arrays on the device by node; another set of the same form may take its place.

    Raises:
        InvalidInputError: another type than float32 or float64, or a device that JAX does not have.
    """

    def __init__(self, graph: FlatGraph, *, dtype: torch.dtype, device: str) -> None:
        check_type(dtype)
        self.graph, self.dtype, self._type = graph, dtype, _TYPES[dtype]
        self._device_name, self.device = device, _device(device)
        self.operations: dict[str, Operation] = {}
        with self._precision():
            for name, node in graph.nodes.items():
                if node.type not in {nir.Delay, nir.Input}:
                    self.operations[name] = operation(node, self._type, graph.dt)
        constants = {name: op.parameters for name, op in self.operations.items() if op.parameters}
        self.parameters: Parameters = jax.tree.map(self.array, constants)
        self._compiled: dict[frozenset[str], Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.graph, self.dtype, self._device_name, jax.tree.map(np.asarray, self.parameters))

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was changed or assumed when the graph was normalised."""
        return self.graph.notes

    @property
    def own_cells(self) -> tuple[int, int]:
        """(neuron nodes on Spyx's cells, neuron nodes in all)."""
        neurons = [op for op in self.operations.values() if isinstance(op, Neuron)]
        return sum(op.spyx_cells == op.membranes for op in neurons), len(self.graph.names(*STATEFUL))

    def array(self, x: Any) -> jax.Array:
        """Numbers as a JAX array in the runnable's type, on its device, whether x64 is on or off."""
        with self._precision():
            made: jax.Array = jax.device_put(np.asarray(x, self._type), self.device)
            return made

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...), or one per Input node -> outputs (T, B, ...) by Output node, from rest."""
        return {name: torch.from_numpy(np.array(value)) for name, value in self._execute(x, frozenset())[0].items()}

    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with spikes and potentials of the recorded nodes."""
        outputs, spikes, potentials = self._execute(x, frozenset(recorded_nodes(self.graph, record)))
        return Trace(
            *({name: np.array(value) for name, value in part.items()} for part in (outputs, spikes, potentials))
        )

    def function(self, parameters: Parameters, x: Any) -> dict[str, Value]:
        """The graph as a pure function: constants, and x (T, B, ...) or one per Input node -> outputs (T, B, ...) by node.

        It starts from rest, and computes in the runnable's type, also under ``jax.grad`` and ``jax.jit`` where x64 is off.

        Args:
            parameters: of the form of ``runnable.parameters``.
            x: arrays or tracers; see :meth:`array`.

        Raises:
            InvalidInputError: inputs that do not fit the Input nodes; in float64, a parameter in float32, or an input that is
                float32 inside ``jax.jit`` or ``jax.grad``, where it cannot be told from a float64 one that JAX has rounded.
        """
        given = dict(x) if isinstance(x, Mapping) else {self.graph.inputs[0]: x}
        check_shapes(self.graph, {name: np.shape(value) for name, value in given.items()})
        with self._precision():
            given = {name: self._typed(f"the input {name!r}", value) for name, value in given.items()}
            typed = jax.tree.map(lambda leaf: self._typed("a parameter", leaf), parameters)
            outputs: dict[str, Value] = self._differentiable()(typed, given)
        return outputs

    def _differentiable(self) -> Callable[[Parameters, dict[str, Value]], dict[str, Value]]:
        """Outputs as a function of typed arrays.

        JAX calls what computes gradients when the caller asks for them, where x64 may be off; it is on in there, too.
        """

        def outputs(parameters: Parameters, given: dict[str, Value]) -> dict[str, Value]:
            made: dict[str, Value] = self._sequence(frozenset(), parameters, given)[0]
            return made

        def forward(parameters: Parameters, given: dict[str, Value]) -> Any:
            with self._precision():
                return jax.vjp(outputs, parameters, given)

        def backward(pull: Callable[[Any], Any], gradient: dict[str, Value]) -> Any:
            with self._precision():
                return pull(gradient)

        if self.dtype == torch.float32:
            return outputs
        wrapped = jax.custom_vjp(outputs)
        wrapped.defvjp(forward, backward)
        return wrapped

    def _typed(self, what: str, value: Any) -> Value:
        """An array in the runnable's type; refused is what JAX may have rounded to float32 on its way here."""
        is_float32 = isinstance(value, jax.Array) and value.dtype == np.float32
        if is_float32 and self._type is np.float64 and (what == "a parameter" or isinstance(value, jax.core.Tracer)):
            raise InvalidInputError(
                f"{what} is float32, but this runnable computes in float64: JAX makes float32 of it unless x64 is on. Make "
                "arrays with runnable.array(...), or work inside `with jax.enable_x64(True):`"
            )
        return jnp.asarray(value, self._type)

    def _execute(self, x: Tensor | Mapping[str, Tensor], wanted: frozenset[str]) -> Any:
        given = {
            name: value.detach().cpu().numpy().astype(self._type) for name, value in given_inputs(self.graph, x).items()
        }
        with self._precision(), jax.default_device(self.device):
            if wanted not in self._compiled:
                self._compiled[wanted] = jax.jit(lambda *args: self._sequence(wanted, *args))
            return jax.block_until_ready(self._compiled[wanted](self.parameters, given))

    def _precision(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = jax.enable_x64(self.dtype == torch.float64)
        return context

    def _sequence(self, wanted: frozenset[str], parameters: Parameters, given: dict[str, Value]) -> Any:
        """All steps -> (outputs, recorded spikes, recorded potentials), each by node."""
        run = _Run(self, wanted, parameters, given)
        for component in self.graph.components:
            if self.graph.is_cycle(component):
                run.loop(set(component))
            elif component[0] not in given:
                run.node(component[0])
        outputs = {name: run.values[name] for name in self.graph.outputs}
        spikes = {name: run.values[name] for name in wanted if self.graph.nodes[name].facts.spiking}
        return outputs, spikes, {name: run.potentials.get(name, run.values[name]) for name in wanted}


class _Run:
    """The trace of one call.

    Args:
        runnable: what runs.
        wanted: nodes whose potentials are recorded.
        parameters: constants by node.
        given: inputs (T, B, ...) by Input node.

    Attributes:
        values: what nodes give out (T, B, ...).
        potentials: what wanted nodes compare with their thresholds, where that is not what they give out.
    """

    def __init__(
        self, runnable: JaxRunnable, wanted: frozenset[str], parameters: Parameters, given: dict[str, Value]
    ) -> None:
        self.graph, self.operations, self.wanted = runnable.graph, runnable.operations, wanted
        self.parameters, self.values = parameters, dict(given)
        self.potentials: dict[str, Value] = {}
        first = next(iter(given.values()))
        self.length, self.batch = first.shape[:2]
        self.zero = first.reshape(-1)[0] * 0  # what XLA cannot know before it runs: see jax_ops

    def node(self, name: str) -> None:
        """A node that lies on no cycle, on the whole sequence."""
        x, op = self._sum(name, self.values), self.operations.get(name)
        if op is None:
            self.values[name] = Delay(self.graph.nodes[name], self.length).whole(x)
        elif isinstance(op, Layer):
            if self.graph.nodes[name].facts.spiking:
                self.potentials[name] = x
            y = op.apply(self._parameters(name), self.zero, x.reshape(-1, *x.shape[2:]))
            self.values[name] = y.reshape(*x.shape[:2], *y.shape[1:])
        else:
            self._neuron(name, op, x)

    def _neuron(self, name: str, op: Neuron, x: Value) -> None:
        def step(state: Any, now: Value) -> Any:
            y, state, potential = op.step(self._parameters(name), self.zero, now, state)
            return state, (y, potential if name in self.wanted else None)

        rest = (jnp.zeros_like(x[0]),) * op.membranes
        self.values[name], potential = lax.scan(step, rest, x)[1]
        if potential is not None:
            self.potentials[name] = potential

    def loop(self, members: set[str]) -> None:
        """The nodes of a cycle, stepped through time together."""
        order = [name for name in self.graph.order if name in members]
        outside = {source for name in order for source in self.graph.sources[name]} - members
        read = {name for name in order if set(self.graph.targets[name]) - members or name in self.wanted}
        delays = {name: Delay(self.graph.nodes[name], self.length) for name in order if name not in self.operations}
        dtype = self.zero.dtype
        rest: dict[str, Any] = {name: delay.rest(self.batch, dtype) for name, delay in delays.items()}
        for name in order:
            op = self.operations.get(name)
            if isinstance(op, Neuron):
                rest[name] = (jnp.zeros((self.batch, *self.graph.nodes[name].shape), dtype),) * op.membranes

        def step(state: dict[str, Any], inputs: tuple[Value, dict[str, Value]]) -> Any:
            now, given = inputs
            state, values, potentials = dict(state), dict(given), {}
            for name in order:
                if name in delays:
                    values[name] = delays[name].read(state[name], now)
                else:
                    potentials[name] = self._step(name, values, state)
            for name, delay in delays.items():
                state[name] = delay.write(state[name], now, self._sum(name, values))
            kept = {name: value for name, value in potentials.items() if name in self.wanted}
            return state, ({name: values[name] for name in read}, kept)

        times = jnp.arange(self.length, dtype=np.int32)
        _, (values, potentials) = lax.scan(step, rest, (times, {name: self.values[name] for name in outside}))
        self.values |= values
        self.potentials |= potentials

    def _step(self, name: str, values: dict[str, Value], state: dict[str, Any]) -> Value:
        """One step of a node on a cycle: enters its value and its state, and returns its potential."""
        op, x = self.operations[name], self._sum(name, values)
        if isinstance(op, Layer):
            values[name] = op.apply(self._parameters(name), self.zero, x)
            return x if self.graph.nodes[name].facts.spiking else values[name]
        values[name], state[name], potential = op.step(self._parameters(name), self.zero, x, state[name])
        return potential

    def _parameters(self, name: str) -> Values:
        found: Values = self.parameters.get(name, {})
        return found

    def _sum(self, name: str, values: Mapping[str, Value]) -> Value:
        """Sum of the in-edges, left to right."""
        first, *others = self.graph.sources[name]
        total = values[first]
        for source in others:
            total = total + values[source]
        return total


def _rebuilt(graph: FlatGraph, dtype: torch.dtype, device: str, parameters: Parameters) -> JaxRunnable:
    """A runnable from its pickle."""
    runnable = JaxRunnable(graph, dtype=dtype, device=device)
    runnable.parameters = jax.tree.map(runnable.array, parameters)
    return runnable


def _device(name: str) -> Any:
    kind, _, index = str(name).partition(":")
    try:
        return jax.devices(_PLATFORMS.get(kind, kind))[int(index or 0)]
    except (RuntimeError, IndexError, ValueError):
        raise InvalidInputError(
            f"JAX has no device {name!r} here: it has {', '.join(map(str, jax.devices()))}"
        ) from None


class JaxBackend:
    """See :class:`zoo.adapters.base.Backend`."""

    name = "jax"

    def check(self, graph: Graph, *, dt: float | None = None) -> list[str]:
        """See :class:`zoo.adapters.base.Backend`. JAX runs every node type of the contract."""
        return not_run(normalise(graph, dt=dt), {nir.Input, nir.Delay, *LAYERS, *MEMBRANES}, self.name)

    def build(
        self,
        graph: Graph,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        dt: float | None = None,
        fuse: bool = True,
    ) -> JaxRunnable:
        """See :class:`zoo.adapters.base.Backend`. XLA fuses what it likes."""
        del fuse
        graph = normalise(graph, dt=dt)
        if reasons := self.check(graph):
            raise UnsupportedGraphError(self.name, reasons)
        return JaxRunnable(graph, dtype=dtype, device=device)


BACKEND = JaxBackend()
