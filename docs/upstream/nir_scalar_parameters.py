"""Parameters that are arrays without axes cannot be written with the default compression.

HDF5 cannot compress a scalar; `nir.write` passes `compression="gzip"` for every array.
"""

import tempfile
from pathlib import Path

import nir
import numpy as np

path = Path(tempfile.mkdtemp()) / "graph.nir"
print("expected:", "written")
try:
    nir.write(path, nir.NIRGraph({"scale": nir.Scale(np.array(2.0))}, [], type_check=False))
    print("got:", "written")
except TypeError as error:
    print("got:", f"TypeError: {error}")
