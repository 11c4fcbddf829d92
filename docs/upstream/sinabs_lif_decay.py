"""An imported LIF decays by exp(-1/tau), subtracts its threshold and may fire several times in one step.

NIR's LIF sets v to `v_reset` when it fires, so a single strong input gives one spike.
"""

import nir
import numpy as np
import torch
from sinabs.nir import from_nir

one = np.ones(1)
neuron = nir.LIF(tau=2 * one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
nodes = {
    "input": nir.Input(np.array([1])),
    "weight": nir.Linear(np.ones((1, 1), np.float32)),
    "neuron": neuron,
    "output": nir.Output(np.array([1])),
}
nodes["weight"] = nir.Affine(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
graph = nir.NIRGraph(nodes, [("input", "weight"), ("weight", "neuron"), ("neuron", "output")])
network = from_nir(graph, batch_size=1)
out = network(torch.tensor([[10.0], [0.0], [0.0]]))
out = out[0] if isinstance(out, tuple) else out
print("expected:", [1.0, 0.0, 0.0])
print("got:", out.flatten().tolist())
