"""Random graphs over every node type: backends against the reference, and fused against node-wise execution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.equivalence.graphs import random_graph
from zoo.adapters.base import get_backend
from zoo.nir_graphs import reference

STEPS, BATCH = 16, 16
TORCH_BACKENDS = ("snntorch", "norse", "spikingjelly", "sinabs")
BACKENDS = (*TORCH_BACKENDS, "jax", "brian2")


def frames(seed: int, *, dyadic: bool) -> Tensor:
    """Inputs (T, B, 2, 7, 6) of all signs, on a grid of quarters where dyadic."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((STEPS, BATCH, 2, 7, 6), generator=generator, dtype=torch.float64) * 0.8 + 0.4
    return (x * 4).round() / 4 if dyadic else x


@pytest.mark.parametrize("dyadic", [False, True], ids=["random", "dyadic"])
@pytest.mark.parametrize("seed", range(6))
def test_float64_spikes_are_those_of_the_reference(seed: int, dyadic: bool) -> None:
    graph, x = random_graph(seed, dyadic=dyadic), frames(seed, dyadic=dyadic)
    expected = reference.run(graph, x.numpy(), record="all")
    rates = [spikes.mean() for spikes in expected.spikes.values()]
    assert 0.05 < np.mean(rates) < 0.6
    assert sum(0.02 < rate < 0.9 for rate in rates) > len(rates) / 2
    for name in BACKENDS:
        trace = get_backend(name).build(graph, dtype=torch.float64).run(x, record="all")
        assert trace.spikes.keys() == expected.spikes.keys()
        assert trace.potentials.keys() == expected.potentials.keys()
        for node, spikes in expected.spikes.items():
            np.testing.assert_array_equal(trace.spikes[node], spikes, err_msg=f"{name}: {node}")
        for node, potential in expected.potentials.items():
            np.testing.assert_allclose(trace.potentials[node], potential, rtol=1e-9, atol=1e-9, err_msg=node)
        for node, output in expected.outputs.items():
            np.testing.assert_allclose(trace.outputs[node], output, rtol=1e-9, atol=1e-9, err_msg=node)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("seed", range(4))
def test_fused_execution_has_the_bits_of_node_wise_execution(seed: int, dtype: torch.dtype) -> None:
    graph, x = random_graph(seed), frames(seed, dyadic=False)[:8, :4]
    everything = list(graph.nodes)
    traces = [
        get_backend(name).build(graph, dtype=dtype, fuse=fuse).run(x, record=record)
        for name in TORCH_BACKENDS
        for fuse in (True, False)
        for record in ("all", everything)
    ]
    for trace in traces[1:]:
        for node, output in traces[0].outputs.items():
            np.testing.assert_array_equal(trace.outputs[node], output, err_msg=node)
        for node, spikes in traces[0].spikes.items():
            np.testing.assert_array_equal(trace.spikes[node], spikes, err_msg=node)
        for node, potential in traces[0].potentials.items():
            np.testing.assert_array_equal(trace.potentials[node], potential, err_msg=node)
    complete = reference.run(graph, x.numpy(), record=everything)
    assert set(complete.potentials) == set(everything)
    for trace in traces[1::2]:
        assert trace.potentials.keys() == complete.potentials.keys()
        assert trace.spikes.keys() == complete.spikes.keys()


def test_results_do_not_depend_on_how_often_or_in_what_company_a_graph_runs() -> None:
    graph, x = random_graph(7), frames(7, dyadic=False)
    runnable = get_backend("norse").build(graph, dtype=torch.float64)
    first, again, alone = runnable(x), runnable(x), runnable(x[:, 3:4])
    for node, output in first.items():
        assert torch.equal(output, again[node])  # no state is left over
        torch.testing.assert_close(output[:, 3:4], alone[node], rtol=1e-12, atol=1e-12)
