"""Neurons: what a NIR neuron node asks of a cell, and the plain torch cell for what a framework has none of its own for.

Every NIR neuron is one membrane, or two in a row: a current-based neuron is a leaky integrator (its synapse) that feeds a
membrane. A framework therefore says only how it runs one :class:`Membrane`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

from zoo.adapters.ops import Constants, Spike, fire
from zoo.nir_graphs.fields import Array
from zoo.nir_graphs.graph import FlatNode

State = Any


@dataclass(frozen=True)
class Membrane:
    """One membrane of the discrete-time contract; float64 arrays, as compact as they are.

    With a leak v <- v + k ((v_leak - v) + r x), without v <- v + r x. With a threshold z = [v > threshold] is handed on and
    v <- reset where z; without, v itself.

    Attributes:
        k: dt / tau; None where nothing leaks.
        r: gain of the input; where nothing leaks, times dt.
        v_leak: 0 where nothing leaks.
        threshold: None where nothing fires.
        reset: 0 where nothing fires.
    """

    k: Array | None
    r: Array
    v_leak: Array
    threshold: Array | None
    reset: Array


def membranes(node: FlatNode, dt: float) -> list[Membrane]:
    """The membranes of a neuron node, in the order in which a signal passes them."""
    return MEMBRANES[node.type](node, dt)


def _firing(node: FlatNode) -> tuple[Array | None, Array]:
    """Threshold and reset of a node's last membrane."""
    return (_f64(node["v_threshold"]), _f64(node["v_reset"])) if node.facts.spiking else (None, np.zeros(()))


def _integrator(node: FlatNode, dt: float) -> list[Membrane]:
    return [Membrane(None, dt * _f64(node["r"]), np.zeros(()), *_firing(node))]


def _leaky(node: FlatNode, dt: float, tau: str = "tau") -> list[Membrane]:
    return [Membrane(dt / _f64(node[tau]), _f64(node["r"]), _f64(node["v_leak"]), *_firing(node))]


def _current_based(node: FlatNode, dt: float) -> list[Membrane]:
    zero = np.zeros(())
    synapse = Membrane(dt / _f64(node["tau_syn"]), _f64(node["w_in"]), zero, None, zero)
    return [synapse, *_leaky(node, dt, "tau_mem")]


MEMBRANES: dict[type, Callable[[FlatNode, float], list[Membrane]]] = {
    nir.I: _integrator,
    nir.IF: _integrator,
    nir.LI: _leaky,
    nir.LIF: _leaky,
    nir.CubaLI: _current_based,
    nir.CubaLIF: _current_based,
}
"""Node types with membranes."""


class Cell(Constants):
    """Runs a membrane step by step.

    Attributes:
        is_own: whether integration, firing and reset are a framework's own.
    """

    is_own = False

    def start(self, like: Tensor) -> State:
        """State of rest, v = 0, for inputs (B, ...)."""
        return torch.zeros_like(like)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Input (B, ...) of one step -> output (B, ...), new state."""
        raise NotImplementedError

    def potential(self, x: Tensor, before: State, out: Tensor, after: State) -> Tensor:
        """What that step compared with the threshold (B, ...): v after integration, before the reset."""
        raise NotImplementedError

    def finish(self) -> None:
        """Let go of what the cell itself remembers, after the last step."""


class PlainCell(Cell):
    """The contract's equations in torch. The state is v after the reset.

    Args:
        membrane: what to compute.
        dtype: of the computation.
        spike: Heaviside function with a surrogate gradient.
    """

    k: Tensor
    r: Tensor
    v_leak: Tensor
    threshold: Tensor
    reset: Tensor

    def __init__(self, membrane: Membrane, dtype: torch.dtype, spike: Spike | None) -> None:
        super().__init__()
        self.leaks, self.fires, self.spike = membrane.k is not None, membrane.threshold is not None, spike
        for name in ("k", "r", "v_leak", "threshold", "reset"):
            value = getattr(membrane, name)
            self.constant(name, 0.0 if value is None else value, dtype)

    def _integrate(self, x: Tensor, v: Tensor) -> Tensor:
        return v + self.k * ((self.v_leak - v) + self.r * x) if self.leaks else v + self.r * x

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Cell`."""
        v = self._integrate(x, state)
        if not self.fires:
            return v, v
        z = fire(v, self.threshold, self.spike)
        return z, torch.where(z > 0, self.reset, v)

    def potential(self, x: Tensor, before: Tensor, out: Tensor, after: Tensor) -> Tensor:
        """See :class:`Cell`."""
        del out, after
        return self._integrate(x, before)


class IntegratingCell(Cell):
    """A framework's integrate-and-fire cell, whose leak comes in with the current. The state is v after the reset.

    v + (dt/tau) ((v_leak - v) + r x) is computed as v + current, so that each step has the contract's very bits for every tau,
    whichever form of the leak the framework's own leaky cell has.

    Attributes:
        above: least number of the type above the threshold: what a framework that fires at v >= threshold has to be given.
            Infinite where nothing fires.
    """

    is_own = True
    k: Tensor
    r: Tensor
    v_leak: Tensor
    above: Tensor

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__()
        self.leaks, self.fires = membrane.k is not None, membrane.threshold is not None
        self.constant("k", 0.0 if membrane.k is None else membrane.k, dtype)
        self.constant("r", membrane.r, dtype)
        self.constant("v_leak", membrane.v_leak, dtype)
        self.constant("above", np.inf if membrane.threshold is None else membrane.threshold, dtype)
        self.above = torch.nextafter(self.above, torch.full_like(self.above, torch.inf))

    def integrate(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(spikes or v, v after the reset) of one step of the framework's cell."""
        raise NotImplementedError

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Cell`."""
        out, v = self.integrate(self._current(x, state), state)
        return out.to(x.dtype), v

    def potential(self, x: Tensor, before: Tensor, out: Tensor, after: Tensor) -> Tensor:
        """See :class:`Cell`."""
        del out, after
        return before + self._current(x, before)

    def _current(self, x: Tensor, v: Tensor) -> Tensor:
        current = self.r * x
        return self.k * ((self.v_leak - v) + current) if self.leaks else current


class Cascade(Cell):
    """Two cells in a row, within one step: a current-based neuron."""

    def __init__(self, synapse: Cell, membrane: Cell) -> None:
        super().__init__()
        self.synapse, self.membrane = synapse, membrane
        self.is_own = synapse.is_own and membrane.is_own

    def start(self, like: Tensor) -> State:
        """See :class:`Cell`."""
        return self.synapse.start(like), self.membrane.start(like)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See :class:`Cell`."""
        current, synapse = self.synapse.step(x, state[0])
        out, membrane = self.membrane.step(current, state[1])
        return out, (synapse, membrane)

    def potential(self, x: Tensor, before: State, out: Tensor, after: State) -> Tensor:
        """See :class:`Cell`."""
        current, _ = self.synapse.step(x, before[0])
        return self.membrane.potential(current, before[1], out, after[1])

    def finish(self) -> None:
        """See :class:`Cell`."""
        self.synapse.finish()
        self.membrane.finish()


@dataclass(frozen=True)
class Framework:
    """What a torch framework brings.

    Attributes:
        name: of the backend.
        cell: makes the framework's own cell for a membrane, or returns None where it has none that is exact.
        spike: its Heaviside function with a surrogate gradient.
    """

    name: str
    cell: Callable[[Membrane, torch.dtype], Cell | None]
    spike: Spike | None = None

    def neuron(self, node: FlatNode, dtype: torch.dtype, dt: float) -> Cell:
        """The cell for a neuron node: the framework's own where it has one, else the plain one."""
        cells = [self.cell(m, dtype) or PlainCell(m, dtype, self.spike) for m in membranes(node, dt)]
        return cells[0] if len(cells) == 1 else Cascade(*cells)


def run_cell(cell: Cell, x: Tensor, *, with_potentials: bool) -> tuple[Tensor, Tensor | None]:
    """A whole sequence (T, B, ...) from rest -> outputs and, where asked for, potentials (T, B, ...)."""
    state = cell.start(x[0])
    outputs, potentials = [], []
    for current in x:
        before = state
        out, state = cell.step(current, before)
        outputs.append(out)
        if with_potentials:
            potentials.append(cell.potential(current, before, out, state))
    cell.finish()
    return torch.stack(outputs), torch.stack(potentials) if with_potentials else None


def _f64(value: Any) -> Array:
    return np.asarray(value, np.float64)
