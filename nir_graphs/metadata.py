"""What the zoo notes in a graph: time base, image size, outputs, and which nodes make up which neuron layer.

The note is JSON text under ``graph.metadata["zoo"]``, a form that survives ``nir.write`` and ``nir.read``. It helps people and
tools to find their way in a graph. What a graph computes never depends on it, except for ``dt``, which NIR leaves open.
Other tools may use the same key: what is no JSON object with a whole number as ``format`` is theirs, and is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import nir
from pydantic import Field, TypeAdapter, ValidationError

from zoo.errors import CorruptGraphError
from zoo.nir_graphs.fields import text

KEY = "zoo"
FORMAT = 1
_Positive = Annotated[int, Field(ge=1)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


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

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    dt: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    time_steps: _Positive | None = None
    image_size: tuple[_Positive, _Positive] | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    neurons: dict[str, list[list[str]]] = field(default_factory=dict)
    input_grid: Annotated[list[_Finite], Field(min_length=3, max_length=3)] | None = None


_NOTE = TypeAdapter(GraphInfo)


def split(graph: nir.NIRGraph) -> tuple[GraphInfo | None, dict[str, Any]]:
    """(the zoo's note, or None where there is none; the metadata of others).

    Raises:
        CorruptGraphError: a note of the zoo's that this version cannot read.
    """
    others = _entries(graph)
    fields = _parsed(others.get(KEY))
    if fields is None:
        return None, others
    del others[KEY]
    version = fields["format"]
    if version > FORMAT:
        raise CorruptGraphError(
            f"the graph's zoo metadata has the format {version}, this version reads {FORMAT}: upgrade nir-zoo"
        )
    try:
        info = _NOTE.validate_json(json.dumps(fields), strict=True)
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        raise CorruptGraphError(f"the graph's zoo metadata cannot be read: {where}: {first['msg']}") from None
    grid = info.input_grid
    if grid is not None and (grid[0] != int(grid[0]) or grid[1] > grid[2]):
        raise CorruptGraphError(
            f"the graph's zoo metadata cannot be read: input_grid {grid} is no [exponent, low, high]"
        )
    return info, others


def _parsed(value: Any) -> dict[str, Any] | None:
    """The note as a dictionary, or None where the value is none of ours."""
    words = text(value)
    if words is None:
        return None
    try:
        fields = json.loads(words)
    except (ValueError, RecursionError):
        return None
    version = fields.get("format") if isinstance(fields, dict) else None
    return fields if isinstance(version, int) and not isinstance(version, bool) else None


def _entries(graph: nir.NIRGraph) -> dict[str, Any]:
    """A copy of the metadata; some tools leave there what is no dictionary."""
    return dict(graph.metadata) if isinstance(graph.metadata, Mapping) else {}


def has_info(graph: nir.NIRGraph) -> bool:
    """Whether the graph carries the zoo's note, that is, was exported by the zoo."""
    return _parsed(_entries(graph).get(KEY)) is not None


def states_dt(graph: nir.NIRGraph) -> bool:
    """Whether the zoo's note says how long a step is."""
    return "dt" in (_parsed(_entries(graph).get(KEY)) or {})


def get(graph: nir.NIRGraph) -> GraphInfo:
    """The note of a graph; an empty one where there is none.

    Raises:
        CorruptGraphError: the note is not what this version can read.
    """
    return split(graph)[0] or GraphInfo()


def put(graph: nir.NIRGraph, info: GraphInfo) -> nir.NIRGraph:
    """Note ``info`` in the graph, in place, and return it."""
    graph.metadata = {**_entries(graph), KEY: json.dumps(asdict(info))}
    return graph
