"""The order in which several edges are summed depends on PYTHONHASHSEED, and with it the bits of the result.

`nir_to_torch` iterates over a set of strings.
"""

import os
import subprocess
import sys

CODE = """
import nir, nirtorch, numpy as np, torch
factors = {"a": 1.0, "b": 1e8, "c": -1e8, "d": 3.0}
nodes = {name: nir.Linear(np.full((1, 1), value, np.float32)) for name, value in factors.items()}
nodes |= {"input": nir.Input(np.array([1])), "sum": nir.Linear(np.ones((1, 1), np.float32)), "output": nir.Output(np.array([1]))}
edges = [("input", n) for n in factors] + [(n, "sum") for n in factors] + [("sum", "output")]
out = nirtorch.nir_to_torch(nir.NIRGraph(nodes, edges), {})(torch.ones(1, 1))
print((out[0] if isinstance(out, tuple) else out).item())
"""
results = {
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True,
    ).stdout.strip()
    for seed in range(6)
}  # fmt: skip
print("expected:", "1 result of 6 runs")
print("got:", f"{len(results)} results of 6 runs")
