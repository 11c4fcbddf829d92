"""JAX: the graph as a pure function, compiled by XLA; ``lax.scan`` over time where nodes have memory.

Membranes that do not fire run on ``spyx.nn.LI``; those that fire are plain JAX, because Spyx's neurons compare the potential of
the step before and can only subtract. ``own_cells`` counts the nodes on Spyx's cells. Thresholds are compared; their gradient
is Spyx's SuperSpike surrogate.

``runnable.function(parameters, x)`` is the pure function, for ``jax.grad`` or for building on; ``runnable.parameters`` are its
constants by node.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import nir
import numpy as np
import torch
from jax import lax
from torch import Tensor

from zoo.adapters.checks import check_type, given_inputs
from zoo.adapters.jax_ops import Operation, Parameters, Value, operation, read_delay
from zoo.errors import InvalidInputError
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.nodes import STATEFUL
from zoo.nir_graphs.normalise import Graph, normalise
from zoo.nir_graphs.reference import Record, Trace, recorded_nodes

_TYPES = {torch.float32: np.float32, torch.float64: np.float64}
_PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "xpu": "gpu"}
State = dict[str, Any]


class JaxRunnable:
    """A NIR graph in JAX. See :class:`zoo.adapters.base.Runnable`.

    Args:
        graph: what to run.
        dtype: of the computation, float32 or float64.
        device: torch's name of a device.

    Raises:
        InvalidInputError: another type than float32 or float64, or a device that JAX does not have.
    """

    def __init__(self, graph: FlatGraph, *, dtype: torch.dtype, device: str) -> None:
        check_type(dtype)
        self.graph, self.dtype, self._type = graph, dtype, _TYPES[dtype]
        self.device = _device(device)
        self.delays = graph.names(nir.Delay)
        self.operations: dict[str, Operation] = {}
        with self._precision():
            for name, node in graph.nodes.items():
                if node.type not in {nir.Delay, nir.Input}:
                    self.operations[name] = operation(node, self._type, graph.dt)
        self.parameters: Parameters = {name: op.parameters for name, op in self.operations.items() if op.parameters}
        self._compiled: dict[frozenset[str], Any] = {}

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was changed or assumed when the graph was normalised."""
        return self.graph.notes

    @property
    def own_cells(self) -> tuple[int, int]:
        """(neuron nodes on Spyx's cells, neuron nodes in all)."""
        cells = [self.operations[name].spyx_cells for name in self.graph.names(*STATEFUL)]
        return sum(own == every for own, every in cells), len(cells)

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...), or one per Input node -> outputs (T, B, ...) by Output node, from rest."""
        return {name: torch.from_numpy(np.array(value)) for name, value in self._execute(x, frozenset())[0].items()}

    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with spikes and potentials of the recorded nodes."""
        outputs, values, potentials = self._execute(x, frozenset(recorded_nodes(self.graph, record)))
        fires = {name for name in values if self.graph.nodes[name].facts.spiking}
        return Trace(
            {name: np.array(value) for name, value in outputs.items()},
            {name: np.array(values[name]) for name in potentials if name in fires},
            {name: np.array(value) for name, value in potentials.items()},
        )

    def function(self, parameters: Parameters, x: Any) -> dict[str, Value]:
        """Pure: constants and input (T, B, ...), or one per Input node -> outputs (T, B, ...) by Output node, from rest."""
        given = dict(x) if isinstance(x, Mapping) else dict.fromkeys(self.graph.inputs, x)
        outputs: dict[str, Value] = self._sequence(frozenset(), parameters, given)[0]
        return outputs

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
        """All steps: scanned where something has memory, else folded into the batch."""
        first = next(iter(given.values()))
        zero = first.reshape(-1)[0] * 0  # what XLA cannot know before it runs: see jax_ops
        if not self.graph.has_memory:
            folded = {name: value.reshape(-1, *value.shape[2:]) for name, value in given.items()}
            _, made = self._step(wanted, parameters, zero, None, folded)
            return jax.tree.map(lambda value: value.reshape(*first.shape[:2], *value.shape[1:]), made)
        now = {name: value[0] for name, value in given.items()}
        rest = self._rest(parameters, zero, now)
        return lax.scan(lambda state, x: self._step(wanted, parameters, zero, state, x), rest, given)[1]

    def _rest(self, parameters: Parameters, zero: Value, now: dict[str, Value]) -> State:
        """Every state zero, in the shapes that a first step leaves behind."""
        after = jax.eval_shape(lambda x: self._step(frozenset(), parameters, zero, None, x)[0], now)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), after)

    def _step(
        self, wanted: frozenset[str], parameters: Parameters, zero: Value, state: State | None, now: dict[str, Value]
    ) -> tuple[State, Any]:
        """One step; ``state`` None is rest. Returns the state and (outputs, recorded values, recorded potentials)."""
        values, potentials, after = dict(now), dict(now), {}
        batch = next(iter(now.values())).shape[0]
        for name in self.graph.order:
            if name in self.delays:
                node = self.graph.nodes[name]
                rest = (int(node["steps"].max()), batch, *node.shape)
                past = jnp.zeros(rest, self._type) if state is None else state[name]
                values[name] = potentials[name] = read_delay(node["steps"], past)
                after[name] = past
            elif name in self.operations:
                op = self.operations[name]
                x = self._sum(name, values)
                before = None if state is None else state.get(name)
                y, left, potentials[name] = op.step(parameters.get(name, {}), zero, x, before)
                values[name] = y
                if op.has_state:
                    after[name] = left
        for name in self.delays:
            after[name] = jnp.concatenate([self._sum(name, values)[None], after[name][:-1]])
        outputs = {name: values[name] for name in self.graph.outputs}
        recorded = {name: values[name] for name in wanted if name in potentials}
        return after, (outputs, recorded, {name: potentials[name] for name in recorded})

    def _sum(self, name: str, values: dict[str, Value]) -> Value:
        first, *others = self.graph.sources[name]
        total = values[first]
        for source in others:
            total = total + values[source]
        return total


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
        """See :class:`zoo.adapters.base.Backend`. JAX runs every valid graph."""
        normalise(graph, dt=dt)
        return []

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
        return JaxRunnable(normalise(graph, dt=dt), dtype=dtype, device=device)


BACKEND = JaxBackend()
