"""Neurons: what a NIR neuron node asks of a cell, and the plain torch cell for what a framework has none of its own for.

Every NIR neuron is one membrane, or two in a row: a current-based neuron is a leaky integrator (its synapse) that feeds a
membrane. A framework therefore says only how it runs one :class:`Membrane`.

Cells hold constants and nothing else. The state of a run is passed in and handed back at every step, so that any number of
threads can run one cell at the same time.
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
    """Runs a neuron step by step.

    Attributes:
        is_own: whether integration, firing and reset are a framework's own code.
    """

    is_own = False

    def start(self, like: Tensor) -> State:
        """State of rest, v = 0, for inputs (B, ...)."""
        return torch.zeros_like(like)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Input (B, ...) of one step -> output (B, ...), new state; the old state stays as it is."""
        raise NotImplementedError

    def potential(self, x: Tensor, before: State, out: Tensor, after: State) -> Tensor:
        """What that step compared with the threshold (B, ...): v after integration, before the reset."""
        raise NotImplementedError

    def sequence(self, x: Tensor, *, with_potentials: bool) -> tuple[Tensor, Tensor | None]:
        """A whole sequence (T, B, ...) from rest -> outputs and, where asked for, potentials (T, B, ...)."""
        state = self.start(x[0])
        outputs, potentials = [], []
        for current in x.unbind():
            before = state
            out, state = self.step(current, before)
            outputs.append(out)
            if with_potentials:
                potentials.append(self.potential(current, before, out, state))
        return torch.stack(outputs), torch.stack(potentials) if with_potentials else None


class MembraneCell(Cell):
    """A cell of one membrane. Its state is v after the reset, or holds it.

    Attributes:
        leaks, fires: what the membrane does.
    """

    k: Tensor
    r: Tensor
    v_leak: Tensor
    threshold: Tensor
    reset: Tensor

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__()
        self.leaks, self.fires = membrane.k is not None, membrane.threshold is not None
        for name in ("k", "r", "v_leak", "threshold", "reset"):
            value = getattr(membrane, name)
            self.constant(name, 0.0 if value is None else value, dtype)
        # what changes no bit is not computed
        self._has_gain = bool((self.r != 1).any())
        self._leaks_to_zero = not self.v_leak.any()

    def gained(self, x: Tensor) -> Tensor:
        """r x."""
        return self.r * x if self._has_gain else x

    def current(self, x: Tensor, v: Tensor) -> Tensor:
        """What a step adds to v: k ((v_leak - v) + r x), or r x where nothing leaks."""
        x = self.gained(x)
        if not self.leaks:
            return x
        return self.k * (x - v if self._leaks_to_zero else (self.v_leak - v) + x)


class PlainCell(MembraneCell):
    """The contract's equations in torch. The state is v after the reset.

    Args:
        membrane: what to compute.
        dtype: of the computation.
        spike: Heaviside function with a surrogate gradient.
    """

    def __init__(self, membrane: Membrane, dtype: torch.dtype, spike: Spike | None) -> None:
        super().__init__(membrane, dtype)
        self.spike = spike

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Cell`."""
        v = state + self.current(x, state)
        if not self.fires:
            return v, v
        return fire(v, self.threshold, self.spike), torch.where(v > self.threshold, self.reset, v)

    def potential(self, x: Tensor, before: Tensor, out: Tensor, after: Tensor) -> Tensor:
        """See :class:`Cell`."""
        del out, after
        return before + self.current(x, before)


class IntegratingCell(MembraneCell):
    """A framework's integrate-and-fire cell, whose leak comes in with the current. The state is v after the reset.

    v + (dt/tau) ((v_leak - v) + r x) is computed as v + current, so that each step has the contract's very bits for every tau,
    whichever form of the leak the framework's own leaky cell has.

    Attributes:
        above: least number of the type above the threshold: what a framework that fires at v >= threshold has to be given.
            Infinite where nothing fires.
    """

    is_own = True
    above: Tensor

    def __init__(self, membrane: Membrane, dtype: torch.dtype) -> None:
        super().__init__(membrane, dtype)
        self.constant("above", np.inf if membrane.threshold is None else membrane.threshold, dtype)
        self.above = next_up(self.above)

    def integrate(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(spikes or v, v after the reset) of one step of the framework's cell."""
        raise NotImplementedError

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Cell`."""
        out, v = self.integrate(self.current(x, state), state)
        return out.to(x.dtype), v

    def potential(self, x: Tensor, before: Tensor, out: Tensor, after: Tensor) -> Tensor:
        """See :class:`Cell`."""
        del out, after
        return before + self.current(x, before)


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


def next_up(x: Tensor) -> Tensor:
    """The least number of the type above each number."""
    return torch.nextafter(x, torch.full_like(x, torch.inf))


def _f64(value: Any) -> Array:
    return np.asarray(value, np.float64)
