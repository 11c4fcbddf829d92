"""Learning rate in steps, and averaged weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


def cosine_factor(step: int, *, steps: int, warmup_steps: int, final: float) -> float:
    """Factor on the peak learning rate at ``step`` (0-based): linear warm-up, then a cosine down to ``final``.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, without restarts.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class AveragedModel:
    """Exponential moving average of a model's parameters and statistics.

    The decay rises from 0.1 to its final value over the first steps, so that the random start is soon forgotten:
    decay(n) = min(decay, (1 + n) / (10 + n)).

    Args:
        model: the model to follow.
        decay: final decay per step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for averaged, present in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if averaged.is_floating_point():
                averaged.lerp_(present, 1 - decay)
            else:
                averaged.copy_(present)
