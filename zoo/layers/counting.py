"""How many of several thresholds a number exceeds, in one operation where that is exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def evenly_spaced(thresholds: Sequence[Tensor], dtype: torch.dtype) -> Tensor | None:
    """The first of the thresholds t, t + 1, t + 2, ... if counting them is ``clamp(ceil(x - t), 0, D)`` exactly; else None.

    x - t is exact wherever its ceiling matters: for x <= t it is not positive however it is rounded; for t < x <= 2 t by
    Sterbenz' lemma; beyond, it is a multiple of the unit in the last place of x or of t, whichever is finer, and smaller than
    x, so it fits into the mantissa as long as D + t does in units of the lowest bit of t. The last is what is checked.

    Args:
        thresholds: one tensor per level, of one shape: a number, or one per channel.
        dtype: of the computation.
    """
    if not thresholds or len({threshold.shape for threshold in thresholds}) > 1:
        return None
    first = thresholds[0]
    if first.numel() > 4096 or not bool((first > 0).all()) or not bool(first.isfinite().all()):
        return None
    if any(not torch.equal(threshold, first + index) for index, threshold in enumerate(thresholds)):
        return None
    largest = 1 / torch.finfo(dtype).eps
    lasts = thresholds[-1].flatten().tolist()
    fits = all(
        (last + 1) * t.as_integer_ratio()[1] < largest for t, last in zip(first.flatten().tolist(), lasts, strict=True)
    )
    return first if fits else None


def count_exceeded(x: Tensor, thresholds: Sequence[Tensor], first: Tensor | None) -> Tensor:
    """Number of thresholds below x, in the type of x.

    Args:
        x: any shape.
        thresholds: each broadcasts to x.
        first: of :func:`evenly_spaced` for these thresholds.
    """
    if len(thresholds) == 1:
        return (x > thresholds[0]).to(x.dtype)
    if first is not None:
        return x.sub(first).ceil_().clamp_(0, len(thresholds))
    count = torch.zeros_like(x)
    for threshold in thresholds:
        count += x > threshold
    return count
