"""The hard-reset LIF: its equations, its gradient, its NIR form."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.errors import InvalidInputError
from zoo.layers.neurons import LIF
from zoo.nir_graphs import metadata, reference
from zoo.nir_graphs.export import export_module

SHAPE = (3, 4, 5)


def grid_input(steps: int, seed: int = 0) -> Tensor:
    """Folded multiples of 1/8 in -1..3: potentials hit the threshold exactly. (T * 16, 3, 4, 5)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 24, (steps * 16, *SHAPE), generator=generator).double() / 8


def by_hand(x: Tensor, decay: float, threshold: float) -> Tensor:
    """The docstring's equations in Python floats; x (T, N)."""
    out = torch.zeros_like(x)
    k = 1 - decay
    for neuron in range(x.shape[1]):
        v = 0.0
        for t in range(x.shape[0]):
            v = v + k * ((0.0 - v) + x[t, neuron].item())
            out[t, neuron] = float(v > threshold)
            v = 0.0 if v > threshold else v
    return out


@pytest.mark.parametrize("steps", [1, 4, 16])
@pytest.mark.parametrize(("decay", "threshold"), [(0.5, 0.5), (0.25, 0.75), (0.0, 1.0), (0.9, 0.3)])
def test_equals_its_equations(steps: int, decay: float, threshold: float) -> None:
    neuron = LIF(time_steps=steps, decay=decay, threshold=threshold).double()
    neuron.thresholds = torch.tensor([threshold], dtype=torch.float64)
    x = grid_input(steps)
    spikes = neuron(x).view(steps, -1)
    assert torch.equal(spikes, by_hand(x.view(steps, -1), decay, threshold))
    assert (0.05 if steps > 1 else -1) < spikes.mean() < 0.9


def test_ties_do_not_fire() -> None:
    neuron = LIF(time_steps=1, decay=0.5, threshold=0.5).double()
    assert neuron(torch.tensor([[[[1.0, 1.125]]]], dtype=torch.float64)).flatten().tolist() == [0, 1]


def test_a_subtractive_reset_would_differ() -> None:
    x = grid_input(16)
    neuron = LIF(time_steps=16).double()
    v, soft = torch.zeros(16, *SHAPE, dtype=torch.float64), []
    for step in x.unflatten(0, (16, 16)):
        v = v + 0.5 * (step - v)
        soft.append((v > 0.5).double())
        v = v - 0.5 * soft[-1]
    assert (torch.cat(soft) != neuron(x)).double().mean() > 0.01


def test_gradient_is_that_of_a_rectangle_and_does_not_pass_the_reset() -> None:
    neuron = LIF(time_steps=2, decay=0.5, threshold=0.5).double()
    x = torch.tensor([1.2, 0.6], dtype=torch.float64).view(2, 1, 1, 1).requires_grad_()
    out = neuron(x)
    assert out.flatten().tolist() == [1, 0]
    out[1].sum().backward()
    assert x.grad is not None
    assert x.grad[0].item() == 0  # the first step fired: what was before is gone, and the reset has no gradient
    assert x.grad[1].item() > 0


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_impossible_decays_are_refused(decay: float) -> None:
    with pytest.raises(InvalidInputError, match="decay must lie in"):
        LIF(time_steps=2, decay=decay)


@pytest.mark.parametrize("steps", [1, 4, 16])
@pytest.mark.parametrize("decay", [0.5, 0.25, 0.9])
def test_its_nir_form_has_the_same_spikes(steps: int, decay: float) -> None:
    neuron = LIF(time_steps=steps, decay=decay, threshold=0.4).double()
    graph = export_module(neuron, SHAPE)
    (node,) = (node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    assert (np.asarray(node.r) == 1).all()
    assert not np.asarray(node.v_leak).any()
    assert not np.asarray(node.v_reset).any()
    assert 1 / np.asarray(node.tau).flat[0] == 1 - decay
    x = grid_input(steps)
    trace = reference.run(graph, x.unflatten(0, (steps, 16)).numpy(), record="neurons")
    ((segment,),) = metadata.get(graph).neurons.values()
    assert np.array_equal(trace.spikes[segment[0]], neuron(x).unflatten(0, (steps, 16)).numpy())
