"""Pass: every shape fits."""

from __future__ import annotations

import nir

from zoo.nir_graphs import shapes
from zoo.nir_graphs.passes.base import Pass


class ShapeCheck(Pass):
    """Returns the graph as it is, or raises InvalidGraphError naming the node whose shapes do not fit."""

    def call(self, graph: nir.NIRGraph) -> nir.NIRGraph:
        """See the class."""
        shapes.infer(graph)
        return graph


shape_check = ShapeCheck()
