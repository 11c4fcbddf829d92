"""A file with a node type that this version does not know ends in an assertion without a message.

With `python -O` the assertion is gone, and the type is looked up among the names of the module.
"""

import tempfile
from pathlib import Path

import h5py
import nir
import numpy as np

path = Path(tempfile.mkdtemp()) / "graph.nir"
nir.write(path, nir.NIRGraph({"a": nir.Linear(np.ones((1, 1)))}, [], type_check=False))
with h5py.File(path, "a") as file:
    del file["node/nodes/a/type"]
    file["node/nodes/a/type"] = "Resonate"
print("expected:", "an error that names 'Resonate'")
try:
    nir.read(path, type_check=False)
except Exception as error:
    print("got:", repr(error))
