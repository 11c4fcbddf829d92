"""Short graphs written by hand, run or refused on every backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
import pytest
import torch

from zoo.adapters.base import BACKENDS as KNOWN
from zoo.adapters.base import get_backend
from zoo.errors import ZooError
from zoo.nir_graphs import reference
from zoo.nir_graphs.normalise import normalise

Array = npt.NDArray[Any]
Edge = tuple[Any, Any]
BACKENDS = tuple(KNOWN)


def array(*values: Any) -> Array:
    """Numbers as float64; one number as 0-d array."""
    return np.array(values[0] if len(values) == 1 else values, np.float64)


def entry(*shape: int) -> nir.Input:
    """An Input."""
    return nir.Input({"input": np.array(shape)})


def leave(*shape: int) -> nir.Output:
    """An Output."""
    return nir.Output({"output": np.array(shape)})


def lif(shape: Sequence[int], *, tau: float = 2.0, threshold: float = 0.5, **others: Any) -> nir.LIF:
    """A LIF with the same numbers everywhere."""
    numbers = {"r": 1.0, "v_leak": 0.0, "v_reset": 0.0, **others}
    return nir.LIF(
        tau=np.full(shape, tau),
        v_threshold=np.full(shape, threshold),
        **{name: np.full(shape, value) for name, value in numbers.items()},
    )


def graph(nodes: Mapping[str, Any], edges: Iterable[Edge], **metadata: Any) -> nir.NIRGraph:
    """A graph as others might write it: NIR's own type check is off."""
    return nir.NIRGraph(dict(nodes), list(edges), metadata, type_check=False)


def block(
    shape: Sequence[int], nodes: Mapping[str, Any], edges: Iterable[Edge], *, out: Sequence[int] = ()
) -> nir.NIRGraph:
    """A subgraph with the borders ``input`` and ``output``."""
    return graph({"input": entry(*shape), **nodes, "output": leave(*(out or shape))}, edges)


def quarters(shape: Sequence[int], seed: int = 0, low: float = -1.0, high: float = 2.0) -> Array:
    """Random multiples of 1/4."""
    return np.random.default_rng(seed).integers(round(low * 4), round(high * 4) + 1, shape) / 4


def run_on(backend: str, what: Any, x: Any, *, dtype: torch.dtype = torch.float64, **options: Any) -> reference.Trace:
    """Normalise, build and run, with everything recorded."""
    edges = options.pop("delayed_edges", ())
    given = (
        {name: torch.as_tensor(value) for name, value in x.items()} if isinstance(x, Mapping) else torch.as_tensor(x)
    )
    if edges:
        what, options = normalise(what, delayed_edges=edges, **options), {}
    return get_backend(backend).build(what, dtype=dtype, **options).run(given, record="all")


def require(
    what: nir.NIRGraph, x: Any, right: Any, *, backends: Sequence[str] = BACKENDS, dt: Any = 1.0, **options: Any
) -> None:
    """The outputs are the right ones, to the bit, on every backend; ``right`` is an array, or one per Output."""
    for backend in backends:
        found = run_on(backend, what, x, dt=dt, **options).outputs
        expected = right if isinstance(right, Mapping) else dict.fromkeys(found, right)
        assert found.keys() == expected.keys(), backend
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{backend}: {name}")


def refused(
    what: nir.NIRGraph,
    error: type[ZooError],
    match: str,
    *,
    backends: Sequence[str] = BACKENDS,
    dt: Any = 1.0,
    **options: Any,
) -> None:
    """Refused alike at every door: normalise, the judge, and check and build of every backend."""
    shape = next((tuple(n.input_type["input"]) for n in what.nodes.values() if isinstance(n, nir.Input)), (1,))
    x = np.zeros((2, 2, *shape)) if all(np.isreal(shape)) else np.zeros((2, 2))
    with pytest.raises(error, match=match):
        normalise(what, dt=dt, **options)
    if options:
        return
    with pytest.raises(error, match=match):
        reference.run(what, x, dt=dt)
    for backend in backends:
        with pytest.raises(error, match=match):
            get_backend(backend).build(what, dt=dt)


def rate(z: Array, low: float = 0.05, high: float = 0.6) -> None:
    """The spikes that a test compares are neither silent nor saturated."""
    assert low < z.mean() < high, z.mean()
