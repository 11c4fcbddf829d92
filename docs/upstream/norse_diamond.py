"""A graph that splits and joins is executed in the wrong order: a branch is missing in the first step.

The executor walks the graph depth first, so the sum is taken before the second branch has run.
"""

import nir
import norse.torch
import numpy as np
import torch

weight = np.ones((1, 1), np.float32)
nodes = {
    "input": nir.Input(np.array([1])),
    "a": nir.Linear(weight),
    "b": nir.Linear(10 * weight),
    "join": nir.Linear(weight),
    "output": nir.Output(np.array([1])),
}
edges = [("input", "a"), ("input", "b"), ("a", "join"), ("b", "join"), ("join", "output")]
network = norse.torch.from_nir(nir.NIRGraph(nodes, edges), dt=1.0)
out, _ = network(torch.ones(1, 1))
print("expected:", 11.0)
print("got:", out.item())
