"""snnTorch: LIF and IF on ``snntorch.Leaky``.

How a node is driven (see docs/adapters.md):

* LIF with v_leak = v_reset = 0: ``Leaky(beta=1 - dt/tau, reset_mechanism="zero")`` on (dt/tau) r x. Leaky resets at the start
  of the next step, which gives the same potentials as resetting at the end of this one, and fires at v > threshold.
* IF with v_reset = 0: ``Leaky(beta=1, reset_mechanism="zero")`` on dt r x.
* Threshold: snnTorch's arctangent surrogate on x - threshold, whose forward pass is the Heaviside function.

Everything else (other leaks and resets, integrators, current-based neurons) has no exact cell in snnTorch 1.0 and runs on the
plain torch steps of ``zoo.adapters.ops``; ``own_cells`` counts honestly.
"""

from __future__ import annotations

from typing import Any

import nir
import snntorch
import torch
from snntorch import surrogate
from torch import Tensor

from zoo.adapters import executor
from zoo.adapters.executor import Cells, TorchRunnable
from zoo.adapters.fusion import number
from zoo.adapters.ops import Stateful, rate, tensor


class LeakyCell(Stateful):
    """``snntorch.Leaky`` driven to follow the contract."""

    own_cell = True

    def __init__(self, node: nir.LIF | nir.IF, dtype: torch.dtype, dt: float) -> None:
        super().__init__()
        k = rate(node.tau, dt, dtype) if isinstance(node, nir.LIF) else torch.tensor(dt, dtype=dtype)
        self.gain = k * tensor(node.r, dtype)
        beta = 1 - k if isinstance(node, nir.LIF) else torch.ones((), dtype=dtype)
        self.leaky = snntorch.Leaky(beta=beta, threshold=tensor(node.v_threshold, dtype), reset_mechanism="zero")
        # snnTorch would keep this cell alive for ever
        everyone = snntorch.SpikingNeuron.instances
        everyone[:] = [other for other in everyone if other is not self.leaky]

    def start(self, like: Tensor) -> Tensor:
        """v = 0."""
        return torch.zeros_like(like)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step; Leaky's membrane potential is the one before the reset."""
        spikes, potential = self.leaky(self.gain * x, state)
        return spikes.to(x.dtype), potential, potential


def neuron(node: Any, dtype: torch.dtype, dt: float) -> Stateful | None:
    """snnTorch's own cell for a node, or None."""
    if isinstance(node, nir.LIF) and number(node.v_leak) == 0 and number(node.v_reset) == 0:
        leaks_at_most_once = bool((tensor(node.tau, torch.float64) >= dt).all())  # Leaky clips beta to 0..1
        return LeakyCell(node, dtype, dt) if leaks_at_most_once else None
    if isinstance(node, nir.IF) and number(node.v_reset) == 0:
        return LeakyCell(node, dtype, dt)
    return None


CELLS = Cells("snntorch", neuron, surrogate.atan())


class SnnTorchBackend:
    """See :class:`zoo.adapters.base.Backend`. Its runnables are trainable ``nn.Module`` objects."""

    name = "snntorch"

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


BACKEND = SnnTorchBackend()
