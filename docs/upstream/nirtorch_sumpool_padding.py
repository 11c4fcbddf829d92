"""The padding of SumPool2d is dropped (NIRTorch issue 44).

It becomes `torch.nn.LPPool2d`, which has no padding; snnTorch, Norse, Sinabs and SpikingJelly inherit it.
"""

import nir
import nirtorch
import numpy as np
import torch

nodes = {
    "input": nir.Input(np.array([1, 4, 4])),
    "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1])),
    "output": nir.Output(np.array([1, 3, 3])),
}
network = nirtorch.nir_to_torch(nir.NIRGraph(nodes, [("input", "pool"), ("pool", "output")]), {})
out = network(torch.ones(1, 1, 4, 4))
print("expected:", [1, 1, 3, 3])
print("got:", list((out[0] if isinstance(out, tuple) else out).shape))
