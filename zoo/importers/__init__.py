"""Importing the authors' checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.detectors.base import Detector
from zoo.detectors.registry import create
from zoo.errors import CheckpointError, UnknownModelError
from zoo.importers import spikeyolo
from zoo.importers.pickles import read_checkpoint

__all__ = ["import_official", "read_checkpoint"]


def import_official(
    arch: str,
    checkpoint: str | Path | Mapping[str, Tensor],
    *,
    num_classes: int,
    time_steps: int | None,
    levels: int | None = None,
    class_names: Sequence[str] | None = None,
    **variant: Any,
) -> Detector:
    """A detector in the authors' own form, with the authors' weights.

    Args:
        arch: ``spikeyolo-n``, ``-s``, ``-m`` or ``-l``.
        checkpoint: path of the authors' file (read without running code from it), or official keys -> tensors;
            ``num_batches_tracked`` may be absent.
        num_classes: classes of the checkpoint.
        time_steps: T it was trained with.
        levels: D; by default 4.
        class_names: by default ``class 0``, ...
        **variant: further arguments of the architecture.

    Returns:
        The unfused official form (half-even rounding, pooling of real values), eval mode, in the checkpoint's type; half
        precision becomes float32.

    Raises:
        UnknownModelError: no official checkpoints of this architecture exist.
        FileMissingError, CorruptFileError: no such file, or a damaged one.
        CheckpointError: other keys or shapes than this architecture's, or code where data should be.
    """
    family, _, size = arch.rpartition("-")
    if family != "spikeyolo" or size not in spikeyolo.OFFICIAL_SIZES:
        known = ", ".join(f"spikeyolo-{name}" for name in spikeyolo.OFFICIAL_SIZES)
        raise UnknownModelError(f"there are no official checkpoints of {arch!r} to import; importable: {known}")
    state = dict(checkpoint) if isinstance(checkpoint, Mapping) else read_checkpoint(checkpoint)
    detector = create(
        arch,
        num_classes=num_classes,
        class_names=class_names,
        time_steps=time_steps,
        levels=levels,
        **{"form": "official", "rounding": "half_even", **variant},
    )
    load_strictly(detector.network, spikeyolo.convert(state, size), arch, num_classes)
    return detector.eval()


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
