"""Shared by the tests of passes: run a graph before and after on the judge, and as stock nir reads it from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
import pytest

from zoo.nir_graphs import reference, writing
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import normalise

Array = npt.NDArray[Any]
Equal = Callable[..., reference.Trace]
STEPS, BATCH = 16, 16


def spikes_for(graph: FlatGraph, seed: int = 0) -> dict[str, Array]:
    """Integers of mean 1 for every Input, (T, B, ...)."""
    random = np.random.default_rng(seed)
    return {name: random.integers(-2, 5, (STEPS, BATCH, *graph.shapes[name])).astype(float) for name in graph.inputs}


@pytest.fixture
def equal() -> Equal:
    """Requires that two graphs give the same spikes, potentials and outputs, bit for bit; returns what the first gives."""

    def compare(before: FlatGraph, after: FlatGraph, x: Mapping[str, Array] | None = None) -> reference.Trace:
        x = spikes_for(before) if x is None else x
        one, two = (reference.run(graph, x, record="all") for graph in (before, after))
        assert one.outputs.keys() == two.outputs.keys()
        assert set(one.spikes) <= set(two.spikes)
        for kind in ("outputs", "spikes", "potentials"):
            for name, values in getattr(one, kind).items():
                np.testing.assert_array_equal(getattr(two, kind)[name], values, err_msg=f"{kind} of {name}")
        return one

    return compare


@pytest.fixture
def stock_read(tmp_path: Path) -> Callable[[FlatGraph], FlatGraph]:
    """Writes a graph, reads it with plain ``nir.read(path)``, requires right types, and returns what was read."""

    def read(graph: FlatGraph) -> FlatGraph:
        found = nir.read(writing.write(graph, tmp_path / "graph.nir"))
        assert set(found.nodes) == set(graph.nodes)
        for name, node in graph.nodes.items():
            assert tuple(next(iter(found.nodes[name].input_type.values()))) == node.input_shape, name
            assert tuple(next(iter(found.nodes[name].output_type.values()))) == node.shape, name
        return normalise(found)

    return read


def flat(nodes: Mapping[str, nir.NIRNode], edges: list[tuple[str, str]], **options: Any) -> FlatGraph:
    """A FlatGraph of nodes and edges."""
    return normalise(nir.NIRGraph(dict(nodes), edges, type_check=False), **options)


@pytest.fixture
def make() -> Callable[..., FlatGraph]:
    """Makes a FlatGraph of nodes and edges."""
    return flat
