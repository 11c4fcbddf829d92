"""What every backend offers, and the list of backends.

A backend takes a NIR graph, says what in it it cannot run exactly, or builds a runnable form. It never approximates: what
cannot be exact is refused, naming the node.
"""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from zoo.errors import InvalidInputError, MissingFrameworkError

if TYPE_CHECKING:
    from zoo.nir_graphs.fields import Note
    from zoo.nir_graphs.graph import FlatGraph
    from zoo.nir_graphs.normalise import Graph
    from zoo.nir_graphs.reference import Record, Trace

BACKENDS = {
    "reference": "numpy",
    "snntorch": "snntorch",
    "norse": "norse",
    "spikingjelly": "spikingjelly",
    "sinabs": "sinabs",
    "jax": "spyx",
    "brian2": "brian2",
}
"""Backend names, with the Python module that each needs."""
INSTALL = {
    "sinabs": "pip install pbr && pip install --no-deps sinabs (it pins an old nir, so it is no extra of nir-zoo)"
}
"""How to install a framework that pip cannot resolve together with the others."""


class Runnable(Protocol):
    """A graph in a form that runs.

    Attributes:
        graph: what it runs, normalised.
        dtype: in which it computes.
    """

    graph: FlatGraph
    dtype: torch.dtype

    @property
    def own_cells(self) -> tuple[int, int]:
        """(neuron nodes that run on the framework's own cells, all neuron nodes).

        Neurons are LIF, IF, LI, I, CubaLIF and CubaLI. A Threshold has no memory: no framework has a cell for it, and it counts
        in neither.
        """
        ...

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was changed or assumed when the graph was normalised, one sentence each."""
        ...

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Input (T, B, ...), or one per Input node -> outputs (T, B, ...) by Output node, from rest."""
        ...

    def run(self, x: Tensor | Mapping[str, Tensor], record: Record = "none") -> Trace:
        """The same with spikes and potentials of the recorded nodes, all as numpy arrays."""
        ...


class Backend(Protocol):
    """A framework that runs NIR graphs.

    Attributes:
        name: as users write it.
    """

    name: str

    def check(self, graph: Graph, *, dt: float | None = None) -> list[str]:
        """Why this backend cannot run the graph exactly, one sentence per node in the way; empty if it can.

        Raises:
            InvalidGraphError, InvalidInputError: the graph is malformed or lacks dt; see
                :func:`~zoo.nir_graphs.normalise.normalise`.
        """
        ...

    def build(
        self,
        graph: Graph,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        dt: float | None = None,
        fuse: bool = True,
    ) -> Runnable:
        """The runnable form.

        What it computes is fixed here: constants are rounded once, from the numbers that the graph stores.

        Args:
            graph: any NIR graph; it is normalised first, and a ``FlatGraph`` is used as it is.
            dtype: in which to compute.
            device: torch device.
            dt: length of a step in the graph's unit of time; by default what its metadata says.
            fuse: use fused kernels, which give the very same bits; ``False`` runs node by node.

        Raises:
            UnsupportedGraphError: see :meth:`check`.
            InvalidGraphError, InvalidInputError: the graph is malformed or lacks dt; see
                :func:`~zoo.nir_graphs.normalise.normalise`.
        """
        ...


def get_backend(name: str) -> Backend:
    """A backend by name.

    Raises:
        InvalidInputError: there is no such backend; names close ones.
        MissingFrameworkError: its framework is not installed; names the extra.
    """
    if name not in BACKENDS:
        close = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(BACKENDS)}"
        raise InvalidInputError(f"there is no backend {name!r}; {hint}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of frameworks, on the libraries that they use
            importlib.import_module(BACKENDS[name])
            backend: Backend = importlib.import_module(f"zoo.adapters.{name}").BACKEND
    except (
        ImportError,
        AttributeError,
        OSError,
        RuntimeError,
    ) as error:  # versions that do not go together raise anything
        if isinstance(error, ImportError) and (error.name or "").split(".")[0] == "zoo":
            raise  # a fault of ours
        raise MissingFrameworkError(
            f"the backend {name!r} needs the package {BACKENDS[name]!r}, which cannot be imported ({error}): "
            + INSTALL.get(name, f"pip install 'nir-zoo[{name}]'")
        ) from error
    return backend
