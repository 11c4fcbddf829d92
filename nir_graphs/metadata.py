"""What the zoo notes in a graph: time base, image size, outputs, and which nodes make up which neuron layer.

The note is JSON text under ``graph.metadata["zoo"]``, a form that survives ``nir.write`` and ``nir.read``. It helps people and
tools to find their way in a graph. What a graph computes never depends on it, except for ``dt``, which NIR leaves open.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import nir
import numpy as np

from zoo.errors import CorruptGraphError

KEY = "zoo"
FORMAT = 1


@dataclass(frozen=True)
class GraphInfo:
    """The note.

    Attributes:
        format: version of this layout.
        dt: length of one step, in the unit of the graph's time constants.
        time_steps: T the graph was exported for; None where any number will do.
        image_size: (height, width) in pixels, or None where the input is no image.
        outputs: for each head map, finest first: ``node`` (its Output node), ``stride`` (input pixels per cell) and, where
            maps share one Output node, ``top``, ``height`` and ``width`` (their place in it).
        input_grid: what the graph was made to be fed: [exponent, low, high], whole multiples of 2 ** exponent in low..high;
            None where it was made for any real numbers.
        neurons: per neuron layer of the module, a list over channel segments of lists over levels of node names.
    """

    format: int = FORMAT
    dt: float = 1.0
    time_steps: int | None = None
    image_size: tuple[int, int] | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    neurons: dict[str, list[list[str]]] = field(default_factory=dict)
    input_grid: list[float] | None = None


def has_info(graph: nir.NIRGraph) -> bool:
    """Whether the graph carries the zoo's note, that is, was exported by the zoo."""
    return KEY in (graph.metadata or {})


def get(graph: nir.NIRGraph) -> GraphInfo:
    """The note of a graph; an empty one where there is none.

    Raises:
        CorruptGraphError: the note is not what this version can read.
    """
    if not has_info(graph):
        return GraphInfo()
    text = graph.metadata[KEY]
    if isinstance(text, np.ndarray):
        text = text.item()
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    try:
        fields = json.loads(text)
        info = GraphInfo(**fields)
        if info.image_size is not None:
            height, width = info.image_size
            info = replace(info, image_size=(int(height), int(width)))
        return replace(info, dt=float(info.dt))
    except (TypeError, ValueError, KeyError) as error:
        raise CorruptGraphError(f"the graph's zoo metadata cannot be read: {error}") from error


def put(graph: nir.NIRGraph, info: GraphInfo) -> nir.NIRGraph:
    """Note ``info`` in the graph, in place, and return it."""
    graph.metadata = {**(graph.metadata or {}), KEY: json.dumps(asdict(info))}
    return graph
