"""The padding of an imported SumPool2d is dropped."""

import nir
import numpy as np
import torch
from sinabs.nir import from_nir

two, one = np.array([2, 2]), np.array([1, 1])
nodes = {
    "input": nir.Input(np.array([1, 2, 2])),
    "pool": nir.SumPool2d(kernel_size=two, stride=two, padding=one),
    "output": nir.Output(np.array([1, 2, 2])),
}
network = from_nir(nir.NIRGraph(nodes, [("input", "pool"), ("pool", "output")], type_check=False), batch_size=1)
out = network(torch.ones(1, 1, 2, 2))
out = out[0] if isinstance(out, tuple) else out
print("expected:", [1, 1, 2, 2])
print("got:", list(out.shape))
