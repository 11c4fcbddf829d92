"""Importing the authors' checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.detectors.detector import Detector
from zoo.detectors.eas_snn import importer as eas_snn
from zoo.detectors.ems_yolo import importer as ems_yolo
from zoo.detectors.registry import create
from zoo.detectors.spikeyolo import importer as spikeyolo
from zoo.detectors.spiking_yolo import importer as spiking_yolo
from zoo.detectors.spikingyolox import importer as spikingyolox
from zoo.errors import InvalidInputError, UnknownModelError
from zoo.importers.pickles import read_checkpoint
from zoo.importers.state_dicts import load_strictly

Convert = Callable[[dict[str, Tensor], str], dict[str, Tensor]]
OFFICIAL: dict[str, tuple[Convert, dict[str, Any]]] = {
    **{
        f"spikeyolo-{size}": (spikeyolo.convert, {"form": "official", "rounding": "half_even"})
        for size in spikeyolo.OFFICIAL_SIZES
    },
    **{f"ems-yolo-{size}": (ems_yolo.convert, {"form": "official"}) for size in ems_yolo.OFFICIAL_SIZES},
    **{f"spiking-yolo-{size}": (spiking_yolo.convert, {}) for size in spiking_yolo.OFFICIAL_SIZES},
    **{
        f"spikingyolox-{size}": (spikingyolox.convert, {"compat": "published-code"})
        for size in spikingyolox.OFFICIAL_SIZES
    },
    **{f"eas-snn-{size}": (eas_snn.convert, {"form": "official"}) for size in eas_snn.OFFICIAL_SIZES},
}
"""Architectures whose authors' checkpoints can be imported: how keys are renamed, and the arguments of the official form."""


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
        arch: a key of ``OFFICIAL``, for example ``spikeyolo-n`` or ``ems-yolo-resnet34-cat``.
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
    if arch not in OFFICIAL:
        raise UnknownModelError(
            f"there are no official checkpoints of {arch!r} to import; importable: {', '.join(OFFICIAL)}"
        )
    convert, defaults = OFFICIAL[arch]
    is_ann = arch.startswith("spiking-yolo-")
    if is_ann and time_steps is not None:
        raise InvalidInputError(
            f"{arch} is an ANN before its conversion: it has no time steps, so pass time_steps=None"
        )
    if not is_ann and time_steps is None:
        raise InvalidInputError(
            f"{arch} is a spiking network: say how many time steps it was trained with (time_steps)"
        )
    state = dict(checkpoint) if isinstance(checkpoint, Mapping) else read_checkpoint(checkpoint)
    if arch.startswith("eas-snn-"):
        defaults = defaults | eas_snn.variant_of(state)
    anchors = ems_yolo.anchors_of(state, arch) if arch.startswith("ems-yolo-") else None
    detector = create(
        arch,
        num_classes=num_classes,
        class_names=class_names,
        time_steps=time_steps,
        levels=levels,
        **{**defaults, **variant},
    )
    if anchors is not None:
        decode = detector.config.decode.model_copy(update={"anchors": anchors})
        detector.config = detector.config.model_copy(update={"decode": decode})
    whole: torch.nn.Module = detector.network if detector.encoder is None else detector
    load_strictly(whole, convert(state, arch.removeprefix("eas-snn-").partition("yolo-")[2]), arch, num_classes)
    return detector.eval()
