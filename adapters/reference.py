"""The numpy reference interpreter in the form of a backend. It always computes in float64."""

from __future__ import annotations

from collections.abc import Mapping

import nir
import torch
from torch import Tensor

from zoo.adapters.checks import not_run
from zoo.errors import UnsupportedGraphError
from zoo.nir_graphs import reference
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import Graph, normalise
from zoo.nir_graphs.reference import Record, Trace


class ReferenceRunnable:
    """See :class:`zoo.adapters.base.Runnable`."""

    dtype = torch.float64

    def __init__(self, graph: FlatGraph) -> None:
        self.graph = graph

    @property
    def own_cells(self) -> tuple[int, int]:
        """All neuron nodes run on the judge's own equations."""
        neurons = len(self.graph.where(lambda facts: facts.stateful))
        return neurons, neurons

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was changed or assumed when the graph was normalised."""
        return self.graph.notes

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...) -> outputs (T, B, ...) in float64."""
        return {name: torch.from_numpy(value) for name, value in self.run(x).outputs.items()}

    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with what is to be recorded."""
        given = {n: _array(v) for n, v in x.items()} if isinstance(x, Mapping) else _array(x)
        return reference.run(self.graph, given, record=record)


def _array(x: Tensor) -> reference.Array:
    return x.detach().cpu().double().numpy()


class ReferenceBackend:
    """See :class:`zoo.adapters.base.Backend`."""

    name = "reference"

    def check(self, graph: Graph, *, dt: float | None = None) -> list[str]:
        """See :class:`zoo.adapters.base.Backend`. The judge runs every node type of the contract."""
        return not_run(normalise(graph, dt=dt), {*reference.STEPS, nir.Delay}, self.name)

    def build(
        self,
        graph: Graph,
        *,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
        dt: float | None = None,
        fuse: bool = True,
    ) -> ReferenceRunnable:
        """The runnable form; type, device and fusing do not matter to it."""
        del dtype, device, fuse
        graph = normalise(graph, dt=dt)
        if reasons := self.check(graph):
            raise UnsupportedGraphError(self.name, reasons)
        return ReferenceRunnable(graph)


BACKEND = ReferenceBackend()
