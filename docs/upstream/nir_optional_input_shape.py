"""A convolution without `input_shape`, which the constructor allows, cannot be written; nor can one be read.

`nir.write` does not leave out what is None, and `Conv2d.from_dict` calls the constructor without a field that a file lacks.
"""

import tempfile
from pathlib import Path

import nir
import numpy as np

conv = nir.Conv2d(None, np.ones((1, 1, 3, 3), np.float32), 1, 1, 1, 1, np.zeros(1, np.float32))
nodes = {"input": nir.Input(np.array([1, 8, 8])), "conv": conv, "output": nir.Output(np.array([1, 8, 8]))}
graph = nir.NIRGraph(nodes, [("input", "conv"), ("conv", "output")], type_check=False)
print("expected:", "written")
try:
    nir.write(Path(tempfile.mkdtemp()) / "graph.nir", graph)
    print("got:", "written")
except TypeError as error:
    print("got:", f"TypeError: {error}")
