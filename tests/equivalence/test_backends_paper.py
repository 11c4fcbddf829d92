"""A file of the NIR paper, written by others: the recorded spikes are reproduced on every backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.adapters.base import get_backend
from zoo.nir_graphs import importing

PAPER = Path(zoo.__file__).parent / "equivalence" / "conformance" / "nir_paper"


@pytest.mark.parametrize("backend", ["reference", "snntorch", "norse", "spikingjelly", "sinabs", "jax", "brian2"])
def test_lif_norse_reproduces_the_recording(backend: str) -> None:
    x, potential, spikes = np.loadtxt(PAPER / "lif_norse.csv", delimiter=",").T
    graph = importing.prepare(PAPER / "lif_norse.nir", dt=1e-4)
    (neuron,) = (name for name, node in graph.nodes.items() if node.kind == "LIF")
    runnable = get_backend(backend).build(graph, dtype=torch.float64)
    trace = runnable.run(torch.from_numpy(x).view(-1, 1, 1), record=[neuron])
    assert spikes.sum() == 4
    np.testing.assert_array_equal(trace.spikes[neuron].ravel(), spikes)
    after = np.where(spikes > 0, 0, trace.potentials[neuron].ravel())  # the platform noted v after the reset
    np.testing.assert_allclose(after, potential, atol=3e-8)
    assert runnable.own_cells == (int(backend != "jax"), 1)  # spyx has no cell that fires as NIR does


def test_another_dt_does_not() -> None:
    x, _, spikes = np.loadtxt(PAPER / "lif_norse.csv", delimiter=",").T
    runnable = zoo.import_nir(PAPER / "lif_norse.nir", backend="norse", dt=1e-3)
    (output,) = runnable(torch.from_numpy(x).view(-1, 1, 1)).values()
    assert (output.detach().numpy().ravel() != spikes).any()
