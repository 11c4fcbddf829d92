"""Pooled bank: Threshold(0.5) on SumPools of each level of a bank, which is the max-pool of the bank's count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import nir
import torch
from torch.nn import functional as F

from zoo.adapters.fusions.bank import find_banks, is_thermometer
from zoo.adapters.fusions.matching import Match, Parts, Scope
from zoo.adapters.ops import SumPool, reached
from zoo.adapters.units import Context, CountOf, LevelsUnit, Unit, fold
from zoo.nir_graphs.graph import FlatGraph


@dataclass(frozen=True, eq=False)
class PooledBank(Match):
    """A max-pool; ``makes`` are its Thresholds, in the order of the levels below.

    The gradient of the nodes reaches every level below on its own, which that of a count cannot.

    Attributes:
        below: levels of the bank that is pooled.
        pool: one of the SumPool2d nodes, which are all alike.
    """

    below: tuple[str, ...] = ()
    pool: str = ""
    is_differentiable: ClassVar[bool] = False

    @property
    def count(self) -> CountOf:
        """See :class:`Match`."""
        return CountOf(self.makes)

    @property
    def needs(self) -> CountOf:
        """See :class:`Match`."""
        return CountOf(self.below)

    def unit(self, parts: Parts) -> Unit:
        """See :class:`Match`."""
        pool = parts.keep(self, lambda: SumPool(parts.graph.nodes[self.pool], parts.dtype))
        return PoolUnit((self.needs,), self.makes, pool)


def find_pooled_banks(scope: Scope) -> list[PooledBank]:
    """Max-pools of thermometer codes: of banks and soft resets, and, in turn, of those found."""
    graph = scope.graph
    known = [*dict.fromkeys(scope.matches.values()), *find_banks(scope)]
    queue = [match.makes for match in known if match.count is not None and is_thermometer(graph, match.makes)]
    found = []
    while queue:
        below = queue.pop()
        for pools, tops in _pools_of(graph, below):
            if len(set(tops)) == len(below) and _max_pool_like(graph, pools) and all(map(scope.is_free, tops)):
                found.append(PooledBank(tops, below=below, pool=pools[0]))
                queue.append(tops)
    return found


def _pools_of(graph: FlatGraph, below: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(SumPools, Thresholds on them) that stand on each of the levels."""
    candidates = [[(pool, top) for pool in graph.targets[level] for top in _tops_of(graph, pool)] for level in below]
    for group in zip(*candidates, strict=False):
        pools, tops = zip(*group, strict=True)
        yield pools, tops


def _tops_of(graph: FlatGraph, pool: str) -> list[str]:
    """Threshold(0.5) nodes that read nothing but this SumPool2d, which reads one node alone."""
    if graph.nodes[pool].type is not nir.SumPool2d or len(graph.sources[pool]) != 1:
        return []
    return [
        top
        for top in graph.targets[pool]
        if graph.nodes[top].type is nir.Threshold
        and graph.sources[top] == (pool,)
        and graph.nodes[top].number("threshold") == 0.5
    ]


def _max_pool_like(graph: FlatGraph, pools: Sequence[str]) -> bool:
    """Whether all pools are alike, and every window has at least one pixel inside (max_pool2d's own condition)."""
    parts = [SumPool(graph.nodes[pool], torch.float32) for pool in pools]
    alike = {(part.kernel, part.stride, part.padding) for part in parts}
    return len(alike) == 1 and all(2 * p <= k for p, k in zip(parts[0].padding, parts[0].kernel, strict=True))


@dataclass
class PoolUnit(LevelsUnit):
    """Max-pool of a count. Level k is on where the maximum is at least k."""

    pool: SumPool

    def run(self, context: Context) -> None:
        """See :class:`Unit`."""
        counts = context.take(self.reads)
        pooled = F.max_pool2d(counts.flatten(0, 1), self.pool.kernel, self.pool.stride, self.pool.padding)
        pooled = pooled.unflatten(0, counts.shape[:2])
        context.put(self.count, pooled)
        for level, name in enumerate(self.levels, 1):
            if context.needs(name):
                y = reached(pooled, level)
                if name in context.wanted:
                    context.note(name, fold(self.pool, reached(counts, level)), y)
                context.put(name, y)
