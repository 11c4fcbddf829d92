"""Norse: LIF on ``LIFBoxCell``, IF on ``IAFCell``, LI on ``LIBoxCell``.

How a node is driven (see docs/adapters.md):

* LIF: ``LIFBoxCell(tau_mem_inv=dt/tau, dt=1)`` on r x, so that Norse's dt * tau_mem_inv is dt/tau, rounded once.
* IF: ``IAFCell`` on dt r x.
* LI: ``LIBoxCell`` likewise.
* The state of rest is passed in: left alone, Norse starts at its leak or reset potential, not at 0.
* Threshold: Norse's SuperSpike on x - threshold, whose forward pass is the Heaviside function.

Norse computes (x + v_leak) - v where the contract says (v_leak - v) + x. With v_leak = 0 these are the same bits; a LIF with
another leak, current-based neurons (Norse lets the current decay after its use) and I run on plain torch steps;
``own_cells`` counts honestly.
"""

from __future__ import annotations

from typing import Any

import nir
import torch
from norse.torch.functional.iaf import IAFFeedForwardState, IAFParameters
from norse.torch.functional.leaky_integrator_box import LIBoxParameters, LIBoxState
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
from norse.torch.functional.threshold import threshold
from norse.torch.module.iaf import IAFCell
from norse.torch.module.leaky_integrator_box import LIBoxCell
from norse.torch.module.lif_box import LIFBoxCell
from torch import Tensor

from zoo.adapters import executor
from zoo.adapters.executor import Cells, TorchRunnable
from zoo.adapters.fusion import number
from zoo.adapters.ops import Stateful, rate, tensor

_ALPHA = 100.0  # steepness of the SuperSpike surrogate, Norse's default


class LIFBox(Stateful):
    """``norse.torch.LIFBoxCell`` driven to follow the contract."""

    own_cell = True

    def __init__(self, node: nir.LIF, dtype: torch.dtype, dt: float) -> None:
        super().__init__()
        self.k, self.r = rate(node.tau, dt, dtype), tensor(node.r, dtype)
        self.cell = LIFBoxCell(
            LIFBoxParameters(
                tau_mem_inv=self.k,
                v_leak=torch.zeros((), dtype=dtype),
                v_th=tensor(node.v_threshold, dtype),
                v_reset=tensor(node.v_reset, dtype),
            ),
            dt=1.0,
        )

    def start(self, like: Tensor) -> Tensor:
        """v = 0."""
        return torch.zeros_like(like)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step. The cell hands out the potential after the reset; the one before is its own formula."""
        current = self.r * x
        spikes, after = self.cell(current, LIFBoxFeedForwardState(state))
        return spikes, state + self.k * (current - state), after.v


class IAF(Stateful):
    """``norse.torch.IAFCell`` driven to follow the contract."""

    own_cell = True

    def __init__(self, node: nir.IF, dtype: torch.dtype, dt: float) -> None:
        super().__init__()
        self.gain = torch.tensor(dt, dtype=dtype) * tensor(node.r, dtype)
        self.cell = IAFCell(IAFParameters(v_th=tensor(node.v_threshold, dtype), v_reset=tensor(node.v_reset, dtype)))

    def start(self, like: Tensor) -> Tensor:
        """v = 0."""
        return torch.zeros_like(like)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step."""
        current = self.gain * x
        spikes, after = self.cell(current, IAFFeedForwardState(state))
        return spikes, state + current, after.v


class LIBox(Stateful):
    """``norse.torch.LIBoxCell`` driven to follow the contract."""

    own_cell = True

    def __init__(self, node: nir.LI, dtype: torch.dtype, dt: float) -> None:
        super().__init__()
        self.r = tensor(node.r, dtype)
        parameters = LIBoxParameters(tau_mem_inv=rate(node.tau, dt, dtype), v_leak=tensor(node.v_leak, dtype))
        self.cell = LIBoxCell(p=parameters, dt=1.0)

    def start(self, like: Tensor) -> Tensor:
        """v = 0."""
        return torch.zeros_like(like)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step."""
        out, after = self.cell(self.r * x, LIBoxState(state))
        return out, out, after.v


def neuron(node: Any, dtype: torch.dtype, dt: float) -> Stateful | None:
    """Norse's own cell for a node, or None."""
    if isinstance(node, nir.LIF) and number(node.v_leak) == 0:
        return LIFBox(node, dtype, dt)
    if isinstance(node, nir.IF):
        return IAF(node, dtype, dt)
    if isinstance(node, nir.LI):
        return LIBox(node, dtype, dt)
    return None


def spike(x: Tensor) -> Tensor:
    """Norse's Heaviside function with its SuperSpike surrogate."""
    return threshold(x, "super", _ALPHA)


CELLS = Cells("norse", neuron, spike)


class NorseBackend:
    """See :class:`zoo.adapters.base.Backend`."""

    name = "norse"

    def check(self, graph: nir.NIRGraph) -> list[str]:
        """Why this backend cannot run the graph exactly."""
        return executor.check(graph)

    def build(
        self,
        graph: nir.NIRGraph,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        dt: float | None = None,
        fuse: bool = True,
    ) -> TorchRunnable:
        """The runnable form."""
        return TorchRunnable(graph, CELLS, dtype=dtype, device=device, dt=dt, fuse=fuse)


BACKEND = NorseBackend()
