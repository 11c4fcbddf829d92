"""The local Hub, driven by the real ``huggingface_hub`` client: what it stores, and each of its faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub as hf
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.hub_server import KINDS, HubServer, serve

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # the client's own, of its HTTP library
REPO = "spikes/model"
OWNER, GUEST, NOBODY = "hf_owner", "hf_guest", "hf_wrong"
BIG = bytes(range(256)) * 8000  # stored as a large file


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with serve() as server:
        yield server


@pytest.fixture
def api(hub: HubServer) -> hf.HfApi:
    client = hf.HfApi(endpoint=hub.url, token=OWNER)
    client.create_repo(REPO)
    return client


def operations(**files: bytes) -> list[Any]:
    """Files by name, with _ for the dot."""
    return [hf.CommitOperationAdd(name.replace("_", "."), data) for name, data in files.items()]


@pytest.fixture
def commit(api: hf.HfApi) -> str:
    made = api.create_commit(REPO, operations(config_json=b'{"a": 1}', model_safetensors=BIG), commit_message="first")
    return str(made.oid)


def fetch(hub: HubServer, folder: Path, name: str = "model.safetensors", **settings: Any) -> bytes:
    path = hf.hf_hub_download(REPO, name, endpoint=hub.url, cache_dir=folder, token=False, **settings)
    return Path(path).read_bytes()


def test_what_is_published_is_loaded(hub: HubServer, api: hf.HfApi, commit: str, tmp_path: Path) -> None:
    api.create_tag(REPO, tag="v1", revision=commit)
    folder = Path(hf.snapshot_download(REPO, revision="v1", endpoint=hub.url, cache_dir=tmp_path, token=False))
    assert (folder / "config.json").read_bytes() == b'{"a": 1}'
    assert (folder / "model.safetensors").read_bytes() == BIG
    assert {tag.name for tag in api.list_repo_refs(REPO).tags} == {"v1"}
    requests = len(hub.log)
    hf.snapshot_download(REPO, revision=commit, endpoint=hub.url, cache_dir=tmp_path, token=False)
    assert len(hub.log) == requests  # pinned and cached: no request
    files = api.model_info(REPO, files_metadata=True).siblings or []
    assert {file.rfilename: file.size for file in files}["model.safetensors"] == len(BIG)


def test_the_same_content_is_not_uploaded_twice(hub: HubServer, api: hf.HfApi, commit: str) -> None:
    uploads = sum(method == "PUT" for method, _ in hub.log)
    assert api.create_commit(REPO, operations(model_safetensors=BIG), commit_message="again").oid == commit
    assert sum(method == "PUT" for method, _ in hub.log) == uploads == 1


def test_a_moved_parent_is_refused(hub: HubServer, api: hf.HfApi, commit: str) -> None:
    hub.fault("moved_parent")
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(REPO, operations(z_txt=b"1"), commit_message="late", parent_commit=commit)
    assert api.create_commit(REPO, operations(z_txt=b"1"), commit_message="now").oid != commit


@pytest.mark.usefixtures("commit")
def test_who_may_do_what(hub: HubServer, api: hf.HfApi, tmp_path: Path) -> None:
    guest = hf.HfApi(endpoint=hub.url, token=GUEST)
    with pytest.raises(HfHubHTTPError, match="403"):
        guest.create_commit(REPO, operations(z_txt=b"1"), commit_message="mine")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        hf.HfApi(endpoint=hub.url, token=NOBODY).whoami()
    api.update_repo_settings(REPO, gated="manual")
    with pytest.raises(GatedRepoError):
        fetch(hub, tmp_path)
    hub.store.repos[REPO].gated = False
    hub.store.repos[REPO].private = True
    with pytest.raises(RepositoryNotFoundError):
        guest.model_info(REPO)
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="v9")
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO


def test_paths_that_lead_out_are_refused() -> None:
    from tests.hub_server.store import HubError, check_path

    for path in ("../a", "/a", "a/../b", "a\\b", ".git/config", "a//b", ""):
        with pytest.raises(HubError):
            check_path(path)


@pytest.mark.usefixtures("commit")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_fault_happens_as_often_as_planned(hub: HubServer, api: hf.HfApi, tmp_path: Path, kind: str) -> None:
    places = {"evil_tree": "/tree/"} | dict.fromkeys(("truncate", "corrupt", "no_commit"), "safetensors")
    hub.fault(kind, path=places.get(kind, ""), at=100, seconds=0.3)
    if kind == "corrupt":  # the client does not notice: this is why the zoo hashes for itself
        wrong = fetch(hub, tmp_path)
        assert len(wrong) == len(BIG)
        assert [i for i, (a, b) in enumerate(zip(wrong, BIG, strict=True)) if a != b] == [100]
    elif kind == "truncate":  # the client asks again
        assert fetch(hub, tmp_path) == BIG
        assert sum("/_cdn/" in path and method == "GET" for method, path in hub.log) == 2
    elif kind == "error":
        with pytest.raises(HfHubHTTPError, match="500"):
            api.list_repo_refs(REPO)
    elif kind == "slow":
        started = time.monotonic()
        api.model_info(REPO)
        assert time.monotonic() - started > 0.3
    elif kind == "no_commit":
        with pytest.raises(Exception, match=r"X-Repo-Commit|annot find|locate"):
            fetch(hub, tmp_path)
    elif kind == "evil_tree":
        with pytest.raises(ValueError, match="Invalid filename"):
            hf.snapshot_download(REPO, endpoint=hub.url, cache_dir=tmp_path / "cache", token=False)
        assert not list(tmp_path.glob("**/evil.txt"))
    elif kind == "moved_parent":
        api.create_commit(REPO, operations(z_txt=b"1"), commit_message="late")
        assert len(hub.store.repos[REPO].commits) == 4
    else:
        with pytest.raises(Exception, match=r"disconnected|RemoteProtocol|Server"):
            api.create_commit(REPO, operations(z_txt=b"1"), commit_message="made all the same")
        assert "z.txt" in hub.store.repos[REPO].at("main").files
    assert [fault.times for fault in hub.faults.planned] == [0]
    with pytest.raises(ValueError, match="there is no fault"):
        hub.fault("meteor")
