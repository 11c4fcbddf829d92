"""Flatten(0, -1) flattens the batch.

The axes of `nir.Flatten` do not count the batch, but are passed on to `torch.nn.Flatten`, which does.
"""

import nir
import nirtorch
import numpy as np
import torch

nodes = {
    "input": nir.Input(np.array([2, 3])),
    "flatten": nir.Flatten({"input": np.array([2, 3])}, start_dim=0, end_dim=-1),
    "output": nir.Output(np.array([6])),
}
network = nirtorch.nir_to_torch(nir.NIRGraph(nodes, [("input", "flatten"), ("flatten", "output")]), {})
out = network(torch.zeros(4, 2, 3))
print("expected:", [4, 6])
print("got:", list((out[0] if isinstance(out, tuple) else out).shape))
