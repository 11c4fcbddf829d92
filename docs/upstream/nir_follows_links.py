"""`nir.read` follows links out of the file: a `.nir` file from the internet can read other files of the user.

An HDF5 dataset may keep its values in another file (external storage, external links, virtual datasets). Its bytes become
weights, which a program may then publish. To refuse: `dataset.external`, `dataset.is_virtual`, and links that are not hard.
"""

import tempfile
from pathlib import Path

import h5py
import nir
import numpy as np

folder = Path(tempfile.mkdtemp())
(folder / "secret").write_bytes(np.array([[42.0]]).tobytes())
path = folder / "graph.nir"
nir.write(path, nir.NIRGraph({"a": nir.Linear(np.ones((1, 1)))}, [], type_check=False))
with h5py.File(path, "a") as file:
    del file["node/nodes/a/weight"]
    file["node/nodes/a"].create_dataset("weight", (1, 1), "f8", external=[(str(folder / "secret"), 0, 8)])
print("expected:", "an error")
print("got:", nir.read(path, type_check=False).nodes["a"].weight.tolist())
