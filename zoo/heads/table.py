"""The table of heads: how raw head maps of each kind become boxes, and the loss that trains them.

A head is one file of this room: its module, its decoding, its loss, and one entry of ``HEADS``, made by :func:`register`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from zoo.config import DecodeSpec
from zoo.errors import ConfigError
from zoo.heads.boxes import Targets
from zoo.support.discovery import import_all


class Loss(Protocol):
    """What training minimises."""

    def __call__(self, raw: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Raw head maps (B, channels, H/s, W/s), finest first, and objects -> weighted parts by name, each a scalar."""
        ...


@dataclass(frozen=True)
class Head:
    """One kind of head.

    Attributes:
        kind: ``DecodeSpec.kind`` in a configuration.
        decode: (raw head maps, spec, number of classes) -> boxes and scores (B, 4 + classes, A): cx, cy, w, h in input pixels,
            then class scores in 0..1.
        loss: called as ``loss(spec, number of classes, **gains)``.
        gains: names of the weights of the loss's parts that a training configuration may set.
        has_anchors: whether the configuration lists anchors.
    """

    kind: str
    decode: Callable[[Sequence[Tensor], DecodeSpec, int], Tensor]
    loss: Callable[..., Loss]
    gains: frozenset[str]
    has_anchors: bool = False


HEADS: dict[str, Head] = {}
"""Every head by kind; complete once :func:`head_of` was called."""


def register(head: Head) -> Head:
    """Add a head to the table."""
    if head.kind in HEADS:
        raise ValueError(f"two heads are of the kind {head.kind!r}")
    HEADS[head.kind] = head
    return head


def head_of(spec: DecodeSpec) -> Head:
    """The head that a configuration names.

    Raises:
        ConfigError: there is no such kind, or it has anchors and the configuration has none, or the other way round.
    """
    if spec.kind not in HEADS:
        import_all("zoo.heads")
    head = HEADS.get(spec.kind)
    if head is None:
        raise ConfigError(f"there is no head of the kind {spec.kind!r}; there are {', '.join(sorted(HEADS))}")
    if head.has_anchors != (spec.anchors is not None):
        raise ConfigError(f"a head of the kind {spec.kind!r} has {'a list of' if head.has_anchors else 'no'} anchors")
    return head
