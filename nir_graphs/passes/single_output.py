"""Pass: one Output for all head maps, for tools that accept one only.

The maps (C, h_i, w_i) are put below each other into one map (C, sum of h_i, max of w_i), zero elsewhere. Each is placed by a
depthwise convolution with a one-hot kernel, and the placed maps are summed, which is exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.fields import Note, Shape, names
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.passes.base import Notes, Pass, rebuilt, unique
from zoo.nir_graphs.values import conv2d

NODE = "output"


def _placement(shape: Shape, size: tuple[int, int], top: int) -> nir.Conv2d:
    """A depthwise convolution (C, h, w) -> (C, *size) that moves its input down by ``top`` rows.

    With padding P and a kernel of P + 1 the output has h + P rows; the one-hot tap a gives y[r] = x[r + a - P].
    """
    channels, height, width = shape
    padding = (size[0] - height, size[1] - width)
    weight = np.zeros((channels, 1, padding[0] + 1, padding[1] + 1), np.float32)
    weight[:, :, padding[0] - top, padding[1]] = 1.0
    return conv2d(weight, None, (height, width), padding=padding, groups=channels)


class SingleOutput(Pass):
    """Merges all Output nodes of equal channel count into one, and notes the place of each map in the metadata.

    A graph that has one Output already stays as it is.
    """

    def requires(self, graph: FlatGraph) -> None:
        """All outputs are maps (C, h, w) of the same C."""
        shapes = [graph.shapes[name] for name in graph.outputs]
        if len(shapes) > 1 and any(len(shape) != 3 or shape[0] != shapes[0][0] for shape in shapes):
            listed = ", ".join(f"{name!r} {graph.shapes[name]}" for name in graph.outputs)
            raise InvalidGraphError(f"only maps (C, h, w) of the same C can share one Output; the outputs are {listed}")
        if NODE in graph.nodes and NODE not in graph.outputs:
            raise InvalidGraphError(
                f"the merged Output is called {NODE!r}, but the graph has another node of that name"
            )

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """See the class."""
        order = _order(graph)
        if len(order) == 1:
            return graph, ()
        shapes = [graph.shapes[name] for name in order]
        size = (sum(shape[1] for shape in shapes), max(shape[2] for shape in shapes))
        nodes: dict[str, Any] = {name: node for name, node in graph.nodes.items() if name not in order}
        edges = [(source, target) for source, target in graph.edges if target not in order]
        placed, places, top = [], [], 0
        for name, shape in zip(order, shapes, strict=True):
            place = unique(nodes, f"{name}.place")
            nodes[place] = _placement(shape, size, top)
            edges += [(source, place) for source in graph.sources[name]]
            placed.append(place)
            places.append({"node": NODE, "top": top, "height": shape[1], "width": shape[2]})
            top += shape[1]
        nodes[NODE] = nir.Output(np.array([shapes[0][0], *size]))
        edges += [(place, NODE) for place in placed]
        described = graph.info.outputs if len(graph.info.outputs) == len(order) else [{}] * len(order)
        outputs = [{**old, **place} for old, place in zip(described, places, strict=True)]
        note = Note("outputs", f"the outputs {names(order)} were put below each other into the Output {NODE!r}")
        return rebuilt(graph, nodes, edges, replace(graph.info, outputs=outputs)), (note,)

    def ensures(self, before: FlatGraph, after: FlatGraph) -> None:
        """One Output, with room for every map."""
        elements = sum(int(np.prod(before.shapes[name])) for name in before.outputs)
        if len(after.outputs) != 1 or int(np.prod(after.shapes[after.outputs[0]])) < elements:
            raise InvalidGraphError("the merged Output does not hold all the maps")


def _order(graph: FlatGraph) -> list[str]:
    """The Outputs, finest first as the zoo's note lists them, else in the order of the file."""
    noted = [str(output.get("node")) for output in graph.info.outputs]
    return noted if sorted(noted) == sorted(graph.outputs) else list(graph.outputs)


single_output = SingleOutput()
