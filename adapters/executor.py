"""The graph executor that all torch backends share.

What lies on a cycle (through a Delay) is stepped through time; nodes without memory run once on all T steps folded into the
batch; neurons outside cycles step through their own sequence. In-edges are summed left to right in the order of the edge
list. A value is dropped after its last reader, and what nobody needs is not computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.adapters.checks import check_type, given_inputs
from zoo.adapters.membranes import Framework
from zoo.adapters.plan import Planner
from zoo.adapters.units import Context, Unit
from zoo.errors import InvalidInputError
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import Graph, normalise
from zoo.nir_graphs.reference import Record, Trace, recorded_nodes


class TorchRunnable(nn.Module):
    """A NIR graph in torch, on a framework's own cells. See :class:`zoo.adapters.base.Runnable`.

    An ordinary ``nn.Module``: its parameters are the weights and biases of the graph, ``parameters_of`` finds those of a
    node. To compute in another type, build it again: constants are rounded once, from what the graph stores.

    Args:
        graph: what to run.
        framework: brings the cells.
        dtype: of the computation, float32 or float64.
        device: torch device.
        fuse: use fused kernels.

    Raises:
        InvalidInputError: another type than float32 or float64.
    """

    _anchor: Tensor

    def __init__(
        self,
        graph: FlatGraph,
        framework: Framework,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        fuse: bool = True,
    ) -> None:
        super().__init__()
        check_type(dtype)
        self.graph, self.framework, self.dtype, self.fuse = graph, framework, dtype, fuse
        self.register_buffer("_anchor", torch.zeros((), dtype=dtype, device=device), persistent=False)
        self.ops = nn.ModuleDict()
        self.units = self._plan(frozenset())
        self._plans: dict[frozenset[str], list[Unit]] = {}
        self._schedules: dict[frozenset[str], tuple[list[Unit], Counter[str]]] = {}

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was changed or assumed when the graph was normalised."""
        return self.graph.notes

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._anchor.device

    @property
    def own_cells(self) -> tuple[int, int]:
        """(neuron nodes on the framework's own cells, neuron nodes in all). Thresholds have no memory and count in neither."""
        neurons = self.graph.where(lambda facts: facts.stateful)
        return sum(self._kept(name).is_own for name in neurons), len(neurons)

    def parameters_of(self, node: str) -> dict[str, nn.Parameter]:
        """Trainable parameters of a node, ``weight`` and ``bias``; none for nodes that have none."""
        key = _key(node)
        return dict(self.ops[key].named_parameters()) if key in self.ops else {}

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...), or one per Input node -> outputs (T, B, ...) by Output node, from rest."""
        return self._execute(x, frozenset())[0]

    @torch.no_grad()
    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with spikes and potentials of the recorded nodes."""
        outputs, context = self._execute(x, frozenset(recorded_nodes(self.graph, record)))
        parts = (outputs, context.spikes, context.potentials)
        return Trace(*({name: value.detach().cpu().numpy() for name, value in part.items()} for part in parts))

    def _execute(self, x: Tensor | Mapping[str, Tensor], wanted: frozenset[str]) -> tuple[dict[str, Tensor], Context]:
        values = self._given(x)
        units, readers = self._schedule(wanted)
        context = Context(values, Counter(readers), wanted)
        for name in wanted & set(values):
            context.note(name, values[name])
        with exact_convolutions(self.device):
            for unit in units:
                unit.run(context)
        return {name: context.values[name] for name in self.graph.outputs}, context

    def _given(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device, self.dtype) for name, value in given_inputs(self.graph, x).items()}

    def _plan(self, visible: frozenset[str]) -> list[Unit]:
        return Planner(self.graph, self.framework, self.dtype, self._keep, fuse=self.fuse, visible=visible).plan()

    def _keep(self, name: str, make: Callable[[], nn.Module]) -> nn.Module:
        key = _key(name)
        if key not in self.ops:
            self.ops[key] = make().to(self.device)
        return self.ops[key]

    def _kept(self, name: str) -> Any:
        return self.ops[_key(name)]

    def _schedule(self, wanted: frozenset[str]) -> tuple[list[Unit], Counter[str]]:
        """The units that outputs and recorded nodes need, and how often each value is read."""
        if wanted not in self._schedules:
            units = self._units_that_show(wanted)
            readers = Counter(self.graph.outputs)
            needed = []
            for unit in reversed(units):
                if any(readers[name] > 0 or name in wanted for name in unit.makes):
                    needed.append(unit)
                    readers.update(unit.reads)
            self._schedules[wanted] = needed[::-1], readers
        return self._schedules[wanted]

    def _units_that_show(self, wanted: frozenset[str]) -> list[Unit]:
        """A plan in which no wanted node is hidden inside a fused kernel."""
        hidden = wanted - {name for unit in self.units for name in unit.makes} - set(self.graph.inputs)
        if not hidden:
            return self.units
        if hidden not in self._plans:
            self._plans[hidden] = self._plan(hidden)
        return self._plans[hidden]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TorchRunnable:
        if fn(torch.zeros(1, dtype=self.dtype, device=self.device)).dtype != self.dtype:
            raise InvalidInputError(
                f"this runnable computes in {self.dtype}; to compute in another type, build it again with dtype=..."
            )
        super()._apply(fn, recurse)
        return self


def _key(name: str) -> str:
    """A node name as a name that torch allows for a submodule: without dots, and different from torch's own attributes."""
    return "/" + name.replace("%", "%25").replace("/", "%2F").replace(".", "/")


@contextmanager
def exact_convolutions(device: torch.device) -> Iterator[None]:
    """Convolutions that only add products.

    On a GPU without TF32, cuDNN's default for float32, which keeps ten bits of each weight. On a CPU without NNPACK, torch's
    default where oneDNN does not take a convolution: its Winograd kernels round what is exact in any order of summation.
    """
    if device.type == "cuda":
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    else:
        with torch.backends.nnpack.flags(enabled=False):
            yield


class TorchBackend:
    """A torch framework as a backend; see :class:`zoo.adapters.base.Backend`.

    Args:
        framework: brings the cells.
    """

    def __init__(self, framework: Framework) -> None:
        self.framework = framework
        self.name = framework.name

    def check(self, graph: Graph, *, dt: float | None = None) -> list[str]:
        """See :class:`zoo.adapters.base.Backend`. Nodes without a cell of the framework run on plain torch: none is refused."""
        normalise(graph, dt=dt)
        return []

    def build(
        self,
        graph: Graph,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        dt: float | None = None,
        fuse: bool = True,
    ) -> TorchRunnable:
        """See :class:`zoo.adapters.base.Backend`."""
        return TorchRunnable(normalise(graph, dt=dt), self.framework, dtype=dtype, device=device, fuse=fuse)
