"""The numpy reference interpreter in the form of a backend. It always computes in float64."""

from __future__ import annotations

from collections.abc import Mapping

import nir
import torch
from torch import Tensor

from zoo.adapters.membranes import NEURONS
from zoo.errors import InvalidGraphError, UnsupportedGraphError
from zoo.nir_graphs import metadata, reference, shapes
from zoo.nir_graphs.reference import Record, Trace


class ReferenceRunnable:
    """See :class:`zoo.adapters.base.Runnable`."""

    dtype = torch.float64

    def __init__(self, graph: nir.NIRGraph, dt: float | None) -> None:
        self.graph = graph
        self.dt = metadata.get(graph).dt if dt is None else dt
        neurons = sum(isinstance(node, NEURONS) for node in graph.nodes.values())
        self.own_cells = (neurons, neurons)

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...) -> outputs (T, B, ...) in float64."""
        return {name: torch.from_numpy(value) for name, value in self.run(x).outputs.items()}

    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with what is to be recorded."""
        given = {n: _array(v) for n, v in x.items()} if isinstance(x, Mapping) else _array(x)
        return reference.run(self.graph, given, dt=self.dt, record=record)


def _array(x: Tensor) -> reference.Array:
    return x.detach().cpu().double().numpy()


def _require_whole_steps(name: str, node: nir.Delay, dt: float) -> None:
    try:
        reference.delay_steps(node, dt)
    except InvalidGraphError as error:
        raise InvalidGraphError(f"node {name!r}: {error}") from None


class ReferenceBackend:
    """See :class:`zoo.adapters.base.Backend`."""

    name = "reference"

    def check(self, graph: nir.NIRGraph) -> list[str]:
        """Nodes that have no discrete-time meaning."""
        known = {*reference.STEPS, nir.Delay}
        return [
            f"node {name!r} is a {type(node).__name__}, which has no discrete-time meaning; zoo.import_nir flattens subgraphs"
            for name, node in graph.nodes.items()
            if type(node) not in known
        ]

    def build(
        self,
        graph: nir.NIRGraph,
        *,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
        dt: float | None = None,
        fuse: bool = True,
    ) -> ReferenceRunnable:
        """The runnable form; type, device and fusing do not matter to it."""
        del dtype, device, fuse
        reasons = self.check(graph)
        if reasons:
            raise UnsupportedGraphError(self.name, reasons)
        shapes.infer(graph)
        runnable = ReferenceRunnable(graph, dt)
        for name, node in graph.nodes.items():
            if isinstance(node, nir.Delay):
                _require_whole_steps(name, node, runnable.dt)
        return runnable


BACKEND = ReferenceBackend()
