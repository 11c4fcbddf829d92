"""Fused kernels of the shared executor. Each gives the very same bits as running its nodes one by one.

They are found from the graph's structure and numbers, never from names or metadata, and tests compare each with node-wise
execution in float32 and float64.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.adapters.ops import Convolution, SumPool, tensor
from zoo.layers.surrogates import integer_spike
from zoo.nir_graphs.reference import delay_steps

Sources = dict[str, list[str]]


def number(value: Any) -> float | None:
    """The one number that an array consists of, or None."""
    scalar = tensor(value, torch.float64)
    return scalar.item() if scalar.dim() == 0 else None


@dataclass
class Bank:
    """Thresholds on one potential: their sum is a count of the thresholds exceeded (a thermometer code).

    A sum of zeros and ones is exact in any order, so where consumers take the whole bank, the count replaces it.

    Attributes:
        nodes: Threshold nodes, lowest threshold first.
        sources: what is summed and compared.
        thresholds: ascending.
        pool: for a pooled bank, the common parameters; then ``below`` is the bank that is pooled.
    """

    nodes: tuple[str, ...]
    sources: list[str]
    thresholds: list[float]
    pool: SumPool | None = None
    below: Bank | None = None

    @property
    def key(self) -> str:
        """Under which the count is kept."""
        return f"count of {self.nodes[0]}"


def find_banks(graph: nir.NIRGraph, sources: Sources, loops: set[str]) -> list[Bank]:
    """Banks outside cycles: Thresholds with the same in-edges, and max-pools of such banks."""
    groups: dict[tuple[str, ...], list[tuple[float, str]]] = defaultdict(list)
    for name, node in graph.nodes.items():
        if isinstance(node, nir.Threshold) and name not in loops and sources[name]:
            threshold = number(node.threshold)
            if threshold is not None:
                groups[tuple(sources[name])].append((threshold, name))
    banks = []
    for inputs, members in groups.items():
        ordered = sorted(members)
        banks.append(Bank(tuple(n for _, n in ordered), list(inputs), [t for t, _ in ordered]))
    return _pooled(graph, sources, banks)


def _pooled(graph: nir.NIRGraph, sources: Sources, banks: list[Bank]) -> list[Bank]:
    """Replace groups of Threshold(0.5) on SumPools of a bank's levels by pooled banks, as long as there are any."""
    bank_of = {bank.nodes: bank for bank in banks if len(bank.nodes) > 1}
    single = {bank.sources[0]: bank for bank in banks if len(bank.nodes) == 1 and len(bank.sources) == 1}
    readers: dict[str, list[str]] = defaultdict(list)
    for name, before in sources.items():
        if isinstance(graph.nodes[name], nir.SumPool2d) and len(before) == 1:
            readers[before[0]].append(name)
    queue, used = list(bank_of.values()), set()
    while queue:
        below = queue.pop()
        for pools in zip(*(readers[level] for level in below.nodes), strict=False):
            tops = [single.get(pool) for pool in pools]
            if any(top is None or top.thresholds != [0.5] for top in tops) or not _same_pool(graph, pools):
                continue
            nodes = tuple(top.nodes[0] for top in tops if top is not None)
            bank = Bank(nodes, list(pools), [0.5] * len(nodes), SumPool(graph.nodes[pools[0]], torch.float32), below)
            used |= set(nodes)
            banks.append(bank)
            queue.append(bank)
    return [bank for bank in banks if bank.pool is not None or not used & set(bank.nodes)]


def _same_pool(graph: nir.NIRGraph, pools: Sequence[str]) -> bool:
    """Whether the pools are alike and their maximum is what max_pool2d computes (its padding may be half the window)."""
    parts = [SumPool(graph.nodes[pool], torch.float32) for pool in pools]
    alike = {(part.kernel, part.stride, part.padding) for part in parts}
    return len(alike) == 1 and all(2 * p <= k for p, k in zip(parts[0].padding, parts[0].kernel, strict=True))


class Count(nn.Module):
    """Count of exceeded thresholds: (N, ...) -> (N, ...), the sum of a bank's nodes."""

    def __init__(self, thresholds: Sequence[float], dtype: torch.dtype, spike: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        # rounded to the working type first, exactly as the single nodes are
        self.thresholds = [float(torch.tensor(t, dtype=torch.float64).to(dtype)) for t in thresholds]
        is_integer = self.thresholds == [k + 0.5 for k in range(len(thresholds))]
        self.integer = integer_spike(len(thresholds)) if is_integer else None
        self.spike = spike

    def forward(self, x: Tensor) -> Tensor:
        """Number of thresholds below x, in the type of x."""
        if self.integer is not None:
            return self.integer(x)
        if self.spike is not None and x.requires_grad:
            return torch.stack([self.spike(x - t).to(x.dtype) for t in self.thresholds]).sum(0)
        count = torch.zeros_like(x)
        for threshold in self.thresholds:
            count += x > threshold
        return count


@dataclass
class SoftReset:
    """The canonical soft-reset loop of DESIGN.md section 3.

    U = x + B; Z_k = [U > theta_k]; D = U - sum_k reset_k Z_k, one step later; B = beta D.

    Attributes:
        members: all nodes of the loop.
        levels: Z_k, lowest threshold first.
        sources: what is summed into x.
        potential: the node U.
        thresholds: theta_k, ascending.
        resets: (index into ``levels``, -reset_k) in the order in which D sums them.
        decay: beta.
    """

    members: list[str]
    levels: tuple[str, ...]
    sources: list[str]
    potential: str
    thresholds: list[float]
    resets: list[tuple[int, float]]
    decay: float
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = f"count of {self.levels[0]}"


def match_soft_reset(graph: nir.NIRGraph, component: list[str], sources: Sources) -> SoftReset | None:
    """Recognise the canonical loop in a strongly connected component, or None."""
    members = set(component)
    kinds: dict[type, list[str]] = defaultdict(list)
    for name in component:
        kinds[type(graph.nodes[name])].append(name)
    if set(kinds) != {nir.Delay, nir.Scale, nir.Threshold} or len(kinds[nir.Delay]) != 1:
        return None
    delay = kinds[nir.Delay][0]
    potential, *reset_nodes = sources[delay]
    feedback = [n for n in kinds[nir.Scale] if sources[n] == [delay]]
    if len(feedback) != 1 or not sources[potential] or sources[potential][-1] != feedback[0]:
        return None
    outer = sources[potential][:-1]
    expected = {delay, potential, feedback[0], *reset_nodes, *kinds[nir.Threshold]}
    if not outer or members & set(outer) or members != expected or number(graph.nodes[potential].scale) != 1.0:
        return None
    if number(graph.nodes[delay].delay) is None or (delay_steps(graph.nodes[delay], 1.0) != 1).any():
        return None
    return _soft_reset_numbers(graph, component, sources, potential, reset_nodes, feedback[0], outer)


def _soft_reset_numbers(
    graph: nir.NIRGraph,
    component: list[str],
    sources: Sources,
    potential: str,
    reset_nodes: list[str],
    feedback: str,
    outer: list[str],
) -> SoftReset | None:
    thresholds = {n: number(graph.nodes[n].threshold) for n in component if isinstance(graph.nodes[n], nir.Threshold)}
    if None in thresholds.values() or any(sources[n] != [potential] for n in thresholds):
        return None
    levels = tuple(sorted(thresholds, key=lambda n: (thresholds[n], n)))
    resets = []
    for node in reset_nodes:
        scale = number(graph.nodes[node].scale) if isinstance(graph.nodes[node], nir.Scale) else None
        if scale is None or len(sources[node]) != 1 or sources[node][0] not in levels:
            return None
        resets.append((levels.index(sources[node][0]), scale))
    decay = number(graph.nodes[feedback].scale)
    if decay is None:
        return None
    ordered = [thresholds[n] for n in levels]
    return SoftReset(component, levels, outer, potential, [t for t in ordered if t is not None], resets, decay)


class SoftResetCell(nn.Module):
    """Runs a canonical loop on a whole sequence: currents (T, B, ...) -> counts and potentials (T, B, ...)."""

    def __init__(self, loop: SoftReset, dtype: torch.dtype, spike: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.count = Count(loop.thresholds, dtype, spike)
        self.resets = loop.resets
        self.decay = torch.tensor(loop.decay, dtype=torch.float64).to(dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Currents -> counts, potentials U."""
        u = x[0]
        counts, potentials = [self.count(u)], [u]
        for current in x[1:]:
            rest = u
            for level, scale in self.resets:
                rest = rest + scale * (u > self.count.thresholds[level]).to(u.dtype)
            u = current + self.decay * rest
            counts.append(self.count(u))
            potentials.append(u)
        return torch.stack(counts), torch.stack(potentials)


def is_selection(node: Any) -> bool:
    """Whether a node is a convolution whose every output is one of its inputs, or zero: a rearrangement."""
    if not isinstance(node, nir.Conv2d) or np.asarray(node.bias).any() or (np.atleast_1d(node.stride) != 1).any():
        return False
    weight = np.asarray(node.weight)
    return bool(((weight == 0) | (weight == 1)).all() and not isinstance(node.padding, str | bytes))


def find_chains(graph: nir.NIRGraph, sources: Sources, targets: dict[str, list[str]]) -> list[list[str]]:
    """Maximal chains of at least two rearranging convolutions, each read by the next one only."""
    follows = {
        name: before[0]
        for name, before in sources.items()
        if len(before) == 1
        and targets[before[0]] == [name]
        and is_selection(graph.nodes[name])
        and is_selection(graph.nodes[before[0]])
    }
    chains = []
    for last in set(follows) - set(follows.values()):
        chain = [last]
        while chain[-1] in follows:
            chain.append(follows[chain[-1]])
        chains.append(chain[::-1])
    return chains


class Chain(nn.Module):
    """A chain of rearranging convolutions, run as nearest upsampling where it is just that.

    What the chain does to an input of some shape is found by sending the numbers 1, 2, 3, ... through it once.
    """

    def __init__(self, layers: list[Convolution]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.known: dict[tuple[int, ...], int] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        shape = tuple(x.shape[1:])
        if shape not in self.known:
            self.known[shape] = self._factor(shape)
        factor = self.known[shape]
        if factor and not (torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())):
            return F.interpolate(x, scale_factor=float(factor), mode="nearest")
        for layer in self.layers:
            x = layer(x)
        return x

    @torch.no_grad()
    def _factor(self, shape: tuple[int, ...]) -> int:
        """The factor of the upsampling, or 0 where the chain does something else."""
        numbers = torch.arange(1, int(np.prod(shape)) + 1, dtype=torch.float64).view(1, *shape)
        result = numbers
        for layer in self.layers:
            result = layer.function(
                result, layer.weight.double(), None, layer.stride, layer.padding, layer.dilation, layer.groups
            )
        factor = result.shape[-1] // shape[-1]
        if factor < 1 or result.shape[1:] != (shape[0], shape[1] * factor, shape[2] * factor):
            return 0
        return factor if torch.equal(result, F.interpolate(numbers, scale_factor=float(factor), mode="nearest")) else 0


class Placement(nn.Module):
    """A one-hot 1x1 convolution that puts its channels among zeros: a part of a concatenation."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def match_placement(node: Any) -> Placement | None:
    """Recognise a placement, or None."""
    if not is_selection(node) or int(node.groups) != 1 or (np.atleast_1d(node.padding) != 0).any():
        return None
    weight = np.asarray(node.weight)
    if weight.shape[2:] != (1, 1) or weight.shape[0] < weight.shape[1]:
        return None
    rows = np.flatnonzero(weight[:, 0, 0, 0])
    count = weight.shape[1]
    if len(rows) != 1 or rows[0] + count > weight.shape[0] or weight.sum() != count:
        return None
    if not np.array_equal(weight[rows[0] : rows[0] + count, :, 0, 0], np.eye(count)):
        return None
    return Placement(int(rows[0]), int(weight.shape[0] - count - rows[0]))
