"""Importing the authors' checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.detectors.base import Detector
from zoo.detectors.registry import create
from zoo.errors import CheckpointError, InvalidInputError, UnknownModelError
from zoo.importers import eas_snn, ems_yolo, spikeyolo, spiking_yolo, spikingyolox
from zoo.importers.pickles import read_checkpoint

__all__ = ["OFFICIAL", "import_official", "read_checkpoint"]
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
