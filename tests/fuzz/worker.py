"""The process that reads mutated files: ``python -m tests.fuzz.worker FORMAT FOLDER``.

For each line on standard input it reads the file in the folder, and answers with a line of JSON: ``read``, ``refused``, or
``crash`` with a traceback; and its largest memory so far.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

from tests.fuzz.targets import CANARY, TARGETS, Target
from zoo.errors import ZooError

SECONDS = 10
"""Of the processor for one file: how busy the machine is does not count."""
WAITING = 600
"""Of the clock: for what waits and computes nothing."""
MEMORY = 2 * 2**30
"""Address space beyond what the process begins with: whatever wants more gets a MemoryError."""


class HangError(BaseException):
    """Reading took too long."""


def _ring(*_args: Any) -> None:
    raise HangError


def judge(target: Target, folder: Path) -> dict[str, Any]:
    """What comes of the file that lies in the folder."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime + SECONDS + 2)  # for loops in C, where no alarm rings
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        target.read(folder)
        outcome: dict[str, Any] = {"outcome": "read"}
    except ZooError as error:
        text = str(error)
        outcome = (
            {"outcome": "refused"} if text and len(text) < 5000 else {"outcome": "crash", "trace": "no clear message"}
        )
    except HangError:
        outcome = {"outcome": "hang"}
    except BaseException:  # noqa: BLE001 - this is what is looked for
        outcome = {"outcome": "crash", "trace": traceback.format_exc()[-3000:]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    strange = {path.name for path in folder.iterdir()} - {
        target.file,
        "config.json",
        "model.safetensors",
        "manifest.json",
    }
    if strange or (folder.parent / CANARY).exists() or Path(CANARY).exists():
        outcome = {"outcome": "crash", "trace": f"it made files: {strange or CANARY}"}
    return outcome


def _largest_memory() -> int:
    """Bytes, at most so far; ru_maxrss would count what the parent had before this program was loaded."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def main() -> None:
    """Serve."""
    target, folder = TARGETS[sys.argv[1]], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _ring)
    signal.signal(signal.SIGALRM, _ring)
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "work").mkdir()
        (Path(empty) / "work" / target.file).write_bytes(b"")
        judge(target, Path(empty) / "work")  # imports what is needed
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for _ in iter(sys.stdin.readline, ""):
        answer = judge(target, folder)
        answer["rss"] = _largest_memory()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
