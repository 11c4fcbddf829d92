"""The graph executor that all torch backends share.

What lies on a cycle (through a Delay) is stepped through time; nodes without memory run once on all T steps folded into the
batch; neurons outside cycles step through their own sequence. In-edges are summed left to right in the order of the edge
list. A value is dropped after its last reader, and what nobody needs is not computed.

A runnable holds constants, weights and plans; everything that changes during a run belongs to the run. So any number of
threads may call one runnable.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.adapters.checks import check_type, given_inputs, not_run
from zoo.adapters.fusions.matching import Identity, Match
from zoo.adapters.gradients import Deferred
from zoo.adapters.membranes import Cell, Framework
from zoo.adapters.plan import RUN, Goal, Planner
from zoo.adapters.precision import exact_products
from zoo.adapters.units import Context, Key, Unit
from zoo.errors import InvalidInputError, UnsupportedGraphError
from zoo.nir_graphs.fields import Note
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import Graph, normalise
from zoo.nir_graphs.reference import Record, Trace, recorded_nodes

Schedule = tuple[list[Unit], Counter[Key]]


class TorchRunnable(nn.Module):
    """A NIR graph in torch, on a framework's own cells. See :class:`zoo.adapters.base.Runnable`.

    An ordinary ``nn.Module``: its parameters are the weights and biases of the graph, ``parameters_of`` finds those of a
    node. To compute in another type, build it again: constants are rounded once, from what the graph stores.

    Gradients flow as through the single nodes, whether kernels are fused or not, with the framework's own surrogates. In eval
    mode, in which a runnable starts, a call runs as fast as without gradients, and runs again if ``backward`` is called. In
    train mode it records what ``backward`` needs, if an input or a weight requires gradients.

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
        self.kernels = nn.ModuleList()
        self._places: dict[Identity, int] = {}
        self._forget_plans()
        self.plan()
        self.eval()

    def _forget_plans(self) -> None:
        self._planning = threading.RLock()
        self._plans: dict[Goal, list[Unit]] = {}
        self._schedules: dict[tuple[frozenset[str], bool], Schedule] = {}

    def __getstate__(self) -> dict[str, Any]:
        made = {"_planning", "_plans", "_schedules"}
        return {name: value for name, value in super().__getstate__().items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget_plans()

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
        cells = [op for op in self.ops.values() if isinstance(op, Cell)]
        return sum(cell.is_own for cell in cells), len(cells)

    def parameters_of(self, node: str) -> dict[str, nn.Parameter]:
        """Trainable parameters of a node, ``weight`` and ``bias``; none for nodes that have none."""
        key = _key(node)
        return dict(self.ops[key].named_parameters()) if key in self.ops else {}

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...), or one per Input node -> outputs (T, B, ...) by Output node, from rest."""
        given = self._given(x)
        parameters = list(self.parameters()) if torch.is_grad_enabled() else []
        if not torch.is_grad_enabled() or not any(value.requires_grad for value in (*given.values(), *parameters)):
            return self._fast(given)
        if self.training or not all(
            isinstance(value, nn.Parameter) for value in parameters
        ):  # for torch.func's own ones
            return self._recorded(given)
        return Deferred(self._fast, self._recorded, lambda: list(self.parameters()), self.graph.outputs)(given)

    @torch.no_grad()
    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same as numpy arrays, with spikes and potentials of the recorded nodes."""
        wanted = frozenset(recorded_nodes(self.graph, record))
        context = self._execute(self._given(x), wanted, differentiable=False)
        parts = (self._outputs(context), context.spikes, context.potentials)
        return Trace(*({name: value.detach().cpu().numpy() for name, value in part.items()} for part in parts))

    @torch.no_grad()
    def _fast(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """A call through which no gradient flows."""
        return self._outputs(self._execute(given, frozenset(), differentiable=False))

    def _recorded(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """A call that autograd records."""
        return self._outputs(self._execute(given, frozenset(), differentiable=True))

    def _outputs(self, context: Context) -> dict[str, Tensor]:
        return {name: context.values[name] for name in self.graph.outputs}

    def _execute(self, given: dict[str, Tensor], wanted: frozenset[str], *, differentiable: bool) -> Context:
        units, readers = self._schedule(wanted, differentiable)
        steps, batch = next(iter(given.values())).shape[:2]
        values: dict[Key, Tensor] = {name: value for name, value in given.items()}  # noqa: C416 - keys of another type
        context = Context(steps, batch, values, Counter(readers), wanted)
        for name in wanted & given.keys():
            context.note(name, given[name])
        with exact_products(self.device):
            for unit in units:
                unit.run(context)
        return context

    def _given(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs of the type, device and memory layout that make a run independent of where they come from."""
        given = given_inputs(self.graph, x)
        return {name: value.to(self.device, self.dtype).contiguous() for name, value in given.items()}

    def plan(self, *, visible: frozenset[str] = frozenset(), differentiable: bool = False) -> list[Unit]:
        """The units that the graph is executed as.

        Args:
            visible: nodes that no unit may hide.
            differentiable: the plan through which gradients flow.
        """
        goal = Goal(self.fuse, visible, differentiable)
        with self._planning:
            if goal not in self._plans:
                self._plans[goal] = Planner(self.graph, self.framework, self.dtype, self._keep, goal).plan()
            return self._plans[goal]

    def _keep(self, part: str | Match, make: Callable[[], nn.Module]) -> nn.Module:
        """The module of a node, or of a match."""
        if isinstance(part, str):
            key = _key(part)
            if key not in self.ops:
                self.ops[key] = make().to(self.device)
            return self.ops[key]
        if part.identity not in self._places:
            self._places[part.identity] = len(self.kernels)
            self.kernels.append(make().to(self.device))
        return self.kernels[self._places[part.identity]]

    def _schedule(self, wanted: frozenset[str], differentiable: bool) -> Schedule:
        """The units that outputs and recorded nodes need, and how often each value is read."""
        with self._planning:
            if (wanted, differentiable) not in self._schedules:
                shown = {made for unit in self.plan(differentiable=differentiable) for made in unit.makes}
                hidden = wanted - shown - set(self.graph.inputs)
                units = self.plan(visible=hidden, differentiable=differentiable)
                readers: Counter[Key] = Counter(self.graph.outputs)
                needed = []
                for unit in reversed(units):
                    if any(readers[key] > 0 or key in wanted for key in unit.makes):
                        needed.append(unit)
                        readers.update(unit.reads)
                self._schedules[wanted, differentiable] = needed[::-1], readers
            return self._schedules[wanted, differentiable]

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
        return not_run(normalise(graph, dt=dt), RUN, self.name)

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
        graph = normalise(graph, dt=dt)
        if reasons := self.check(graph):
            raise UnsupportedGraphError(self.name, reasons)
        return TorchRunnable(graph, self.framework, dtype=dtype, device=device, fuse=fuse)
