"""What the server does wrong when told to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

KINDS = {
    "truncate": "a download ends after `at` bytes, though its header promised more",
    "corrupt": "a download has the right size and one wrong byte, at `at`",
    "error": "an answer is a 500",
    "slow": "an answer takes `seconds` longer",
    "no_commit": "a download does not say which commit it is of",
    "moved_parent": "another commit slips in just before a commit",
    "evil_tree": "the list of files holds a path that leads out of the folder",
    "interrupted": "the connection is closed before a commit is answered, after it was made",
}


@dataclass
class Fault:
    """One kind of misbehaviour.

    Attributes:
        kind: a key of ``KINDS``.
        path: only where the request's path contains this.
        times: how often; it is used up by then.
        at: byte, for ``truncate`` and ``corrupt``.
        seconds: for ``slow``.
    """

    kind: str
    path: str = ""
    times: int = 1
    at: int = 0
    seconds: float = 0.5


@dataclass
class Faults:
    """Those that are still to come."""

    planned: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> None:
        """Plan one.

        Raises:
            ValueError: an unknown kind.
        """
        if fault.kind not in KINDS:
            raise ValueError(f"there is no fault {fault.kind!r}; there are {', '.join(KINDS)}")
        with self._lock:
            self.planned.append(fault)

    def take(self, kind: str, path: str) -> Fault | None:
        """The next fault of a kind for a path, if one is planned; it is used up by being taken."""
        with self._lock:
            for fault in self.planned:
                if fault.kind == kind and fault.path in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def clear(self) -> None:
        """Plan nothing any more."""
        with self._lock:
            self.planned.clear()
