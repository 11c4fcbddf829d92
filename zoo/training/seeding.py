"""Every source of randomness and of different rounding, fixed in one place."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seed Python, numpy and torch and fix the number of CPU threads; the caller's state comes back afterwards.

    The number of threads decides how sums are split, and with it the last bit of every weight.
    """
    state, threads_before = random_state(), torch.get_num_threads()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 data sets of users may still draw from the global generator
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        restore_random_state(state)


def random_state() -> dict[str, Any]:
    """State of the three global generators, of types that ``torch.load(weights_only=True)`` accepts."""
    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Undo what happened since :func:`random_state`."""
    random.setstate(state["python"])
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
