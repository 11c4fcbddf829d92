"""A Scale node is dropped without an error."""

import jax.numpy as jnp
import nir
import numpy as np
import spyx

nodes = {
    "input": nir.Input(np.array([2])),
    "weight": nir.Linear(np.eye(2, dtype=np.float32)),
    "scale": nir.Scale(np.array([10.0, 100.0], np.float32)),
    "output": nir.Output(np.array([2])),
}
graph = nir.NIRGraph(nodes, [("input", "weight"), ("weight", "scale"), ("scale", "output")])
_, out = spyx.nir.from_nir(graph, jnp.ones((1, 1, 2), jnp.float32), dt=1)
print("expected:", [10.0, 100.0])
print("got:", np.asarray(out).ravel().tolist())
