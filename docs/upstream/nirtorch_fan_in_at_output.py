"""Several edges into an Output are returned side by side instead of as their sum."""

import nir
import nirtorch
import numpy as np
import torch

nodes = {
    "input": nir.Input(np.array([1])),
    "a": nir.Linear(np.full((1, 1), 2.0, np.float32)),
    "b": nir.Linear(np.full((1, 1), 3.0, np.float32)),
    "output": nir.Output(np.array([1])),
}
graph = nir.NIRGraph(nodes, [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")])
out = nirtorch.nir_to_torch(graph, {})(torch.ones(1, 1))
values = out if isinstance(out, tuple) else (out,)
print("expected:", "one output: 5.0")
print(
    "got:",
    f"{sum(isinstance(v, torch.Tensor) for v in values)} outputs:",
    *[v.item() for v in values if isinstance(v, torch.Tensor)],
)
