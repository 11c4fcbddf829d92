"""A neuron whose parameters have one number each cannot follow a convolution: they are not broadcast.

The type of a neuron is the shape of its parameters, so that a map of 64x160x160 needs five arrays of 1.6 million equal
numbers (NIR issue 176).
"""

import nir
import numpy as np

one = np.ones((4, 1, 1), np.float32)
nodes = {
    "input": nir.Input(np.array([4, 8, 8])),
    "lif": nir.LIF(tau=one, r=one, v_leak=one, v_threshold=one, v_reset=one),
    "output": nir.Output(np.array([4, 8, 8])),
}
print("expected:", "a graph")
try:
    nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")])
    print("got:", "a graph")
except ValueError as error:
    print("got:", f"ValueError: {error}")
