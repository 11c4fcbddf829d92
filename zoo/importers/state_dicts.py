"""State dicts that must fit a network exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import CheckpointError


def load_strictly(network: torch.nn.Module, state: dict[str, Tensor], arch: str, num_classes: int) -> None:
    """Load weights, all of them and nothing else, and take over their type.

    Raises:
        CheckpointError: missing, unexpected or misshapen weights, or types that are no floating point numbers.
    """
    expected = network.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(state) - counters)
    unexpected = sorted(set(state) - set(expected))
    shaped = [
        f"{key} has the shape {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if missing or unexpected or shaped:
        problems = [f"{len(missing)} weights are missing ({', '.join(missing[:3])}, ...)"] if missing else []
        problems += [f"{len(unexpected)} are unknown ({', '.join(unexpected[:3])}, ...)"] if unexpected else []
        problems += [f"{len(shaped)} have other shapes ({'; '.join(shaped[:3])})"] if shaped else []
        raise CheckpointError(
            f"the checkpoint does not fit {arch} with {num_classes} classes: {'; '.join(problems)}. Is it of another size, or "
            "does it have another number of classes?"
        )
    dtypes = {value.dtype for key, value in state.items() if key not in counters}
    if not all(dtype.is_floating_point for dtype in dtypes):
        raise CheckpointError("the checkpoint holds weights that are not floating point numbers")
    widest = torch.float64 if torch.float64 in dtypes else torch.float32
    network.to(widest)
    network.load_state_dict({**{key: expected[key] for key in counters}, **state})
