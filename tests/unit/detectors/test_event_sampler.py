"""The encoder of event detectors: against one pixel at a time, its gradients, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from zoo.detectors.eas_snn.sampler import AdaptiveSampler
from zoo.detectors.encoder import FixedWindows
from zoo.errors import ConfigError, InvalidInputError


def sampler(**settings: Any) -> AdaptiveSampler:
    torch.manual_seed(0)
    made = AdaptiveSampler(**settings).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0, 0.25)
    return made


def slices(tm: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.full((tm, 16, 2, 6, 7), 0.5), generator=generator).double()


@torch.no_grad()
def pixel_by_pixel(made: AdaptiveSampler, given: Tensor) -> Tensor:
    """The definition, with branches: each pixel writes what it gathered into its next free frame when it fires."""
    frames = torch.zeros(made.ts, *given.shape[1:], dtype=given.dtype)
    spikes = torch.zeros_like(given[0])
    potential, gathered = torch.zeros_like(spikes), torch.zeros_like(spikes)
    slot = torch.zeros(spikes.shape, dtype=torch.int64)
    for events in reversed(list(given)):
        both = made.input_net(events) + made.gate_net(spikes)
        gate, charge = both[:, :2], both[:, 2:]
        potential = torch.sigmoid(gate) * potential + charge
        gathered = gathered + potential
        spikes = torch.zeros_like(spikes)
        for place in (potential > 1).nonzero().tolist():
            where = tuple(place)
            spikes[where] = 1
            if slot[where] < made.ts:
                frames[(int(slot[where]), *where)] = gathered[where]
            slot[where] += 1
            potential[where] = 0
            gathered[where] = 0
    if not made.rpd:
        for place in (slot < made.ts).nonzero().tolist():
            where = tuple(place)
            frames[(int(slot[where]), *where)] += gathered[where]
    return frames


@pytest.mark.parametrize("rpd", [True, False])
@pytest.mark.parametrize(("tm", "ts"), [(1, 1), (4, 1), (4, 3), (16, 3), (16, 16)])
def test_no_branches_and_the_same_frames(tm: int, ts: int, rpd: bool) -> None:
    made = sampler(tm=tm, ts=ts, rpd=rpd)
    frames, spikes = made.sample(slices(tm))
    torch.testing.assert_close(frames, pixel_by_pixel(made, slices(tm)), rtol=1e-12, atol=1e-12)
    assert spikes.shape == (tm, 16, 2, 6, 7)
    assert 0.05 < float(spikes.detach().mean()) < 0.5


def test_spike_aware_training_changes_gradients_and_no_value() -> None:
    with_sat, without = sampler(ts=2), sampler(ts=2, sat=False)
    frames, others = with_sat(slices(4)), without(slices(4))
    assert torch.equal(frames, others)
    for output in (frames, others):
        output.square().sum().backward()
    gradients = [[p.grad for p in made.parameters()] for made in (with_sat, without)]
    assert all(gradient is not None and gradient.isfinite().all() for group in gradients for gradient in group)
    assert any(not torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_silence_gives_empty_frames_and_the_order_of_slices_matters() -> None:
    made = sampler(ts=2)
    for parameter in made.parameters():
        if parameter.dim() == 1:
            torch.nn.init.zeros_(parameter)
    assert not made(torch.zeros(4, 1, 2, 6, 7).double()).any()
    assert not torch.equal(made(slices(4)), made(slices(4).flip(0)))


def test_fixed_windows_sum_neighbouring_slices() -> None:
    given = slices(4)
    assert torch.equal(FixedWindows(tm=4, ts=1)(given)[0], given.sum(0))
    assert torch.equal(FixedWindows(tm=4, ts=2)(given), torch.stack([given[:2].sum(0), given[2:].sum(0)]))
    with pytest.raises(InvalidInputError, match="tm that is a multiple of ts"):
        FixedWindows(tm=4, ts=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            torch.zeros(3, 1, 2, 8, 8),
            r"expected micro-slices \(Tm=4, B, 2, H, W\), oldest first, got \(3, 1, 2, 8, 8\)",
        ),
        (torch.zeros(4, 1, 3, 8, 8), "expected micro-slices"),
        (torch.zeros(1, 3, 8, 8), "expected micro-slices"),
        (torch.zeros(4, 0, 2, 8, 8), "expected micro-slices"),
        (torch.zeros(4, 1, 2, 8, 8, dtype=torch.int64), "floating point"),
    ],
)
def test_what_is_no_stack_of_slices_is_refused(given: Tensor, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        AdaptiveSampler()(given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ts": 2}, "one for each of the T = 3 steps, not ts = 2"),
        ({"ts": 5}, "1 to tm = 4 frames"),
        ({"ts": 0}, "1 to tm = 4 frames"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"depth": 0}, "depth at least 1"),
        ({"sampler": "random"}, "sampler must be 'adaptive' or 'fixed'"),
        ({"spiking": "some"}, "spiking must be one of backbone, backbone"),
        ({"tm": 0}, "micro_slices"),
        ({"levels": 2}, "levels must be 1"),
        ({"window": 3}, "takes no argument window"),
    ],
)
def test_detectors_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zoo.create("eas-snn-pico", num_classes=2, **settings)
