"""Ctrl-C and SIGTERM while training: the step that is being computed is finished, a checkpoint written, and the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a batch system's time limit, a terminal that is closed


class Interrupted(KeyboardInterrupt):
    """Training was interrupted by a signal, and can be continued.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it: 130 after Ctrl-C."""
        return 128 + self.number


class Interrupts:
    """Raises :class:`Interrupted` when a signal comes, or at the end of :meth:`held` where one came within.

    A second signal raises ``KeyboardInterrupt`` at once: what is being computed or written then is lost, and the checkpoint
    before it is not.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_held = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a step, or a checkpoint, become whole before a signal counts."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._number is not None:
            raise Interrupted(self._number)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        del frame
        if self._number is not None:
            raise KeyboardInterrupt
        self._number = number
        if not self._is_held:
            raise Interrupted(number)


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Receive signals for the length of the block; only in the main thread, which alone may. Ignored ones stay ignored."""
    received = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    changed = {number: handler for number, handler in before.items() if handler not in {signal.SIG_IGN, None}}
    try:
        for number in changed:
            signal.signal(number, received.receive)
        yield received
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)
