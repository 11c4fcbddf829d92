"""Rearrangement: a chain of convolutions of zeros and ones, run as what it does: nearest upsampling, or picking values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import nir
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.adapters.fusions.matching import Match, Parts, Scope
from zoo.adapters.ops import Convolution, is_selection
from zoo.adapters.units import Layer, Unit
from zoo.nir_graphs.graph import FlatNode


@dataclass(frozen=True, eq=False)
class Chain(Match):
    """Convolutions, each read by the next one only; ``makes`` is the last of them.

    Attributes:
        nodes: all of them, in order.
    """

    nodes: tuple[str, ...] = ()

    def unit(self, parts: Parts) -> Unit:
        """See :class:`Match`."""
        nodes = [parts.graph.nodes[name] for name in self.nodes]
        kernel = parts.keep(self, lambda: Rearrangement(nodes, parts.dtype))
        return Layer(parts.terms(parts.graph.sources[self.nodes[0]]), self.nodes[-1], kernel)


def find_rearrangements(scope: Scope) -> list[Chain]:
    """Maximal chains of at least two convolutions of zeros and ones. Nodes that must be seen may end one."""
    graph = scope.graph
    follows = {
        name: before[0]
        for name, before in graph.sources.items()
        if len(before) == 1
        and scope.is_free(name)
        and graph.targets[before[0]] == (name,)
        and before[0] not in scope.visible
        and is_selection_2d(graph.nodes[name])
        and is_selection_2d(graph.nodes[before[0]])
    }
    chains = []
    for last in sorted(set(follows) - set(follows.values())):
        chain = [last]
        while chain[-1] in follows:
            chain.append(follows[chain[-1]])
        nodes = tuple(reversed(chain))
        chains.append(Chain((last,), frozenset(nodes[:-1]), nodes))
    return chains


def is_selection_2d(node: FlatNode) -> bool:
    """Whether a node is a Conv2d of zeros and ones without bias."""
    return node.type is nir.Conv2d and is_selection(node)


class Rearrangement(nn.Module):
    """Does what the convolutions do.

    That is found once, by sending probes through them in float64, where they are exact. Ones tell how many inputs each output
    sums; the numbers 1, 2, 3, ... then tell which one it is.

    Args:
        nodes: the convolutions.
        dtype: of the computation.

    Attributes:
        shape: of an output.
        enlarges: whether it is nearest upsampling.
        index: which input each output is, from 1 on, 0 for none; None where it enlarges or sums.
        layers: the convolutions, where an output is a sum of several inputs.
    """

    index: Tensor | None

    def __init__(self, nodes: Sequence[FlatNode], dtype: torch.dtype) -> None:
        super().__init__()
        self.shape = nodes[-1].shape
        self.layers = nn.ModuleList()
        index = self._probe(nodes)
        if index is None:
            self.layers.extend(Convolution(node, dtype) for node in nodes)
        self.enlarges = index is not None and _is_upsampling(index, nodes[0].input_shape)
        self.register_buffer(
            "index", None if index is None or self.enlarges else index.flatten().long(), persistent=False
        )

    @torch.no_grad()
    def _probe(self, nodes: Sequence[FlatNode]) -> Tensor | None:
        """Which input each output (1, C, H, W) is, from 1 on, 0 for none; None where an output sums several."""
        probes = [Convolution(node, torch.float64) for node in nodes]
        shape = nodes[0].input_shape
        numbers = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).view(1, *shape)
        ones, picked = torch.ones_like(numbers), numbers
        for probe in probes:
            ones, picked = probe(ones), probe(picked)
        return None if ones.max() > 1 else picked

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        if self.enlarges:
            return F.interpolate(x, size=self.shape[1:], mode="nearest")
        if self.index is not None:
            return F.pad(x.flatten(1), (1, 0))[:, self.index].view(len(x), *self.shape)  # place 0 is an added zero
        for layer in self.layers:
            x = layer(x)
        return x


def _is_upsampling(picked: Tensor, shape: tuple[int, ...]) -> bool:
    out = tuple(picked.shape[1:])
    # for other factors, interpolate's own arithmetic on coordinates may be off by one in another type
    if out[0] != shape[0] or not all(_is_power_of_two(out[axis] / shape[axis]) for axis in (1, 2)):
        return False
    numbers = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).view(1, *shape)
    return torch.equal(picked, F.interpolate(numbers, size=out[1:], mode="nearest"))


def _is_power_of_two(factor: float) -> bool:
    return factor >= 1 and math.frexp(factor)[0] == 0.5
