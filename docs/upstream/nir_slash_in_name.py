"""A node name with a slash is written, but the file cannot be read.

HDF5 takes the slash for a path separator, so that the node becomes a group within a group. `nir.write` should refuse it.
"""

import tempfile
from pathlib import Path

import nir
import numpy as np

nodes = {"input": nir.Input(np.array([1])), "a/b": nir.Linear(np.ones((1, 1))), "output": nir.Output(np.array([1]))}
path = Path(tempfile.mkdtemp()) / "graph.nir"
nir.write(path, nir.NIRGraph(nodes, [("input", "a/b"), ("a/b", "output")]))
print("expected:", ["a/b", "input", "output"])
try:
    print("got:", sorted(nir.read(path).nodes))
except KeyError as error:
    print("got:", f"KeyError: {error}")
