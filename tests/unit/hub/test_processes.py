"""Several processes, and processes that are killed: nothing that is left behind is later trusted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import zoo
from tests.hub_server import HubServer, serve
from zoo.hub import cached

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # the client's own, of its HTTP library
MODEL, NAME = "spiking-yolo-digits", "hf-hub:spikes/model@v1"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert start("publish", MODEL, "spikes/model", "--tag", "v1").wait() == 0
        yield server


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """``zoo`` in a process of its own."""
    paths = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-m", "zoo.cli", *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def is_right() -> bool:
    found, expected = zoo.load(NAME).state_dict(), zoo.load(MODEL).state_dict()
    return all(torch.equal(tensor, expected[key]) for key, tensor in found.items())


def wait_for(hub: HubServer, what: str) -> None:
    """Until the server was asked for it."""
    deadline = time.monotonic() + 600  # the cores may be busy with other work
    while not any(what in path for _, path in hub.log):
        assert time.monotonic() < deadline, f"nobody asked for {what}"
        time.sleep(0.01)


def test_two_processes_pull_the_same_model(hub: HubServer) -> None:
    hub.fault("slow", path="model.safetensors", times=4, seconds=0.5)
    processes = [start("pull", NAME) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert is_right()
    assert [entry.damaged for entry in cached.cached()] == [()]


@pytest.mark.parametrize("where", ["manifest.json", "config.json", "_cdn", "model.nir"])
def test_killed_while_pulling(hub: HubServer, where: str) -> None:
    hub.log.clear()
    hub.fault("slow", path=where, times=1000, seconds=0.3)
    process = start("pull", NAME)
    wait_for(hub, where)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    hub.faults.clear()
    assert is_right()
    assert all(not entry.damaged for entry in cached.cached())


@pytest.mark.parametrize("where", ["preupload", "_lfs", "/commit/", "/tag/"])
def test_killed_while_publishing(hub: HubServer, where: str) -> None:
    """The repository holds the old model or the new one, whole; publishing again completes it."""
    hub.log.clear()
    hub.fault("slow", path=where, times=1000, seconds=0.3)
    process = start("publish", "ems-yolo-digits", "spikes/model", "--tag", "v2")
    wait_for(hub, where)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    hub.faults.clear()
    hub.wait_until_done()  # what the server has begun, it ends
    assert is_right()  # the tag still names the old one
    assert zoo.info("hf-hub:spikes/model@main").name in {MODEL, "ems-yolo-digits"}
    assert zoo.load("hf-hub:spikes/model@main").card is not None
    assert start("publish", "ems-yolo-digits", "spikes/model", "--tag", "v2").wait() == 0
    assert zoo.load("hf-hub:spikes/model@v2").config.arch == "ems-yolo-pico"
    summaries = [commit.summary for commit in hub.store.repos["spikes/model"].commits.values()]
    assert summaries.count("Publish model") == 2  # one for each model
