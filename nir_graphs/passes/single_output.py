"""Pass: one Output for all head maps, for tools that accept one only.

The maps (C, h_i, w_i) are put below each other into one map (C, sum of h_i, max of w_i), zero elsewhere. Each is placed by a
depthwise convolution with a one-hot kernel, and the placed maps are summed, which is exact.
"""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np

from zoo.errors import InvalidGraphError
from zoo.nir_graphs import metadata, shapes
from zoo.nir_graphs.passes.base import Pass, rebuilt
from zoo.nir_graphs.structure import predecessors
from zoo.nir_graphs.values import conv2d

NODE = "output"


def _placement(shape: tuple[int, ...], size: tuple[int, int], top: int) -> nir.Conv2d:
    """A depthwise convolution (C, h, w) -> (C, *size) that moves its input down by ``top`` rows.

    With padding P and a kernel of P + 1 the output has h + P rows; the one-hot tap a gives y[r] = x[r + a - P].
    """
    channels, height, width = shape
    padding = (size[0] - height, size[1] - width)
    weight = np.zeros((channels, 1, padding[0] + 1, padding[1] + 1), np.float32)
    weight[:, :, padding[0] - top, padding[1]] = 1.0
    return conv2d(weight, np.zeros(channels, np.float32), (height, width), padding=padding, groups=channels)


class SingleOutput(Pass):
    """Merges all Output nodes of equal channel count into one, and notes the place of each map in the metadata."""

    def requires(self, graph: nir.NIRGraph) -> None:
        """All outputs are maps (C, h, w) of the same C."""
        found = shapes.infer(graph)
        outputs = [found[name] for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
        if not outputs or any(len(shape) != 3 or shape[0] != outputs[0][0] for shape in outputs):
            raise InvalidGraphError(
                f"only maps (C, h, w) of the same C can share one Output; the outputs are {outputs}"
            )
        if NODE in graph.nodes and not isinstance(graph.nodes[NODE], nir.Output):
            raise InvalidGraphError(f"the graph has a node {NODE!r} already that is no Output")

    def call(self, graph: nir.NIRGraph) -> nir.NIRGraph:
        """See the class."""
        found, sources = shapes.infer(graph), predecessors(graph)
        info = metadata.get(graph)
        listed = [output["node"] for output in info.outputs]
        order = listed or [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
        if len(order) == 1:
            return graph
        size = (sum(found[name][1] for name in order), max(found[name][2] for name in order))
        nodes = {name: node for name, node in graph.nodes.items() if name not in order}
        edges = [(a, b) for a, b in graph.edges if b not in order]
        places, top = [], 0
        for name in order:
            placed = f"{name}.place"
            nodes[placed] = _placement(found[name], size, top)
            edges += [(source, placed) for source in sources[name]]
            places.append({"node": NODE, "top": top, "height": found[name][1], "width": found[name][2]})
            top += found[name][1]
        nodes[NODE] = nir.Output(np.array([found[order[0]][0], *size]))
        edges += [(f"{name}.place", NODE) for name in order]
        merged = rebuilt(graph, nodes, edges)
        outputs = [{**old, **place} for old, place in zip(info.outputs or [{}] * len(order), places, strict=True)]
        return metadata.put(merged, replace(info, outputs=outputs))

    def ensures(self, graph: nir.NIRGraph) -> None:
        """One Output, and shapes that fit."""
        shapes.infer(graph)


single_output = SingleOutput()
