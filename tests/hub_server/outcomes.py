"""What comes of every fault: the right bytes, or one clear error of a known type.

``python -m tests.hub_server.outcomes`` runs all of them and writes the table into docs/security.md;
tests/unit/hub/test_faults.py runs them, too.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from tests.hub_server.store import Blob
from tests.hub_server.world import MODEL, REPO, RIGHT, TAG, World, world
from zoo.errors import ZooError
from zoo.hub.bundle import CARD, CONFIG, GRAPH, WEIGHTS


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        group: of the table.
        what: the fault, in words.
        expected: the outcome: ``right bytes``, or the type of the error.
        run: makes it happen and says what came of it.
    """

    group: str
    what: str
    expected: str
    run: Callable[[World], str]


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        result: ``right bytes``, or the type of the error.
        message: of the error or the warning.
    """

    result: str
    message: str


def outcome(case: Case, folder: Path) -> Outcome:
    """Run a case in a world of its own."""
    with world(folder) as made:
        try:
            result, message = case.run(made), " ".join(made.warnings.texts)
        except ZooError as error:
            result, message = type(error).__name__, str(error)
    return Outcome(result, plain(message, folder))


def plain(text: str, folder: Path) -> str:
    """A message without what differs from run to run."""
    text = text.replace(str(folder / "cache"), "CACHE").replace(str(folder), "FOLDER")
    text = re.sub(r"http://(127\.0\.0\.1|localhost):\d+", "HUB", text)
    text = re.sub(r"\([^()]*(Errno|disconnected|timed out)[^()]*\)", "(connection failed)", text)
    text = re.sub(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12,64}\b", "...", text).replace("......", "...")
    return text.replace("|", "/").replace("[", "\\[")  # neither ends a cell nor begins a link


def _with(backend: str = "snntorch", name: str = TAG, **fault: Any) -> Callable[[World], str]:
    """Load under a fault of the server."""

    def run(made: World) -> str:
        made.hub.fault(fault["kind"], **{key: value for key, value in fault.items() if key != "kind"})
        return made.load(name, backend)

    return run


def _then_right(run: Callable[[World], str]) -> Callable[[World], str]:
    """The error, after seeing that the next load without the fault gives the right bytes."""

    def both(made: World) -> str:
        try:
            return run(made)
        except ZooError:
            if made.again() != RIGHT:
                raise AssertionError("the load after the fault is wrong") from None
            raise

    return both


def _cached_first(run: Callable[[World], str]) -> Callable[[World], str]:
    def both(made: World) -> str:
        made.load()
        return run(made)

    return both


def _down(made: World, name: str = TAG) -> str:
    made.hub.stopped = True
    made.hub.server_close()
    return made.load(name)


def _pinned_and_down(made: World) -> str:
    requests = len(made.hub.log)
    result = _down(made, f"hf-hub:{REPO}@{made.commit}")
    return result if len(made.hub.log) == requests else "asked the Hub"


def _offline(made: World) -> str:
    os.environ["HF_HUB_OFFLINE"] = "1"
    requests = len(made.hub.log)
    result = made.load()
    return result if len(made.hub.log) == requests else "asked the Hub"


def _damaged(*names: str, offline: bool = False) -> Callable[[World], str]:
    def run(made: World) -> str:
        for name in names:
            made.damage(name)
        return _offline(made) if offline else made.load()

    return run


def _removed(name: str) -> Callable[[World], str]:
    def run(made: World) -> str:
        made.cached(name).resolve().unlink()  # the name in the snapshot leads nowhere
        return made.load()

    return run


def _gated(made: World) -> str:
    made.hub.store.repos[REPO].gated = True
    os.environ["HF_TOKEN"] = "hf_guest"  # noqa: S105 - of the local server
    return made.load()


def _private(made: World) -> str:
    made.hub.store.repos[REPO].private = True
    os.environ["HF_TOKEN"] = "hf_guest"  # noqa: S105
    return made.load()


def _wrong_token(made: World) -> str:
    os.environ["HF_TOKEN"] = "hf_wrong"  # noqa: S105
    return made.load()


def _no_model(made: World) -> str:
    repo = made.hub.store.repos[REPO]
    repo.tags["v1"] = repo.commit("not a model", {"pytorch_model.bin": Blob.regular(b"code")}).oid
    return made.load()


def _huge(made: World) -> str:
    made.replace(config_json=b" " * 2_000_000)
    return made.load()


def _bombs(made: World) -> str:
    made.replace(pytorch_model_bin=b"code", modeling_py=b"import os", evil_json=b"{}")
    result = made.load()
    here = {path.name for path in (made.folder / "cache").glob("models--*/snapshots/*/*")}
    return result if here <= {CARD, CONFIG, WEIGHTS, "manifest.json"} else f"downloaded {here}"


def _lying_manifest(made: World) -> str:
    made.replace(
        manifest_json=b'{"format": 1, "files": {"../../evil.txt": {"sha256": "' + b"0" * 64 + b'", "size": 1}}}'
    )
    return made.load()


def _changed_weights(made: World) -> str:
    """Somebody replaces a file, not the manifest."""
    made.replace(config_json=b"{}")
    return made.load()


def _changed_model(made: World) -> str:
    """Somebody publishes another model, in itself consistent, where the index points."""
    made.index()
    os.environ["ZOO_HUB_NAMESPACE"] = "spikes"
    made.publish("ems-yolo-digits")
    return made.load(MODEL)


def _other_organisation(made: World) -> str:
    os.environ["ZOO_HUB_NAMESPACE"] = "spikes"
    repo = made.hub.store.repos[REPO]
    made.hub.store.repos["spikes/spikeyolo-coco"] = repo
    return made.load("spikeyolo-coco")


def _wrong_pin(made: World) -> str:
    made.index(manifest="0" * 64)
    return made.load(MODEL)


def _pinned(made: World) -> str:
    made.index()
    return made.load(MODEL)


def _no_token(made: World) -> str:
    del os.environ["HF_TOKEN"]
    with mock.patch("huggingface_hub.get_token", return_value=None):
        return made.publish().commit


def _stranger(made: World) -> str:
    os.environ["HF_TOKEN"] = "hf_guest"  # noqa: S105
    return made.publish("ems-yolo-digits").commit


def _moved_parent(made: World) -> str:
    made.hub.fault("moved_parent", path="/commit/")
    return made.publish("ems-yolo-digits").commit


def _tag_taken(made: World) -> str:
    return made.publish("ems-yolo-digits", tag="v1").commit


def _interrupted(made: World) -> str:
    """The answer to a commit is lost: publishing again finds everything there."""
    made.hub.fault("interrupted", path="/commit/")
    try:
        made.publish("ems-yolo-digits", tag="v2")
    except ZooError as error:
        commits = len(made.hub.store.repos[REPO].commits)
        done = made.publish("ems-yolo-digits", tag="v2")
        if done.changed or len(made.hub.store.repos[REPO].commits) != commits:
            raise AssertionError("published twice") from error
        raise
    return "nothing happened"


def _published_twice(made: World) -> str:
    commits = len(made.hub.store.repos[REPO].commits)
    done = made.publish(tag="v1")
    if done.changed or len(made.hub.store.repos[REPO].commits) != commits:
        return "published twice"
    return made.load()


def _large_upload_fails(made: World) -> str:
    before = made.hub.store.repos[REPO].at("main").oid
    made.hub.fault("error", path="/_lfs/", times=100)
    try:
        return made.publish("ems-yolo-digits").commit
    finally:
        if made.hub.store.repos[REPO].at("main").oid != before:
            raise AssertionError("a part was published")


DOWNLOAD, CACHE, REPOSITORY, PUBLISH = "Downloading", "In the cache", "In the repository", "Publishing"
ALWAYS = 1000
CASES = [
    Case(DOWNLOAD, "the weights end early, once", RIGHT, _with(kind="truncate", path=WEIGHTS, at=1000)),
    Case(DOWNLOAD, "the weights end early, every time", "HubUnreachableError",
         _then_right(_with(kind="truncate", path=WEIGHTS, at=1000, times=ALWAYS))),
    Case(DOWNLOAD, "one wrong byte in the weights, of the right size", "CorruptFileError",
         _then_right(_with(kind="corrupt", path=WEIGHTS, at=5000))),
    Case(DOWNLOAD, "one wrong byte in the graph", "CorruptFileError",
         _then_right(_with("reference", kind="corrupt", path=GRAPH, at=5000))),
    Case(DOWNLOAD, "one wrong byte in config.json", "CorruptFileError",
         _then_right(_with(kind="corrupt", path=CONFIG, at=50))),
    Case(DOWNLOAD, "one wrong byte in manifest.json, once", RIGHT, _with(kind="corrupt", path="manifest.json", at=60)),
    Case(DOWNLOAD, "one wrong byte in manifest.json, every time", "CorruptFileError",
         _then_right(_with(kind="corrupt", path="manifest.json", at=60, times=ALWAYS))),
    Case(DOWNLOAD, "status 500 for a file, once", RIGHT, _with(kind="error", path=WEIGHTS)),
    Case(DOWNLOAD, "status 500 for everything, nothing cached", "HubUnreachableError",
         _then_right(_with(kind="error", times=ALWAYS))),
    Case(DOWNLOAD, "status 500 for everything, a tag that is cached", RIGHT, _cached_first(_with(kind="error", times=ALWAYS))),
    Case(DOWNLOAD, "slow answers", RIGHT, _with(kind="slow", times=ALWAYS, seconds=0.1)),
    Case(DOWNLOAD, "an answer does not say which commit it is of", "HubUnreachableError",
         _then_right(_with(kind="no_commit", path=WEIGHTS, times=ALWAYS))),
    Case(DOWNLOAD, "the list of files holds ../../../../evil.txt", RIGHT, _with(kind="evil_tree", times=ALWAYS)),
    Case(DOWNLOAD, "the Hub is down, nothing cached", "HubUnreachableError", _down),
    Case(DOWNLOAD, "the Hub is down, a tag that is cached", RIGHT, _cached_first(_down)),
    Case(DOWNLOAD, "the Hub is down, a commit that is cached: no request", RIGHT, _cached_first(_pinned_and_down)),
    Case(DOWNLOAD, "HF_HUB_OFFLINE, cached: no request", RIGHT, _cached_first(_offline)),
    Case(DOWNLOAD, "HF_HUB_OFFLINE, nothing cached", "HubUnreachableError", _offline),
    Case(CACHE, "a flipped bit in the weights", RIGHT, _cached_first(_damaged(WEIGHTS))),
    Case(CACHE, "a flipped bit in config.json and card.json", RIGHT, _cached_first(_damaged(CONFIG, CARD))),
    Case(CACHE, "a flipped bit in manifest.json", RIGHT, _cached_first(_damaged("manifest.json"))),
    Case(CACHE, "a flipped bit in everything", RIGHT,
         _cached_first(_damaged("manifest.json", CONFIG, CARD, WEIGHTS))),
    Case(CACHE, "a flipped bit in the weights, HF_HUB_OFFLINE", "CorruptFileError",
         _cached_first(_damaged(WEIGHTS, offline=True))),
    Case(CACHE, "the weights are gone", RIGHT, _cached_first(_removed(WEIGHTS))),
    Case(REPOSITORY, "there is none", "HubError", lambda made: made.load("hf-hub:spikes/nothing")),
    Case(REPOSITORY, "no such tag", "HubError", lambda made: made.load(f"hf-hub:{REPO}@v9")),
    Case(REPOSITORY, "no such commit", "HubError", lambda made: made.load(f"hf-hub:{REPO}@{'0' * 40}")),
    Case(REPOSITORY, "private, and not ours", "HubError", _private),
    Case(REPOSITORY, "gated", "HubAccessError", _gated),
    Case(REPOSITORY, "a wrong token", "HubAccessError", _wrong_token),
    Case(REPOSITORY, "no model of the zoo: a pickle", "HubError", _no_model),
    Case(REPOSITORY, "a config.json of 2 MB: not downloaded", "HubError", _huge),
    Case(REPOSITORY, "pickles and code beside the model: never downloaded", RIGHT, _bombs),
    Case(REPOSITORY, "a manifest that names ../../evil.txt", "CorruptFileError", _lying_manifest),
    Case(REPOSITORY, "a file was replaced, its manifest was not", "CorruptFileError", _changed_weights),
    Case(REPOSITORY, "pinned in the index", RIGHT, _pinned),
    Case(REPOSITORY, "pinned in the index, with another manifest", "CorruptFileError", _wrong_pin),
    Case(REPOSITORY, "another model was put where the index points", "CorruptFileError", _changed_model),
    Case(REPOSITORY, "another organisation serves digits under a name that says coco", "HubError", _other_organisation),
    Case(PUBLISH, "the same content twice: one commit", RIGHT, _published_twice),
    Case(PUBLISH, "somebody commits in the meantime", "HubConflictError", _moved_parent),
    Case(PUBLISH, "the tag names other content", "HubConflictError", _tag_taken),
    Case(PUBLISH, "no token", "HubAccessError", _no_token),
    Case(PUBLISH, "a token that may not write there", "HubAccessError", _stranger),
    Case(PUBLISH, "the upload of a large file fails: no commit", "HubUnreachableError", _large_upload_fails),
    Case(PUBLISH, "the answer to the commit is lost; publishing again changes nothing", "HubUnreachableError", _interrupted),
]  # fmt: skip

DOC = Path(__file__).resolve().parents[2] / "docs" / "security.md"
START, END = "<!-- faults: made by python -m tests.hub_server.outcomes -->", "<!-- end of faults -->"


def table(outcomes: list[tuple[Case, Outcome]]) -> str:
    """The table as Markdown."""
    lines = []
    for group in dict.fromkeys(case.group for case, _ in outcomes):
        lines += ["", f"### {group}", "", "| fault | outcome | message or warning |", "|---|---|---|"]
        lines += [
            f"| {case.what} | {found.result} | {found.message} |" for case, found in outcomes if case.group == group
        ]
    return "\n".join([START, *lines, "", END])


def main() -> None:
    """Run all cases and write the table."""
    done = []
    for case in CASES:
        folder = Path(tempfile.mkdtemp())
        try:
            done.append((case, outcome(case, folder)))
        finally:
            shutil.rmtree(folder)
    wrong = [case.what for case, found in done if found.result != case.expected]
    text = DOC.read_text(encoding="utf-8")
    head, tail = text.split(START)[0], text.split(END)[1]
    DOC.write_text(head + table(done) + tail, encoding="utf-8")
    if wrong:
        raise SystemExit(f"not as expected: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
