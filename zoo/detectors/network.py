"""What a detector asks of its network, besides calling it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Network(Protocol):
    """The network of a family: (T*B, C, H, W) -> raw head maps (T*B, channels, H/s, W/s), finest first.

    Each answer has a default, which is right for a network of neurons that has a NIR form.
    """

    @property
    def averages_time(self) -> bool:
        """Whether the maps are averaged over T already: (B, ...) instead of (T*B, ...)."""
        return False

    @property
    def is_ann(self) -> bool:
        """Whether this is an ordinary network without time, to be converted to spikes."""
        return False

    @property
    def streams(self) -> bool:
        """Whether an image may be fed step by step, in memory that does not grow with T; its neurons must allow it."""
        return False

    @property
    def differs(self) -> str:
        """How this form differs from what the paper describes; empty where it does not."""
        return ""

    def without_nir_form(self) -> dict[str, str]:
        """Modules that have no exact NIR form, and why."""
        return {}


class NetworkModule(nn.Module, Network):
    """Base of every family's network: an ``nn.Module`` with the default answers of :class:`Network`."""
