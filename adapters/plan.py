"""Turns a graph into a list of units, in an order that respects all edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import nir
import torch
from torch import nn

from zoo.adapters import fusion
from zoo.adapters.fusion import count_key
from zoo.adapters.kernels import Count, Placement, Rearrangement, SoftResetCell
from zoo.adapters.membranes import Framework
from zoo.adapters.ops import LAYERS, Delay, SumPool, Threshold
from zoo.adapters.units import BankUnit, Layer, Loop, Neuron, PoolUnit, Shift, SoftResetUnit, Sum, Unit
from zoo.nir_graphs.graph import FlatGraph

Keep = Callable[[str, Callable[[], nn.Module]], Any]
"""(key, maker) -> the module kept under that key, made if it is new: parameters are shared between plans of one graph."""
Group = fusion.Bank | fusion.PooledBank | fusion.SoftReset


def operation(graph: FlatGraph, name: str, framework: Framework, dtype: torch.dtype) -> Any:
    """What one node does."""
    node = graph.nodes[name]
    if node.type in LAYERS:
        return LAYERS[node.type](node, dtype)
    if node.type is nir.Threshold:
        return Threshold(node, dtype, framework.spike)
    if node.type is nir.Delay:
        return Delay(node)
    return framework.neuron(node, dtype, graph.dt)


class Planner:
    """Makes one plan.

    Args:
        graph: what to plan for.
        framework: brings the cells.
        dtype: of the computation.
        keep_module: where modules are kept.
        fuse: use fused kernels.
        visible: nodes whose values must be made, even where a fused kernel would do without them.
    """

    def __init__(
        self,
        graph: FlatGraph,
        framework: Framework,
        dtype: torch.dtype,
        keep_module: Keep,
        *,
        fuse: bool,
        visible: Collection[str] = (),
    ) -> None:
        self.graph, self.framework, self.dtype = graph, framework, dtype
        self.keep_module, self.fuse = keep_module, fuse
        self.loops = {name for c in graph.components if graph.is_cycle(c) for name in c}
        self.soft_resets: dict[str, fusion.SoftReset] = {}
        self.banks: dict[str, fusion.Bank] = {}
        self.pools: dict[str, fusion.PooledBank] = {}
        self.chains: dict[str, list[str]] = {}
        self.count_names: dict[frozenset[str], str] = {}
        if fuse:
            self._find_fusions(visible)

    def _find_fusions(self, visible: Collection[str]) -> None:
        for component in self.graph.components:
            if self.graph.is_cycle(component):
                match = fusion.match_soft_reset(self.graph, component)
                if match is not None and not match.inner & set(visible):
                    self.soft_resets[component[0]] = match
        banks, pools = self._find_banks()
        self.banks = {name: bank for bank in banks for name in bank.levels}
        self.pools = {name: pool for pool in pools for name in pool.levels}
        for chain in fusion.find_chains(self.graph, visible):
            self.chains.update(dict.fromkeys(chain, chain))
        groups: list[Group] = [*self.soft_resets.values(), *banks, *pools]
        self.count_names = {frozenset(group.levels): count_key(group.levels) for group in groups}

    def _find_banks(self) -> tuple[list[fusion.Bank], list[fusion.PooledBank]]:
        """Banks and pooled banks; a pooled bank takes its levels away from the plain ones."""
        loops = list(self.soft_resets.values())
        candidates: list[fusion.Bank | fusion.SoftReset] = [
            *fusion.find_banks(self.graph, self.loops),
            *loops,
        ]
        thermometers = [group.levels for group in candidates if fusion.is_ascending(group.thresholds)]
        pools = fusion.find_pooled(self.graph, thermometers)
        while True:
            taken = {name for pool in pools for name in pool.levels}
            banks = fusion.find_banks(self.graph, self.loops | taken)
            groups: list[Group] = [*banks, *loops, *pools]
            counted = {group.levels for group in groups}
            kept = [pool for pool in pools if pool.below in counted]
            if len(kept) == len(pools):
                return banks, pools
            pools = kept

    def plan(self) -> list[Unit]:
        """All units."""
        units: list[Unit] = []
        done: set[str] = set()
        for component in self.graph.components:
            name = component[0]
            if name in done or self.graph.nodes[name].type is nir.Input:
                continue
            if name in self.soft_resets:
                unit: Unit | None = self._soft_reset(self.soft_resets[name])
            elif self.graph.is_cycle(component):
                unit = self._loop(component)
            elif name in self.pools:
                unit = self._pool(self.pools[name])
            elif name in self.banks:
                unit = self._bank(self.banks[name])
            else:
                unit = self._node(name)
            if unit is not None:
                units.append(unit)
                done.update(unit.makes)
        return share_sums(units) if self.fuse else units

    def _terms(self, names: Sequence[str]) -> list[str]:
        """What to sum for a list of sources: whole banks in front are replaced by their counts.

        This is exact as long as everything before is a count, too: then all partial sums are small whole numbers.
        """
        terms, rest = [], list(names)
        while rest:
            size = next((n for n in range(len(rest), 0, -1) if frozenset(rest[:n]) in self.count_names), 0)
            if not size:
                break
            terms.append(self.count_names[frozenset(rest[:size])])
            rest = rest[size:]
        return terms + rest

    def _op(self, name: str) -> Any:
        return self.keep_module(name, lambda: operation(self.graph, name, self.framework, self.dtype))

    def _node(self, name: str) -> Unit | None:
        """The unit of a node outside cycles and banks; None inside a chain of rearrangements."""
        node = self.graph.nodes[name]
        if name in self.chains:
            return self._chain(name, self.chains[name])
        terms, makes = self._terms(self.graph.sources[name]), (name,)
        margins = fusion.placement(node) if self.fuse else None
        if margins is not None:
            return Layer(terms, makes, self.keep_module(f"{name}/placed", lambda: Placement(*margins)))
        op = self._op(name)
        if isinstance(op, Delay):
            return Shift(terms, makes, op)
        if node.facts.stateful:
            return Neuron(terms, makes, op, node.facts.spiking)
        return Layer(terms, makes, op)

    def _chain(self, name: str, chain: list[str]) -> Unit | None:
        if name != chain[-1]:
            return None

        def make() -> nn.Module:
            return Rearrangement([operation(self.graph, n, self.framework, self.dtype) for n in chain])

        return Layer(
            self._terms(self.graph.sources[chain[0]]), (name,), self.keep_module(f"{name}/chain of {len(chain)}", make)
        )

    def _bank(self, bank: fusion.Bank) -> Unit:
        key = count_key(bank.levels)
        count = self.keep_module(key, lambda: Count(bank.thresholds, self.dtype, self.framework.spike))
        return BankUnit(self._terms(bank.sources), (*bank.levels, key), bank.levels, count)

    def _pool(self, pool: fusion.PooledBank) -> Unit:
        op = SumPool(self.graph.nodes[pool.pools[0]], self.dtype)
        return PoolUnit([count_key(pool.below)], (*pool.levels, count_key(pool.levels)), pool.levels, op)

    def _soft_reset(self, loop: fusion.SoftReset) -> Unit:
        key = count_key(loop.levels)
        cell = self.keep_module(key, lambda: SoftResetCell(loop, self.dtype, self.framework.spike))
        return SoftResetUnit(self._terms(loop.sources), (*loop.levels, key), loop.levels, cell)

    def _loop(self, component: Sequence[str]) -> Unit:
        members, sources = set(component), self.graph.sources
        ordered = tuple(name for name in self.graph.order if name in members)
        outside = list(dict.fromkeys(term for name in ordered for term in sources[name] if term not in members))
        fires = frozenset(name for name in ordered if self.graph.nodes[name].facts.spiking)
        return Loop(outside, ordered, sources, {name: self._op(name) for name in ordered}, fires)


def share_sums(units: list[Unit]) -> list[Unit]:
    """Let units that sum the very same terms sum them once."""
    uses = Counter(tuple(unit.reads) for unit in units if unit.sums and len(unit.reads) > 1)
    shared: list[Unit] = []
    made: set[str] = set()
    for unit in units:
        terms = list(unit.reads)
        if unit.sums and uses[tuple(terms)] > 1:
            key = "\0" + " + ".join(terms)  # no file has a node of such a name
            if key not in made:
                made.add(key)
                shared.append(Sum(terms, (key,)))
            unit.reads = [key]
        shared.append(unit)
    return shared
