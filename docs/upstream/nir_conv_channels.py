"""A convolution that gets the wrong number of channels passes the type check if it states no `input_shape`.

`infer_types` takes over the type of the node before without comparing it with `weight.shape[1] * groups`.
"""

import nir
import numpy as np

weight = np.ones((4, 2, 3, 3), np.float32)  # takes 2 channels
nodes = {
    "input": nir.Input(np.array([3, 8, 8])),  # gives 3
    "conv": nir.Conv2d(None, weight, 1, 1, 1, 1, np.zeros(4, np.float32)),
    "output": nir.Output(np.array([4, 8, 8])),
}
print("expected:", "ValueError")
try:
    nir.NIRGraph(nodes, [("input", "conv"), ("conv", "output")], type_check=True)
    print("got:", "no error")
except ValueError:
    print("got:", "ValueError")
