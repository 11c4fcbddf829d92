"""Importing the authors' checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.detectors.building import from_config
from zoo.detectors.detector import Detector
from zoo.detectors.registry import describe, find, importable
from zoo.errors import InvalidInputError, UnknownModelError
from zoo.importers.pickles import read_checkpoint
from zoo.importers.state_dicts import load_strictly


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
        arch: for example ``spikeyolo-n`` or ``ems-yolo-resnet34-cat``.
        checkpoint: path of the authors' file (read without running code from it), or official keys -> tensors;
            ``num_batches_tracked`` may be absent.
        num_classes: classes of the checkpoint.
        time_steps: T it was trained with.
        levels: D; by default 4.
        class_names: by default ``class 0``, ...
        **variant: further arguments of the architecture.

    Returns:
        The unfused official form (quirks of the released code included), eval mode, in the checkpoint's type; half
        precision becomes float32.

    Raises:
        UnknownModelError: no official checkpoints of this architecture exist.
        FileMissingError, CorruptFileError: no such file, or a damaged one.
        CheckpointError: other keys or shapes than this architecture's, or code where data should be.
    """
    family, size = find(arch)
    official = family.official
    if official is None or size not in official.sizes:
        raise UnknownModelError(
            f"there are no official checkpoints of {arch!r} to import; importable: {', '.join(importable())}"
        )
    if official.is_ann and time_steps is not None:
        raise InvalidInputError(
            f"{arch} is an ANN before its conversion: it has no time steps, so pass time_steps=None"
        )
    if not official.is_ann and time_steps is None:
        raise InvalidInputError(
            f"{arch} is a spiking network: say how many time steps it was trained with (time_steps)"
        )
    state = dict(checkpoint) if isinstance(checkpoint, Mapping) else read_checkpoint(checkpoint)
    config = describe(
        arch,
        num_classes=num_classes,
        class_names=class_names,
        time_steps=time_steps,
        levels=levels,
        **{**official.variant, **official.variant_of(state), **variant},
    )
    decode = config.decode.model_copy(update=dict(official.decoding_of(state, size)))
    detector = from_config(config.model_copy(update={"decode": decode}))
    whole: torch.nn.Module = detector.network if detector.encoder is None else detector
    load_strictly(whole, official.convert(state, size), arch, num_classes)
    return detector.eval()
