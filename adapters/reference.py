"""The numpy reference interpreter in the form of a backend. It always computes in float64."""

from __future__ import annotations

import nir
import torch
from torch import Tensor

from zoo.errors import UnsupportedGraphError
from zoo.nir_graphs import metadata, reference
from zoo.nir_graphs.reference import Record, Trace


class ReferenceRunnable:
    """See :class:`zoo.adapters.base.Runnable`."""

    dtype = torch.float64

    def __init__(self, graph: nir.NIRGraph, dt: float | None) -> None:
        self.graph = graph
        self.dt = metadata.get(graph).dt if dt is None else dt
        neurons = sum(isinstance(node, reference.NEURONS) for node in graph.nodes.values())
        self.own_cells = (neurons, neurons)

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Input (T, B, ...) -> outputs (T, B, ...) in float64."""
        return {name: torch.from_numpy(value) for name, value in self.run(x).outputs.items()}

    def run(self, x: Tensor, record: Record = "none") -> Trace:
        """The same as numpy arrays, with what is to be recorded."""
        return reference.run(self.graph, x.detach().cpu().double().numpy(), dt=self.dt, record=record)


class ReferenceBackend:
    """See :class:`zoo.adapters.base.Backend`."""

    name = "reference"

    def check(self, graph: nir.NIRGraph) -> list[str]:
        """Nodes that have no discrete-time meaning."""
        known = {*reference.STEPS, nir.Delay}
        return [
            f"node {name!r} is a {type(node).__name__}, which has no discrete-time meaning here"
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
        return ReferenceRunnable(graph, dt)


BACKEND = ReferenceBackend()
