"""Who is examined: the zoo's adapters, and the importers that frameworks ship."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from zoo.equivalence.conformance.building import Array, Case

Outputs = dict[str, Array]


@dataclass(frozen=True)
class Subject:
    """One column of the table.

    Attributes:
        name: for example ``norse`` (the adapter) or ``norse from_nir`` (the stock importer).
        package: distribution whose version is noted.
        run: case -> outputs (T, B, ...) by Output node.
        adapter: name of the backend, for an adapter of the zoo.
        modules: Python packages that the importer consists of: what they raise is what the importer says.
    """

    name: str
    package: str
    run: Callable[[Case], Outputs]
    adapter: str | None = None
    modules: tuple[str, ...] = ()

    def load(self) -> None:
        """Import the framework, so that the time it takes does not count as a case's."""
        for module in self.modules:
            importlib.import_module(module)


class UnexpectedOutputError(Exception):
    """A model ran, but what it returned is not one value per Output node."""


def _adapter(name: str) -> Callable[[Case], Outputs]:
    def run(case: Case) -> Outputs:
        import torch

        from zoo.adapters.base import get_backend
        from zoo.nir_graphs import importing

        graph, x = case.make()
        prepared = importing.prepare(graph, dt=case.dt)
        runnable = get_backend(name).build(prepared, dtype=torch.float64)
        trace = runnable.run(tensors(x), record="all")
        return {**trace.outputs, **{f"spikes of {node}": value for node, value in trace.spikes.items()}}

    return run


def tensors(x: Any) -> Any:
    """Arrays as tensors in float64."""
    import torch

    if isinstance(x, Mapping):
        return {name: torch.from_numpy(value) for name, value in x.items()}
    return torch.from_numpy(x)


def reread(case: Case, *, unit: float = 1.0) -> tuple[nir.NIRGraph, Any]:
    """The graph as a user of stock nir has it: written to a file and read back, in the framework's unit of time."""
    graph, x = case.make()
    scaled = {name: _in_unit(node, unit / case.dt) for name, node in graph.nodes.items()}
    copy = nir.NIRGraph(scaled, list(graph.edges), type_check=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.nir"
        nir.write(path, copy)
        return nir.read(path, type_check=False), x


def _in_unit(node: nir.NIRNode, factor: float) -> nir.NIRNode:
    """Times multiplied by a factor; everything else stays."""
    import copy

    if isinstance(node, nir.NIRGraph):
        inner = {name: _in_unit(child, factor) for name, child in node.nodes.items()}
        return nir.NIRGraph(inner, list(node.edges), type_check=False)
    node = copy.copy(node)
    for field in ("tau", "tau_syn", "tau_mem", "delay"):
        if factor != 1 and hasattr(node, field):
            setattr(node, field, np.asarray(getattr(node, field)) * factor)
    return node


def _single(graph: nir.NIRGraph, result: Any) -> Outputs:
    """Stock importers return one value; where the graph has several Outputs, the others are missing."""
    names = [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
    if isinstance(result, Mapping):
        return {name: np.asarray(value) for name, value in result.items()}
    return {names[0]: np.asarray(result)}


def _one_input(x: Any) -> Array:
    """What a stock importer's model is given: none takes more than one input, and none says so."""
    array: Array = next(iter(x.values())) if isinstance(x, Mapping) else x
    return array


def _steps(network: Any, x: Array) -> Array:
    """A model that is called step by step and returns (output, state)."""
    import torch

    state, outputs = None, []
    with torch.no_grad():
        for current in torch.from_numpy(x).float():
            result = network(current, state)
            out, state = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
            if isinstance(out, tuple | list):
                raise UnexpectedOutputError(f"the model returns {len(out)} values where one output is expected")
            outputs.append(out)
    stacked: Array = torch.stack(outputs).numpy()
    return stacked


def _snntorch(case: Case) -> Outputs:
    from snntorch.import_nir import import_from_nir

    graph, x = reread(case, unit=1e-4)  # its dt is fixed
    return _single(graph, _steps(import_from_nir(graph), _one_input(x)))


def _norse(case: Case) -> Outputs:
    import norse.torch

    graph, x = reread(case)
    return _single(graph, _steps(norse.torch.from_nir(graph, dt=1.0), _one_input(x)))


def _spikingjelly(case: Case) -> Outputs:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    graph, x = reread(case)
    return _single(graph, _steps(import_from_nir(graph, dt=1.0), _one_input(x)))


def _nirtorch(case: Case) -> Outputs:
    import nirtorch

    graph, x = reread(case)
    return _single(graph, _steps(nirtorch.nir_to_torch(graph, {}), _one_input(x)))


def _sinabs(case: Case) -> Outputs:
    import torch
    from sinabs.nir import from_nir

    graph, x = reread(case)  # its tau counts steps
    array = _one_input(x)
    steps, batch = array.shape[:2]
    network = from_nir(graph, batch_size=batch)
    with torch.no_grad():
        result = network(torch.from_numpy(array).float().transpose(0, 1).flatten(0, 1))
    out = result[0] if isinstance(result, tuple) else result
    return _single(graph, out.unflatten(0, (batch, steps)).transpose(0, 1).numpy())


def _spyx(case: Case) -> Outputs:
    import jax.numpy as jnp
    import spyx

    graph, x = reread(case)
    given = jnp.asarray(_channels_last(_one_input(x)), jnp.float32)
    _, outputs = spyx.nir.from_nir(graph, given, dt=1)
    return _single(graph, _channels_first(np.asarray(outputs)))


def _channels_last(x: Array) -> Array:
    """(T, B, C, H, W) -> (T, B, H, W, C), as the comment "shape conventions" in spyx/nir.py says; others as they are."""
    return np.moveaxis(x, 2, -1) if x.ndim == 5 else x


def _channels_first(x: Array) -> Array:
    return np.moveaxis(x, -1, 2) if x.ndim == 5 else x


def all_subjects() -> dict[str, Subject]:
    """Every subject by name, adapters first."""
    packages = {
        "reference": "nir-zoo", "snntorch": "snntorch", "norse": "norse", "spikingjelly": "spikingjelly",
        "sinabs": "sinabs", "jax": "spyx", "brian2": "brian2",
    }  # fmt: skip
    adapters = [Subject(name, package, _adapter(name), name) for name, package in packages.items()]
    stock = [
        Subject("snntorch import_from_nir", "snntorch", _snntorch, modules=("snntorch", "nirtorch")),
        Subject("norse from_nir", "norse", _norse, modules=("norse", "nirtorch")),
        Subject("spikingjelly import_from_nir", "spikingjelly", _spikingjelly, modules=("spikingjelly", "nirtorch")),
        Subject("sinabs from_nir", "sinabs", _sinabs, modules=("sinabs", "nirtorch")),
        Subject("spyx from_nir", "spyx", _spyx, modules=("spyx",)),
        Subject("nirtorch nir_to_torch", "nirtorch", _nirtorch, modules=("nirtorch",)),
    ]
    return {subject.name: subject for subject in [*adapters, *stock]}
