"""I-LIF: firing rule, soft reset, surrogate gradient, and what it must not inherit from snnTorch."""

from __future__ import annotations

import copy

import pytest
import snntorch
import torch
from torch import Tensor

from zoo.errors import InvalidInputError
from zoo.layers.neurons import ILIF


def grid_input(*shape: int, seed: int = 0) -> Tensor:
    """Multiples of 1/8 in -1..9, so that potentials hit thresholds exactly."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 72, shape, generator=generator).double() / 8


def by_hand(x: Tensor, levels: int, decay: float) -> Tensor:
    """The equations of the docstring, element by element in Python floats. x: (T, N)."""
    out = torch.zeros_like(x)
    for neuron in range(x.shape[1]):
        u = s = 0.0
        for t in range(x.shape[0]):
            u = decay * (u - s) + x[t, neuron].item()
            s = float(sum(u > k - 0.5 for k in range(1, levels + 1)))
            out[t, neuron] = s
    return out


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
@pytest.mark.parametrize("time_steps", [1, 2, 16])
@pytest.mark.parametrize("decay", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("frozen", [False, True])
def test_equals_its_equations(levels: int, time_steps: int, decay: float, frozen: bool) -> None:
    neuron = ILIF(levels, time_steps=time_steps, decay=decay).double()
    if frozen:
        neuron.freeze(torch.float64)
    x = grid_input(time_steps, 16 * 6)
    spikes = neuron(x.view(time_steps * 16, 6)).view(time_steps, -1)
    assert torch.equal(spikes, by_hand(x, levels, decay))
    assert spikes.max() == levels


def test_ties_go_down_and_half_even_differs() -> None:
    ties = torch.tensor([0.5, 1.5, 2.5, 3.5], dtype=torch.float64)
    assert ILIF(4)(ties).tolist() == [0, 1, 2, 3]
    assert ILIF(4, rounding="half_even")(ties).tolist() == [0, 2, 2, 4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_freezing_keeps_half_even_decisions(dtype: torch.dtype) -> None:
    neuron = ILIF(4, rounding="half_even").to(dtype)
    ties = torch.tensor([0.5, 1.5, 2.5, 3.5], dtype=dtype)
    near = torch.cat(
        [ties, torch.nextafter(ties, ties + 1), torch.nextafter(ties, ties - 1), torch.linspace(-1, 6, 999).to(dtype)]
    )
    expected = neuron(near)
    neuron.freeze(dtype)
    assert torch.equal(neuron(near), expected)


def test_stored_thresholds_are_used_and_saved() -> None:
    neuron = ILIF(4)
    assert neuron.state_dict() == {}
    neuron.freeze(torch.float32)
    neuron.thresholds += 0.25
    assert neuron(torch.tensor([0.6, 0.76, 4.0])).tolist() == [0, 1, 4]
    twin = ILIF(4)
    twin.freeze(torch.float32)
    twin.load_state_dict(neuron.state_dict())
    assert torch.equal(twin.thresholds, neuron.thresholds)


def test_surrogate_gradient_is_a_rectangle() -> None:
    u = torch.tensor([-0.1, 0.0, 0.3, 2.0, 4.0, 4.1], requires_grad=True)
    ILIF(4)(u).sum().backward()
    assert u.grad is not None
    assert u.grad.tolist() == [0, 1, 1, 1, 1, 0]


def test_reset_is_detached_through_time() -> None:
    x = torch.tensor([[1.2], [0.7]], requires_grad=True)
    ILIF(4, time_steps=2, decay=0.25)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1.25, 1.0]  # a reset in the graph would give 1.0 at the first step


def test_no_state_outlives_a_call() -> None:
    neuron = ILIF(4, time_steps=4)
    x = grid_input(4 * 16, 3).float()
    assert torch.equal(neuron(x), neuron(x))


def test_snntorch_keeps_no_reference() -> None:
    before = len(snntorch.SpikingNeuron.instances)
    neurons = [ILIF(4) for _ in range(3)]
    copies = copy.deepcopy(neurons)
    assert isinstance(copies[0], snntorch.SpikingNeuron)
    assert len(snntorch.SpikingNeuron.instances) == before


@pytest.mark.parametrize(("levels", "time_steps"), [(0, 1), (4, 0)])
def test_refuses_impossible_numbers(levels: int, time_steps: int) -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        ILIF(levels, time_steps=time_steps)


def test_refuses_a_batch_that_is_no_multiple_of_time_steps() -> None:
    with pytest.raises(InvalidInputError, match="multiple of time_steps"):
        ILIF(4, time_steps=3)(torch.zeros(4, 1))
