"""Learning rate and averaged weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.training.schedule import AveragedModel, cosine_factor


def test_warm_up_then_cosine() -> None:
    factors = [cosine_factor(step, steps=110, warmup_steps=10, final=0.1) for step in range(110)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert factors[10] == 1
    assert factors[60] == pytest.approx(0.55)  # half-way between peak and end
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert cosine_factor(500, steps=110, warmup_steps=10, final=0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(("steps", "warmup_steps"), [(1, 0), (5, 100), (100, 100)])
def test_short_runs_stay_within_bounds(steps: int, warmup_steps: int) -> None:
    factors = [cosine_factor(step, steps=steps, warmup_steps=warmup_steps, final=0.01) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)


def test_average_forgets_the_start_and_then_follows_slowly() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(model[0].weight, 100.0)  # type: ignore[arg-type]
    averaged = AveragedModel(model, decay=0.9)
    nn.init.constant_(model[0].weight, 1.0)  # type: ignore[arg-type]
    averaged.update(model)
    # first decay (1 + 0) / (10 + 0)
    assert averaged.model[0].weight.item() == pytest.approx(0.1 * 100 + 0.9 * 1)  # type: ignore[index]
    expected = 10.9
    for n in range(1, 200):
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * 1
        averaged.update(model)
    assert averaged.model[0].weight.item() == pytest.approx(expected, rel=1e-5)  # type: ignore[index]


def test_average_includes_statistics_and_copies_counters() -> None:
    model = nn.BatchNorm1d(2)
    averaged = AveragedModel(model, decay=0.5)
    model(torch.tensor([[1.0, 2], [3, 4]]))
    averaged.update(model)
    state, own = model.state_dict(), averaged.model.state_dict()
    assert own["num_batches_tracked"] == 1
    torch.testing.assert_close(own["running_mean"], 0.9 * state["running_mean"])
    assert not averaged.model.training
    assert not any(parameter.requires_grad for parameter in averaged.model.parameters())
