"""Learning rate and averaged weights: torch's own, with the numbers that the formulas say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from zoo.training.schedule import make_average, make_schedule

PEAK = 0.25


def rates(steps: int, warmup_steps: int, final: float, *, interrupted_at: int | None = None) -> list[float]:
    """The learning rate of each step; at one of them everything goes through a state dict."""

    def made() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.SequentialLR]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
        return optimizer, make_schedule(optimizer, steps=steps, warmup_steps=warmup_steps, final=final)

    optimizer, schedule = made()
    found = []
    for step in range(steps):
        if step == interrupted_at:
            states = optimizer.state_dict(), schedule.state_dict()
            optimizer, schedule = made()
            optimizer.load_state_dict(states[0])
            schedule.load_state_dict(states[1])
        found.append(optimizer.param_groups[0]["lr"])
        assert schedule.get_last_lr() == found[-1:]
        optimizer.step()
        schedule.step()
    return found


def formula(step: int, steps: int, warmup_steps: int, final: float) -> float:
    if step < warmup_steps:
        return PEAK * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return PEAK * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


@pytest.mark.parametrize(
    ("steps", "warmup_steps"), [(110, 10), (1, 0), (1, 1), (7, 1), (7, 2), (50, 0), (5, 100), (100, 100), (101, 100)]
)
def test_linear_rise_then_cosine(steps: int, warmup_steps: int) -> None:
    expected = [formula(step, steps, warmup_steps, 0.1) for step in range(steps)]
    assert rates(steps, warmup_steps, 0.1) == pytest.approx(expected, rel=1e-12)


def test_the_rise_ends_at_the_peak_and_the_cosine_half_way_down_and_at_its_end() -> None:
    found = rates(110, 10, 0.1)
    assert found[0] == pytest.approx(0.1 * PEAK)
    assert found[9] == pytest.approx(PEAK)
    assert found[10] == pytest.approx(PEAK)
    assert found[60] == pytest.approx(0.55 * PEAK)
    assert found[-1] == pytest.approx(0.1 * PEAK, rel=1e-2)


@pytest.mark.parametrize("step", [1, 9, 10, 11, 60])
def test_an_interrupted_schedule_goes_on_bit_by_bit(step: int) -> None:
    assert rates(110, 10, 0.1, interrupted_at=step) == rates(110, 10, 0.1)


def test_average_begins_with_the_first_update_and_then_follows_slowly() -> None:
    model = nn.Linear(1, 1, bias=False)
    averaged = make_average(model, decay=0.9)
    (weight,) = averaged.module.parameters()
    nn.init.constant_(model.weight, 100.0)
    averaged.update_parameters(model)
    assert weight.item() == 100
    nn.init.constant_(model.weight, 1.0)
    expected = 100.0
    for n in range(1, 200):
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * 1
        averaged.update_parameters(model)
        assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_average_includes_statistics_and_copies_counters() -> None:
    model = nn.BatchNorm2d(2)
    averaged = make_average(model, decay=0.5)
    means = []
    for offset in (0.0, 10.0):
        model(torch.arange(16.0).view(2, 2, 2, 2) + offset)
        averaged.update_parameters(model)
        assert model.running_mean is not None
        means.append(model.running_mean.clone())
    decay = 2 / 11  # (1 + 1) / (10 + 1), still below 0.5
    torch.testing.assert_close(averaged.module.running_mean, decay * means[0] + (1 - decay) * means[1])
    assert averaged.module.num_batches_tracked == 2
    assert not averaged.module.training
    assert not any(parameter.requires_grad for parameter in averaged.parameters())


def test_an_average_goes_through_a_state_dict() -> None:
    model = nn.BatchNorm2d(2)
    averaged, again = make_average(model, decay=0.9), make_average(model, decay=0.9)
    for _ in range(3):
        model(torch.rand(2, 2, 2, 2))
        averaged.update_parameters(model)
    again.load_state_dict(averaged.state_dict())
    assert again.n_averaged == 3
    model(torch.rand(2, 2, 2, 2))
    for average in (averaged, again):
        average.update_parameters(model)
    for one, other in zip(averaged.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
