"""An imported IF neuron leaks and subtracts: snnTorch makes `Leaky(beta=0.9, reset_mechanism="subtract")` of it.

NIR's IF has no leak, and sets the membrane potential to `v_reset` when it fires.
"""

import nir
import numpy as np
import torch
from snntorch.import_nir import import_from_nir

neuron = nir.IF(r=np.ones(1), v_threshold=np.ones(1), v_reset=np.zeros(1))
nodes = {
    "input": nir.Input(np.array([1])),
    "weight": nir.Linear(np.ones((1, 1), np.float32)),
    "neuron": neuron,
    "output": nir.Output(np.array([1])),
}
graph = nir.NIRGraph(nodes, [("input", "weight"), ("weight", "neuron"), ("neuron", "output")])
network, state, spikes = import_from_nir(graph), None, []
for current in (0.55, 0.5, 0.55, 0.5, 0.55, 0.5):
    out, state = network(torch.tensor([[current]]), state)
    out = out[0] if isinstance(out, tuple) else out  # snnTorch returns (spikes, potential) of a last neuron
    spikes.append(int(out.item()))
print("expected:", [0, 1, 0, 1, 0, 1])
print("got:", spikes)
