"""What a graph is executed as: a list of units, each of which reads values, makes values, and is run once per input.

A unit handles whole sequences (T, B, ...). Values are kept under node names; the count of a bank of Thresholds, which is no
node, under ``fusion.count_key``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.adapters.fusion import count_key
from zoo.adapters.kernels import Count, SoftResetCell
from zoo.adapters.membranes import Cell, run_cell
from zoo.adapters.ops import Delay, SumPool, Threshold


@dataclass
class Context:
    """Values of one run.

    Attributes:
        values: by node.
        readers: how often each value is still to be read; it is dropped after the last time.
        wanted: nodes to be recorded.
        spikes, potentials: what has been recorded.
    """

    values: dict[str, Tensor]
    readers: Counter[str]
    wanted: frozenset[str]
    spikes: dict[str, Tensor] = field(default_factory=dict)
    potentials: dict[str, Tensor] = field(default_factory=dict)

    def needs(self, name: str) -> bool:
        """Whether anybody will read or record a value."""
        return self.readers[name] > 0 or name in self.wanted

    def take(self, terms: Sequence[str]) -> Tensor:
        """Sum of the terms, left to right; drops what nobody reads any more."""
        total = self.values[terms[0]]
        for index, term in enumerate(terms[1:]):
            value = self.values[term]
            # from the second addition on the sum is ours alone and can be changed in place
            total = total + value if index == 0 else total.add_(value)
        self.release(terms)
        return total

    def release(self, terms: Sequence[str]) -> None:
        """Note that the terms have been read."""
        for term in terms:
            self.readers[term] -= 1
            if self.readers[term] <= 0:
                self.values.pop(term, None)

    def put(self, name: str, value: Tensor) -> None:
        """Keep a value if anybody will read it."""
        if self.readers[name] > 0:
            self.values[name] = value

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
        makes: values that it can make.
        sums: whether it takes the sum of ``reads``, left to right, rather than each for itself.
    """

    reads: list[str]
    makes: tuple[str, ...]
    sums: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The (first) node that this unit stands for."""
        return self.makes[0]

    def run(self, context: Context) -> None:
        """Read values, make those of ``makes`` that somebody needs."""
        raise NotImplementedError


def fold(op: nn.Module, x: Tensor) -> Tensor:
    """Run an operation without memory on all time steps at once: (T, B, ...) -> (T, B, ...)."""
    return op(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@dataclass
class Sum(Unit):
    """A sum that several units take."""

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        context.put(self.name, context.take(self.reads))


@dataclass
class Layer(Unit):
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
class Shift(Unit):
    """A Delay outside any cycle."""

    op: Delay

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        y = self.op(context.take(self.reads))
        context.note(self.name, y)
        context.put(self.name, y)


@dataclass
class Neuron(Unit):
    """A neuron outside any cycle: steps through its own sequence."""

    cell: Cell
    fires: bool

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        x = context.take(self.reads)
        y, potentials = run_cell(self.cell, x, with_potentials=self.name in context.wanted)
        if potentials is not None:
            context.note(self.name, potentials, y if self.fires else None)
        context.put(self.name, y)


@dataclass
class BankUnit(Unit):
    """Thresholds with the same in-edges: their count for those who take all of them, single levels for the others."""

    levels: tuple[str, ...]
    count: Count

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        x = context.take(self.reads)
        key = count_key(self.levels)
        if context.readers[key] > 0:
            context.put(key, self.count(x))
        put_levels(context, self.levels, self.count, x)


def put_levels(context: Context, levels: Sequence[str], count: Count, potential: Tensor) -> None:
    """The single levels of a bank, as far as somebody needs them."""
    for index, name in enumerate(levels):
        if context.needs(name):
            y = count.level(potential, index)
            context.note(name, potential, y)
            context.put(name, y)


@dataclass
class PoolUnit(Unit):
    """Max-pool of a count. Level k is on where the maximum is at least k."""

    levels: tuple[str, ...]
    pool: SumPool

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        counts = context.take(self.reads)
        flat = counts.flatten(0, 1)
        pooled = F.max_pool2d(flat, self.pool.kernel, self.pool.stride, self.pool.padding)
        pooled = pooled.unflatten(0, counts.shape[:2])
        context.put(count_key(self.levels), pooled)
        for level, name in enumerate(self.levels, 1):
            if context.needs(name):
                y = (pooled >= level).to(pooled.dtype)
                if name in context.wanted:
                    context.note(name, fold(self.pool, (counts >= level).to(counts.dtype)), y)
                context.put(name, y)


@dataclass
class SoftResetUnit(Unit):
    """The canonical soft-reset loop."""

    levels: tuple[str, ...]
    cell: SoftResetCell

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        counts, potentials = self.cell(context.take(self.reads))
        context.put(count_key(self.levels), counts)
        put_levels(context, self.levels, self.cell.count, potentials)


@dataclass
class Loop(Unit):
    """Any other cycle: its nodes are stepped through time one by one.

    Attributes:
        makes: the nodes, in an order in which each step can be computed.
        sources: what each of them sums.
        ops: what each of them does.
        fires: which of them spike.
    """

    sources: Mapping[str, Sequence[str]]
    ops: dict[str, nn.Module]
    fires: frozenset[str]
    sums: ClassVar[bool] = False

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        outside = {term: context.values[term] for term in self.reads}
        context.release(self.reads)
        like = next(iter(outside.values()))
        states: dict[str, object] = {}
        delays = {name: op for name, op in self.ops.items() if isinstance(op, Delay)}
        past: dict[str, list[Tensor]] = {name: [] for name in delays}
        values: dict[str, list[Tensor]] = {name: [] for name in self.makes if context.needs(name)}
        potentials: dict[str, list[Tensor]] = {name: [] for name in self.makes if name in context.wanted}
        for t in range(len(like)):
            now = {term: value[t] for term, value in outside.items()}
            for name in self.makes:
                now[name], potential = self._step(name, now, states, past, like[t], recorded=name in potentials)
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
        for op in self.ops.values():
            if isinstance(op, Cell):
                op.finish()

    def _sum(self, name: str, now: dict[str, Tensor]) -> Tensor:
        total = now[self.sources[name][0]]
        for source in self.sources[name][1:]:
            total = total + now[source]
        return total

    def _step(
        self,
        name: str,
        now: dict[str, Tensor],
        states: dict[str, object],
        past: dict[str, list[Tensor]],
        like: Tensor,
        *,
        recorded: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Value of a node (B, ...) in this step and, where recorded, its potential."""
        op = self.ops[name]
        if isinstance(op, Delay):
            value = op.read(past[name], like)
            return value, value if recorded else None
        x = self._sum(name, now)
        if not isinstance(op, Cell):
            value = op(x)
            return value, (x if isinstance(op, Threshold) else value) if recorded else None
        before = states[name] if name in states else op.start(x)
        value, states[name] = op.step(x, before)
        return value, op.potential(x, before, value, states[name]) if recorded else None
