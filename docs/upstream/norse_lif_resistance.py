"""The resistance `r` of an imported LIF is ignored.

NIR: tau v' = (v_leak - v) + r I. With r = 4 and dt = tau / 2, an input of 0.5 lifts v to 1 at once, above the threshold of 0.9.
"""

import nir
import norse.torch
import numpy as np
import torch

one = np.ones(1)
neuron = nir.LIF(tau=2 * one, r=4 * one, v_leak=0 * one, v_threshold=0.9 * one, v_reset=0 * one)
nodes = {
    "input": nir.Input(np.array([1])),
    "weight": nir.Linear(np.ones((1, 1), np.float32)),
    "neuron": neuron,
    "output": nir.Output(np.array([1])),
}
graph = nir.NIRGraph(nodes, [("input", "weight"), ("weight", "neuron"), ("neuron", "output")])
network, state, spikes = norse.torch.from_nir(graph, dt=1.0), None, []
for _ in range(4):
    out, state = network(torch.tensor([[0.5]]), state)
    spikes.append(int(out.item()))
print("expected:", [1, 1, 1, 1])
print("got:", spikes)
