"""What lies in front of the network of an event detector: micro-slices of events become frames.

An encoder is the same for every backend, because it lies outside the NIR graph.
"""

from __future__ import annotations

from torch import Tensor, nn

from zoo.errors import InvalidInputError

POLARITIES = 2


class EventEncoder(nn.Module):
    """Micro-slices (Tm, B, 2, H, W), oldest first, -> frames (Ts, B, 2, H, W).

    Args:
        tm: micro-slices that come in.
        ts: frames that come out.
    """

    def __init__(self, *, tm: int, ts: int) -> None:
        if not 1 <= ts <= tm:
            raise InvalidInputError(f"an encoder makes 1 to tm = {tm} frames of its {tm} micro-slices, not ts = {ts}")
        super().__init__()
        self.tm, self.ts = tm, ts

    def check(self, slices: Tensor) -> None:
        """Refuse what is no stack of micro-slices.

        Raises:
            InvalidInputError: other dimensions, another Tm, or no floating point numbers.
        """
        if slices.dim() != 5 or slices.shape[0] != self.tm or slices.shape[2] != POLARITIES or slices.numel() == 0:
            raise InvalidInputError(
                f"expected micro-slices (Tm={self.tm}, B, {POLARITIES}, H, W), oldest first, got {tuple(slices.shape)}"
            )
        if not slices.is_floating_point():
            raise InvalidInputError(f"expected micro-slices as floating point numbers, got {slices.dtype}")


class FixedWindows(EventEncoder):
    """The micro-slices summed in ``ts`` groups of equal length: event frames of fixed windows, for comparison.

    Raises:
        InvalidInputError: ``tm`` is not a multiple of ``ts``.
    """

    def __init__(self, *, tm: int, ts: int = 1) -> None:
        super().__init__(tm=tm, ts=ts)
        if tm % ts:
            raise InvalidInputError(f"fixed windows need a tm that is a multiple of ts, got tm = {tm} and ts = {ts}")

    def forward(self, slices: Tensor) -> Tensor:
        """(Tm, B, 2, H, W) -> (Ts, B, 2, H, W)."""
        self.check(slices)
        return slices.unflatten(0, (self.ts, -1)).sum(1)
