"""Placement: a one-hot 1x1 convolution that puts its channels among zeros, as a part of a concatenation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.adapters.fusions.matching import Match, Parts, Scope
from zoo.adapters.fusions.rearrangement import is_selection_2d
from zoo.adapters.units import Layer, Unit
from zoo.nir_graphs.graph import FlatNode


@dataclass(frozen=True, eq=False)
class Placed(Match):
    """One convolution.

    Attributes:
        margins: zero channels (before, after).
    """

    margins: tuple[int, int] = (0, 0)

    def unit(self, parts: Parts) -> Unit:
        """See :class:`Match`."""
        terms = parts.terms(parts.graph.sources[self.makes[0]])
        return Layer(terms, self.makes[0], parts.keep(self, lambda: Placement(*self.margins)))


def find_placements(scope: Scope) -> list[Placed]:
    """All such convolutions."""
    margins = {name: _margins(node) for name, node in scope.graph.nodes.items() if scope.is_free(name)}
    return [Placed((name,), margins=found) for name, found in margins.items() if found is not None]


def _margins(node: FlatNode) -> tuple[int, int] | None:
    """(channels before, channels after), or None where the node does something else."""
    if not is_selection_2d(node) or node["groups"] != 1 or node["stride"] != (1, 1) or any(map(any, node["padding"])):
        return None
    weight = node["weight"]
    outputs, inputs = weight.shape[:2]
    start = int(weight[:, 0, 0, 0].argmax())
    if weight.shape[2:] != (1, 1) or start + inputs > outputs or weight.sum() != inputs:
        return None
    block = weight[start : start + inputs, :, 0, 0]
    return (start, outputs - start - inputs) if np.array_equal(block, np.eye(inputs)) else None


class Placement(nn.Module):
    """Puts channels among zeros."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.margins = (0, 0, 0, 0, before, after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, before + I + after, H, W)."""
        return F.pad(x, self.margins)
