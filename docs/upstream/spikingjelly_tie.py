"""An imported LIF fires at v = v_threshold; NIR's condition is v > v_threshold.

Ties are common with quantised weights. The next number above the threshold would give NIR's condition exactly.
"""

import nir
import numpy as np
import torch
from spikingjelly.activation_based.nir_exchange import import_from_nir

one = np.ones(1)
neuron = nir.LIF(tau=2 * one, r=one, v_leak=0 * one, v_threshold=0.5 * one, v_reset=0 * one)
nodes = {
    "input": nir.Input(np.array([1])),
    "weight": nir.Linear(np.ones((1, 1), np.float32)),
    "neuron": neuron,
    "output": nir.Output(np.array([1])),
}
graph = nir.NIRGraph(nodes, [("input", "weight"), ("weight", "neuron"), ("neuron", "output")])
out = import_from_nir(graph, dt=1.0)(torch.tensor([[1.0]]))
out = out[0] if isinstance(out, tuple) else out
print("expected:", 0.0)
print("got:", out.item())
