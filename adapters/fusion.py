"""Groups of nodes that can run as one kernel with the very same bits.

They are found from the graph's structure and numbers, never from names or metadata. ``zoo.adapters.kernels`` runs them, and
tests compare each with node-wise execution in float32 and float64.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import nir
import numpy as np
import torch

from zoo.adapters.ops import SumPool, is_selection
from zoo.nir_graphs.fields import Array
from zoo.nir_graphs.graph import FlatGraph, FlatNode


def count_key(levels: Sequence[str]) -> str:
    """Under which the sum of a bank is kept among the values of a run. No file has a node of such a name."""
    return f"\0sum of {len(levels)} from {levels[0]}"


@dataclass(frozen=True)
class Bank:
    """Thresholds on one potential.

    The sum of their outputs is the number of thresholds exceeded. It is a small whole number, exact in any order, so where
    somebody takes the whole bank first, the count can stand for it.

    Attributes:
        levels: Threshold nodes, lowest threshold first.
        sources: what is summed and compared.
        thresholds: in the order of ``levels``, compact.
    """

    levels: tuple[str, ...]
    sources: tuple[str, ...]
    thresholds: tuple[Array, ...]


@dataclass(frozen=True)
class PooledBank:
    """Threshold(0.5) on SumPools of each level of a bank: the max-pool of the count.

    Attributes:
        levels: Threshold nodes, in the order of the bank below.
        below: levels of the bank that is pooled.
        pools: SumPool2d nodes, likewise.
    """

    levels: tuple[str, ...]
    below: tuple[str, ...]
    pools: tuple[str, ...]


@dataclass(frozen=True)
class SoftReset:
    """The canonical soft-reset loop of DESIGN.md section 3.

    U = x + B; Z_k = [U > theta_k]; D = U + sum_k reset_k Z_k, one step later; B = beta D.

    Attributes:
        levels: Z_k, lowest threshold first.
        sources: what is summed into x.
        thresholds: theta_k in the order of ``levels``, compact.
        resets: (index into ``levels``, reset_k) in the order in which D sums them.
        decay: beta, compact.
        inner: nodes whose values the fused loop does not make.
    """

    levels: tuple[str, ...]
    sources: tuple[str, ...]
    thresholds: tuple[Array, ...]
    resets: tuple[tuple[int, Array], ...]
    decay: Array
    inner: frozenset[str]


def _in_order(thresholds: dict[str, Array]) -> tuple[str, ...]:
    """Names, lowest threshold first."""
    return tuple(sorted(thresholds, key=lambda name: (float(thresholds[name].min()), name)))


def is_ascending(thresholds: Iterable[Array]) -> bool:
    """Whether each threshold is at least the one before, for every element: the levels are a thermometer code."""
    ordered = list(thresholds)
    return all(bool((low <= high).all()) for low, high in pairwise(ordered))


def find_banks(graph: FlatGraph, excluded: Collection[str]) -> list[Bank]:
    """All Thresholds but the excluded ones. Those with the same in-edges go together if somebody reads them together."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in graph.names(nir.Threshold):
        if name not in excluded:
            groups[graph.sources[name]].append(name)
    banks = []
    for inputs, names in groups.items():
        for members in _read_together(names, graph):
            thresholds = {name: np.asarray(graph.nodes[name]["threshold"], np.float64) for name in members}
            levels = _in_order(thresholds)
            banks.append(Bank(levels, inputs, tuple(thresholds[name] for name in levels)))
    return banks


def _read_together(names: Iterable[str], graph: FlatGraph) -> list[list[str]]:
    """Nodes in groups that share readers."""
    groups: list[tuple[set[str], list[str]]] = []
    for name in names:
        readers, members = set(graph.targets[name]), [name]
        for group in [group for group in groups if group[0] & readers]:
            groups.remove(group)
            readers, members = readers | group[0], group[1] + members
        groups.append((readers, members))
    return [members for _, members in groups]


def find_pooled(graph: FlatGraph, thermometers: Iterable[tuple[str, ...]]) -> list[PooledBank]:
    """Max-pools of thermometer codes, of the given ones and, in turn, of those found."""
    queue, found = list(thermometers), []
    while queue:
        below = queue.pop()
        candidates = [
            [(pool, top) for pool in graph.targets[level] for top in _spike_of_pool(graph, pool)] for level in below
        ]
        for group in zip(*candidates, strict=False):
            pools, tops = zip(*group, strict=True)
            if len(set(tops)) == len(below) and _max_pool_like(graph, pools):
                found.append(PooledBank(tops, below, pools))
                queue.append(tops)
    return found


def _spike_of_pool(graph: FlatGraph, pool: str) -> list[str]:
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


def match_soft_reset(graph: FlatGraph, component: Sequence[str]) -> SoftReset | None:
    """Recognise the canonical loop in a strongly connected component, or None. Only its spikes may be read outside."""
    kinds: dict[type, list[str]] = defaultdict(list)
    sources, targets = graph.sources, graph.targets
    for name in component:
        kinds[graph.nodes[name].type].append(name)
    if set(kinds) != {nir.Delay, nir.Scale, nir.Threshold} or len(kinds[nir.Delay]) != 1:
        return None
    delay, members = kinds[nir.Delay][0], set(component)
    potential, *reset_nodes = sources[delay]
    decay = next((name for name in kinds[nir.Scale] if sources[name] == (delay,)), None)
    if decay is None or potential not in members or sources[potential][-1:] != (decay,):
        return None
    outer = sources[potential][:-1]
    levels = kinds[nir.Threshold]
    is_canonical = (
        bool(outer)
        and not members & set(outer)
        and members == {delay, potential, decay, *reset_nodes, *levels}
        and graph.nodes[potential].type is nir.Scale
        and graph.nodes[potential].number("scale") == 1.0
        and graph.nodes[delay].number("steps") == 1
        and all(sources[level] == (potential,) for level in levels)
        and all(
            graph.nodes[n].type is nir.Scale and len(sources[n]) == 1 and sources[n][0] in levels for n in reset_nodes
        )
        and not any(set(targets[name]) - members for name in members - set(levels))
    )
    return _soft_reset(graph, levels, reset_nodes, decay, outer, members) if is_canonical else None


def _soft_reset(
    graph: FlatGraph,
    levels: list[str],
    reset_nodes: Sequence[str],
    decay: str,
    outer: Sequence[str],
    members: set[str],
) -> SoftReset:
    thresholds = {name: np.asarray(graph.nodes[name]["threshold"], np.float64) for name in levels}
    ordered = _in_order(thresholds)
    resets = [(ordered.index(graph.sources[name][0]), graph.nodes[name]["scale"]) for name in reset_nodes]
    return SoftReset(
        levels=ordered,
        sources=tuple(outer),
        thresholds=tuple(thresholds[name] for name in ordered),
        resets=tuple(resets),
        decay=graph.nodes[decay]["scale"],
        inner=frozenset(members - set(levels)),
    )


def find_chains(graph: FlatGraph, keep: Collection[str]) -> list[list[str]]:
    """Maximal chains of at least two convolutions of zeros and ones, each read by the next one only.

    Nodes in ``keep`` may end a chain, but not be hidden inside one.
    """
    follows = {
        name: before[0]
        for name, before in graph.sources.items()
        if len(before) == 1
        and graph.targets[before[0]] == (name,)
        and before[0] not in keep
        and _is_selection_2d(graph.nodes[name])
        and _is_selection_2d(graph.nodes[before[0]])
    }
    chains = []
    for last in set(follows) - set(follows.values()):
        chain = [last]
        while chain[-1] in follows:
            chain.append(follows[chain[-1]])
        chains.append(chain[::-1])
    return chains


def _is_selection_2d(node: FlatNode) -> bool:
    return node.type is nir.Conv2d and is_selection(node)


def placement(node: FlatNode) -> tuple[int, int] | None:
    """(channels before, channels after) of a 1x1 convolution that puts its channels among zeros, as a part of a
    concatenation; or None."""
    if not _is_selection_2d(node) or node["groups"] != 1 or node["stride"] != (1, 1) or any(map(any, node["padding"])):
        return None
    weight = node["weight"]
    outputs, inputs = weight.shape[:2]
    start = int(weight[:, 0, 0, 0].argmax())
    if weight.shape[2:] != (1, 1) or start + inputs > outputs or weight.sum() != inputs:
        return None
    block = weight[start : start + inputs, :, 0, 0]
    return (start, outputs - start - inputs) if np.array_equal(block, np.eye(inputs)) else None
