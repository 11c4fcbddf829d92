"""What both forms have in common: devices, types, and the card."""

from __future__ import annotations

import torch

from zoo.cards.card import Card
from zoo.errors import InvalidInputError
from zoo.hub import bundle
from zoo.hub.sources import Source


def card_of(source: Source) -> Card | None:
    """The card of a model folder, if it has one."""
    listed = bundle.CARD in bundle.read_manifest(source.directory).files
    return bundle.read_card_of(source.directory) if listed else None


def dtype_of(dtype: str | torch.dtype) -> torch.dtype:
    """A type by name.

    Raises:
        InvalidInputError: neither float32 nor float64.
    """
    known = {"float32": torch.float32, "float64": torch.float64}
    found = known.get(dtype) if isinstance(dtype, str) else dtype
    if found not in known.values() or found is None:
        raise InvalidInputError(f"dtype must be one of {', '.join(known)}, got {dtype!r}")
    return found


def check_device(device: str) -> None:
    """Refuse a device that cannot be used.

    Raises:
        InvalidInputError: there is no such device here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"device {device!r} cannot be used here: {reason}") from None
