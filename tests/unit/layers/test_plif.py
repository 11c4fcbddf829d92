"""The parametric LIF neuron: its equations, its gradients, and its NIR form on every backend at ties with the threshold."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.adapters.base import get_backend
from zoo.errors import ExportError, InvalidInputError
from zoo.layers.neurons import PLIF
from zoo.layers.surrogates import arctan
from zoo.nir_graphs import reference
from zoo.nir_graphs.export import export_module

STEPS, BATCH, SHAPE = 24, 16, (3, 2, 4)


def grid(steps: int = STEPS) -> Tensor:
    """Folded multiples of 1/8: with a decay of a half, potentials hit the threshold exactly."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-6, 9, (steps * BATCH, *SHAPE), generator=generator).double() / 8


def by_hand(x: Tensor, decay: float, steps: int) -> tuple[Tensor, int]:
    """The docstring's equations in Python floats; also how often the potential is exactly 1."""
    sequences = x.unflatten(0, (steps, -1)).flatten(1)
    out, ties = torch.zeros_like(sequences), 0
    for neuron in range(sequences.shape[1]):
        left = 0.0
        for step in range(steps):
            u = decay * left + float(sequences[step, neuron])
            fired = u >= 1
            ties += u == 1
            out[step, neuron] = fired
            left = u - fired
    return out.view(x.shape), ties


@pytest.mark.parametrize("decay", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_it_follows_its_equations(steps: int, decay: float) -> None:
    x = grid(steps)
    expected, ties = by_hand(x, decay, steps)
    assert ties > 3
    assert 0.05 < float(expected.mean()) < 0.5
    neuron = PLIF(time_steps=steps, decay=decay).double()
    neuron.w.data = torch.tensor((1 - decay) / decay, dtype=torch.float64).log()
    assert neuron.decay == pytest.approx(decay, abs=1e-15)
    assert torch.equal(neuron(x).detach(), expected)
    neuron.freeze(torch.float64)
    assert torch.equal(neuron(x), expected)


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly", "sinabs", "jax", "brian2"])
def test_its_nir_form_has_the_same_spikes_on_every_backend(backend: str) -> None:
    neuron = PLIF(time_steps=STEPS).double()
    neuron.w.data.fill_(0.3)  # a decay that is no short binary number
    neuron.freeze(torch.float64)
    graph = export_module(neuron, SHAPE)
    x = grid()
    frames = x.unflatten(0, (STEPS, -1))
    expected = neuron(x).unflatten(0, (STEPS, -1)).numpy()
    judge = reference.run(graph, frames.numpy(), record="neurons")
    np.testing.assert_array_equal(judge.outputs["output_0"], expected)
    found = get_backend(backend).build(graph, dtype=torch.float64)(frames)
    np.testing.assert_array_equal(found["output_0"].numpy(), expected)


def test_a_lif_with_hard_reset_is_another_neuron() -> None:
    """What an importer does that takes any leaky neuron for ``nir.LIF``: tau and r = 2 match the leak, not the reset."""
    shape = np.ones(SHAPE)
    lif = nir.LIF(
        tau=2 * shape, r=2 * shape, v_leak=0 * shape, v_threshold=np.nextafter(1, 0) * shape, v_reset=0 * shape
    )
    nodes = {"input": nir.Input(np.array(SHAPE)), "lif": lif, "output": nir.Output(np.array(SHAPE))}
    graph = nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")])
    x = 2 * grid()
    found = reference.run(graph, x.unflatten(0, (STEPS, -1)).numpy(), dt=1.0).outputs["output"]
    expected, _ = by_hand(x, 0.5, STEPS)
    assert (found != expected.unflatten(0, (STEPS, -1)).numpy()).mean() > 0.02


def test_the_decay_and_the_reset_have_gradients() -> None:
    torch.manual_seed(0)
    neuron = PLIF(time_steps=4)
    x = torch.randn(32, 3, 2, 2, requires_grad=True)
    (neuron(x) * torch.randn(32, 3, 2, 2)).sum().backward()
    assert neuron.w.grad is not None
    assert float(neuron.w.grad.abs()) > 0
    assert x.grad is not None
    assert bool((x.grad != 0).all())


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_the_surrogate_is_the_derivative_of_an_arcus_tangent(alpha: float) -> None:
    x = torch.linspace(-3, 3, 41, dtype=torch.float64, requires_grad=True)
    z = arctan(alpha)(x)
    assert torch.equal(z.detach(), (x >= 0).double())
    z.sum().backward()
    smooth = x.detach().clone().requires_grad_()
    (torch.atan(torch.pi / 2 * alpha * smooth) / torch.pi + 0.5).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, smooth.grad)


def test_while_it_learns_it_is_not_exported() -> None:
    with pytest.raises(ExportError, match=r"decay is still learned.*fuse\(\)"):
        export_module(PLIF(time_steps=2), SHAPE)
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        PLIF(time_steps=2, decay=1.0)
