"""The bias of an Affine node is not the one of the file: it stays random.

The default map assigns `module.weight.bias` instead of `module.bias`.
"""

import nir
import nirtorch
import numpy as np
import torch

nodes = {
    "input": nir.Input(np.array([2])),
    "affine": nir.Affine(np.eye(2, dtype=np.float32), np.array([10.0, 20.0], np.float32)),
    "output": nir.Output(np.array([2])),
}
torch.manual_seed(0)
network = nirtorch.nir_to_torch(nir.NIRGraph(nodes, [("input", "affine"), ("affine", "output")]), {})
out = network(torch.zeros(1, 2))
print("expected:", [[10.0, 20.0]])
print("got:", (out[0] if isinstance(out, tuple) else out).detach().numpy().round(3).tolist())
