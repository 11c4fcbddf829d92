"""Signals while training: a step becomes whole first, and real processes leave a checkpoint that continues bit by bit."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.training.conftest import RECEIVES_INTERRUPTS, same, small_settings
from zoo.training import checkpoint, train
from zoo.training.interrupts import Interrupted, interrupts


@pytest.fixture(autouse=True)
def _not_ignored() -> Iterator[None]:
    """A shell lets its background jobs ignore Ctrl-C; these tests want it, wherever they run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_for_what_is_held() -> None:
    done = []
    with pytest.raises(Interrupted) as caught, interrupts() as received, received.held():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        done.append("the step")
    assert done == ["the step"]
    assert caught.value.exit_code == 130
    assert isinstance(caught.value, KeyboardInterrupt)


def test_a_signal_between_the_steps_counts_at_once() -> None:
    done = []
    with pytest.raises(Interrupted) as caught, interrupts():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("never")
    assert done == []
    assert caught.value.exit_code == 143


def test_a_second_signal_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, interrupts() as received, received.held():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it waited")
    assert not isinstance(caught.value, Interrupted)


def test_handlers_come_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with interrupts():
            assert signal.getsignal(signal.SIGINT) is not handlers[0]
            os.kill(os.getpid(), signal.SIGHUP)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with interrupts() as received, received.held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def lines_until(process: subprocess.Popen[str], word: str) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if word in line:
            return
    pytest.fail(f"the process ended without {word!r}: {process.wait()}")


ARGUMENTS = [
    "train", "spikeyolo-pico", "--out", "run", "--image-size", "64", "--train-length", "6", "--batch-size", "2",
    "--steps", "200", "--warmup-steps", "2", "--checkpoint-every", "150", "--log-every", "1", "--threads", "1",
]  # fmt: skip
# the loop says which step it has done, so that a test need not guess how fast it is
LOUD = """
import sys
from zoo.training.loop import Run
advance = Run.advance
def loud(self, batch):
    values = advance(self, batch)
    print("step", self.step, flush=True)
    return values
Run.advance = loud
from zoo.cli import main
main(sys.argv[1:])
"""


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RECEIVES_INTERRUPTS + LOUD, *ARGUMENTS, *more],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "60"},
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2)])
def test_a_killed_process_says_how_to_continue_and_loses_no_step(tmp_path: Path, number: int, workers: int) -> None:
    with started(tmp_path, "--workers", str(workers)) as process:
        for _ in lines_until(process, "step 3\n"):
            pass
        # a terminal sends Ctrl-C to the whole group of processes, a batch system SIGTERM
        os.killpg(process.pid, number)
        out, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert err == ""
    done = [int(line.split()[1]) for line in out.splitlines() if line.startswith("step ")]
    state = checkpoint.load_latest(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state["step"] == max(done, default=3)
    assert "zoo train --resume run" in out.splitlines()

    resume = next(line for line in out.splitlines() if line.startswith("zoo train"))
    stop = ["from zoo.training import loop, product", "import functools, sys"]
    stop += [f"product.train = functools.partial(loop.train, stop_after={state['step'] + 1})"]
    stop += ["from zoo.cli import main", "main(sys.argv[1:])"]
    again = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(stop), *shlex.split(resume)[1:], "--checkpoint-every", "1"],
        cwd=tmp_path, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert f"continuing at step {state['step']} of 200" in again.stdout
    if workers:
        return
    settings = small_settings(steps=200, checkpoint_every=1)
    train(settings, tmp_path / "whole", stop_after=state["step"] + 1)
    expected = checkpoint.load_latest(tmp_path / "whole" / "checkpoints")
    assert same(expected, checkpoint.load_latest(tmp_path / "run" / "checkpoints"))


def test_a_signal_before_the_first_step_loses_nothing(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from zoo.training import sets
import zoo.training.loop as loop
def slow(*_):
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("not reached")
loop.open_training_set = slow
from zoo.cli import main
main(sys.argv[1:])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RECEIVES_INTERRUPTS + code, *ARGUMENTS],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 130
    assert "nothing is lost" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
