"""What a graph is executed as: a list of units, each of which reads values, makes values, and is run once per input.

A unit handles whole sequences (T, B, ...) and holds nothing but modules: the values of a run live in its :class:`Context`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from zoo.adapters.membranes import Cell
from zoo.adapters.ops import Delay, Threshold


@dataclass(frozen=True)
class CountOf:
    """The sum of some nodes that give 0 or 1: how many of them fire."""

    nodes: tuple[str, ...]


@dataclass(frozen=True)
class SumOf:
    """A sum that several units take, in its order."""

    terms: tuple[Key, ...]


Key: TypeAlias = str | CountOf | SumOf
"""Of a value: a node by its name, or what is no node. Different kinds are never equal, whatever the nodes are called."""


@dataclass
class Context:
    """Values of one run.

    Attributes:
        steps, batch: T and B.
        values: so far.
        readers: how often each value is still to be read; it is dropped after the last time.
        wanted: nodes to be recorded.
        spikes, potentials: what has been recorded.
    """

    steps: int
    batch: int
    values: dict[Key, Tensor]
    readers: Counter[Key]
    wanted: frozenset[str]
    spikes: dict[str, Tensor] = field(default_factory=dict)
    potentials: dict[str, Tensor] = field(default_factory=dict)

    def needs(self, key: Key) -> bool:
        """Whether anybody will read or record a value."""
        return self.readers[key] > 0 or key in self.wanted

    def take(self, terms: Sequence[Key]) -> Tensor:
        """Sum of the terms, left to right; drops what nobody reads any more."""
        total = self.values[terms[0]]
        if len(terms) > 1:
            total = total + self.values[terms[1]]
            for term in terms[2:]:
                total.add_(self.values[term])  # the sum is ours alone
        self.release(terms)
        return total

    def release(self, terms: Sequence[Key]) -> None:
        """Note that the terms have been read."""
        for term in terms:
            self.readers[term] -= 1
            if self.readers[term] <= 0:
                self.values.pop(term, None)

    def put(self, key: Key, value: Tensor) -> None:
        """Keep a value if anybody will read it."""
        if self.readers[key] > 0:
            self.values[key] = value

    def note(self, name: str, potential: Tensor, spikes: Tensor | None = None) -> None:
        """Record a node if that was asked for."""
        if name in self.wanted:
            self.potentials[name] = potential
            if spikes is not None:
                self.spikes[name] = spikes


@dataclass
class Unit:
    """A step of the execution.

    Attributes:
        reads: values that it takes.
        sums: whether it takes the sum of ``reads``, left to right, rather than each for itself.
    """

    reads: Sequence[Key]
    sums: ClassVar[bool] = True

    @property
    def makes(self) -> Sequence[Key]:
        """Values that it can make."""
        raise NotImplementedError

    def run(self, context: Context) -> None:
        """Read values, make those of ``makes`` that somebody needs."""
        raise NotImplementedError


@dataclass
class NodeUnit(Unit):
    """A unit that stands for one node.

    Attributes:
        name: of the node.
    """

    name: str

    @property
    def makes(self) -> tuple[str]:
        """See :class:`Unit`."""
        return (self.name,)


def fold(op: nn.Module, x: Tensor) -> Tensor:
    """Run an operation without memory on all time steps at once: (T, B, ...) -> (T, B, ...)."""
    return op(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@dataclass
class LevelsUnit(Unit):
    """A unit that stands for nodes that give 0 or 1, and makes their sum as well.

    Attributes:
        levels: the nodes, in the order in which they fire as a potential grows.
    """

    levels: tuple[str, ...]

    @property
    def count(self) -> CountOf:
        """How many of them fire."""
        return CountOf(self.levels)

    @property
    def makes(self) -> tuple[Key, ...]:
        """See :class:`Unit`."""
        return (*self.levels, self.count)


@dataclass
class SharedSum(Unit):
    """A sum that several units take."""

    @property
    def makes(self) -> tuple[SumOf]:
        """See :class:`Unit`."""
        return (SumOf(tuple(self.reads)),)

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        context.put(self.makes[0], context.take(self.reads))


@dataclass
class Layer(NodeUnit):
    """One node without memory."""

    op: nn.Module

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        x = context.take(self.reads)
        y = fold(self.op, x)
        if isinstance(self.op, Threshold):
            context.note(self.name, x, y)
        else:
            context.note(self.name, y)
        context.put(self.name, y)


@dataclass
class Shift(NodeUnit):
    """A Delay outside any cycle."""

    op: Delay

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        y = self.op(context.take(self.reads))
        context.note(self.name, y)
        context.put(self.name, y)


@dataclass
class Neuron(NodeUnit):
    """A neuron outside any cycle: steps through its own sequence."""

    cell: Cell
    fires: bool

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        y, potentials = self.cell.sequence(context.take(self.reads), with_potentials=self.name in context.wanted)
        if potentials is not None:
            context.note(self.name, potentials, y if self.fires else None)
        context.put(self.name, y)


@dataclass
class Loop(Unit):
    """A cycle that no fusion knows: its nodes are stepped through time one by one.

    Attributes:
        order: the nodes, ordered so that each comes after those it reads within a step.
        sources: what each of them sums.
        ops: what each of them does.
        fires: which of them spike.
    """

    order: Sequence[str]
    sources: Mapping[str, Sequence[str]]
    ops: Mapping[str, nn.Module]
    fires: frozenset[str]
    sums: ClassVar[bool] = False

    @property
    def makes(self) -> Sequence[str]:
        """See :class:`Unit`."""
        return self.order

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        outside = {term: context.values[term].unbind() for term in self.reads}
        context.release(self.reads)
        states: dict[str, object] = {}
        delays = {name: op for name, op in self.ops.items() if isinstance(op, Delay)}
        past: dict[str, list[Tensor]] = {name: [] for name in delays}
        values: dict[str, list[Tensor]] = {name: [] for name in self.order if context.needs(name)}
        potentials: dict[str, list[Tensor]] = {name: [] for name in self.order if name in context.wanted}
        for t in range(context.steps):
            now: dict[Key, Tensor] = {term: value[t] for term, value in outside.items()}
            for name in self.order:
                now[name], potential = self._step(name, now, states, past, context.batch, recorded=name in potentials)
                if name in values:
                    values[name].append(now[name])
                if potential is not None:
                    potentials[name].append(potential)
            for name, inputs in past.items():
                inputs.append(self._sum(name, now))
                del inputs[: -max(delays[name].counts)]
        for name, steps in values.items():
            y = torch.stack(steps)
            if name in potentials:
                context.note(name, torch.stack(potentials[name]), y if name in self.fires else None)
            context.put(name, y)

    def _sum(self, name: str, now: Mapping[Key, Tensor]) -> Tensor:
        total = now[self.sources[name][0]]
        for source in self.sources[name][1:]:
            total = total + now[source]
        return total

    def _step(
        self,
        name: str,
        now: Mapping[Key, Tensor],
        states: dict[str, object],
        past: Mapping[str, list[Tensor]],
        batch: int,
        *,
        recorded: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Value of a node (B, ...) in this step and, where recorded, its potential."""
        op = self.ops[name]
        if isinstance(op, Delay):
            value = op.read(past[name], batch)
            return value, value if recorded else None
        x = self._sum(name, now)
        if not isinstance(op, Cell):
            value = op(x)
            return value, (x if isinstance(op, Threshold) else value) if recorded else None
        before = states[name] if name in states else op.start(x)
        value, states[name] = op.step(x, before)
        return value, op.potential(x, before, value, states[name]) if recorded else None
