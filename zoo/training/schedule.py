"""Learning rate over the steps, and averaged weights: both from torch, with the numbers of this loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.optim.swa_utils import AveragedModel


def make_schedule(optimizer: Optimizer, *, steps: int, warmup_steps: int, final: float) -> SequentialLR:
    """Linear rise to the optimiser's learning rate in ``warmup_steps``, then a cosine down to the share ``final`` of it.

    Source of the cosine: Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, without restarts.
    """
    peak = optimizer.param_groups[0]["lr"]
    parts: list[LRScheduler] = []
    if warmup_steps > 0:
        parts.append(LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=max(1, warmup_steps - 1)))
    parts.append(CosineAnnealingLR(optimizer, T_max=max(1, steps - warmup_steps), eta_min=peak * final))
    return SequentialLR(optimizer, parts, milestones=[warmup_steps][: len(parts) - 1])


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a model's parameters and statistics, in eval mode.

    The decay rises over the first updates, so that the random start is soon forgotten: min(decay, (1 + n) / (10 + n)) after
    n updates. Whole numbers, such as counters, are copied.
    """

    def blend(averaged: Sequence[Tensor], present: Sequence[Tensor], updates: Tensor | int) -> None:
        now = min(decay, (1 + int(updates)) / (10 + int(updates)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(list(averaged), list(present), 1 - now)
        else:
            torch._foreach_copy_(list(averaged), list(present))

    average = AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
    average.eval().requires_grad_(False)
    return average
