"""Putting a model on the Hub: one commit with all of its files or none, then the tag."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cards.card import Card, HubPin
from zoo.config import read_config
from zoo.errors import HubAccessError, HubConflictError, HubError, InvalidInputError
from zoo.hub.bundle import CARD, CONFIG, GRAPH, README, TRAINABLE, WEIGHTS, read_card_of
from zoo.hub.client import Client, explained, from_environment, quiet_bars
from zoo.hub.integrity import MANIFEST, check_manifest, digest, write_manifest
from zoo.hub.readme import render, write_eval_results
from zoo.hub.reference import check_repo, check_revision
from zoo.support.files import new_directory, write_atomically

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PUBLISHED = frozenset({README, CARD, CONFIG, WEIGHTS, TRAINABLE, GRAPH})
"""The files of a model folder that are published; a folder that holds anything else is refused."""


@dataclass(frozen=True)
class Published:
    """What came of it.

    Attributes:
        repo: ``organisation/name``.
        commit: 40 hexadecimal digits.
        manifest: sha256 of ``manifest.json``: with the commit, what an index pins.
        url: page of the model.
        tag: that names the commit, or an empty text.
        changed: False where the repository held the very same files already.
    """

    repo: str
    commit: str
    manifest: str
    url: str
    tag: str
    changed: bool


def stage(directory: Path, target: Path, repo: str, *, licence: str = "", overwrite: bool = False) -> Card:
    """Write the whole repository of a model folder into a local folder.

    Args:
        directory: an intact model folder.
        target: the folder to be; it appears only when complete.
        repo: ``organisation/name``.
        licence: of the weights, an SPDX identifier, where the card does not say.
        overwrite: replace a folder that is there.

    Returns:
        Its card.

    Raises:
        FileMissingError, CorruptFileError, ConfigError: the folder is not an intact model.
        InvalidInputError: it holds files that do not belong to a model, no weights, or no licence.
    """
    manifest = check_manifest(directory)
    strange = sorted(manifest.files.keys() - PUBLISHED)
    if strange:
        raise InvalidInputError(
            f"{directory} holds {', '.join(strange)}, which belongs to no model; nothing was published"
        )
    missing = sorted({CARD, CONFIG, WEIGHTS} - manifest.files.keys())
    if missing:
        raise InvalidInputError(f"{directory} has no {', '.join(missing)}; a published model needs a card and weights")
    card = read_card_of(directory)
    if licence:
        card = card.model_copy(update={"licence": licence})
    if not card.licence:
        raise InvalidInputError(
            f"the card of {card.name} names no licence, and nobody may use weights without one: give --licence, for example "
            "--licence Apache-2.0"
        )
    with new_directory(target, overwrite=overwrite) as folder:
        for name in sorted(manifest.files.keys() - {README, CARD}):
            shutil.copyfile(directory / name, folder / name)
        (folder / CARD).write_text(card.to_json(), encoding="utf-8")
        text = render(card, read_config(directory / CONFIG), has_graph=GRAPH in manifest.files, repo=repo)
        (folder / README).write_text(text, encoding="utf-8")
        write_manifest(folder)
        write_eval_results(folder, card)
    return card


def files_of(folder: Path) -> dict[str, Path]:
    """Every file of a staged repository by its path there."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def publish(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    tag: str = "",
    message: str = "",
    client: Client | None = None,
) -> Published:
    """Publish a staged repository: one atomic commit on top of what is there now, then the tag.

    Args:
        folder: made by :func:`stage`.
        repo: ``organisation/name``; it is made if it does not exist.
        private: of a repository that is made.
        tag: names the commit; a tag that names other content is never moved.
        message: of the commit.
        client: instead of the environment's.

    Raises:
        HubAccessError: no token, or one that may not write there.
        HubConflictError: somebody else committed in the meantime, or the tag is taken. Nothing was published.
        HubUnreachableError: no answer. Run the same again: content that has arrived is not published twice.
    """
    check_repo(repo)
    if tag:
        check_revision(tag)
    client = client or from_environment()
    _require_token(client)
    api = client.api()
    files = files_of(folder)
    with explained(f"publishing {repo}", client), quiet_bars():
        if not api.repo_exists(repo):
            api.create_repo(repo, private=private)
        tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo).tags} if tag else {}
        taken = tag in tags and not _holds(api, repo, tags[tag], files)
        if taken:
            raise HubConflictError(
                f"the tag {tag} of {repo} names other content (commit {tags[tag][:12]}); tags are not moved: choose another. "
                "Nothing was published"
            )
        parent = str(api.model_info(repo).sha)
        commit = parent
        if not _holds(api, repo, parent, files):
            commit = _commit(api, repo, parent, files, message)
        if tag and tag not in tags:
            api.create_tag(repo, tag=tag, revision=commit)
    url = f"{client.endpoint}/{repo}"
    return Published(repo, commit, digest(folder / MANIFEST).sha256, url, tag, changed=commit != parent)


def _require_token(client: Client) -> None:
    from huggingface_hub import get_token

    if client.offline:
        raise HubError("HF_HUB_OFFLINE is set: publishing needs the network")
    if get_token() is None:
        raise HubAccessError(
            "publishing needs a token that may write: make one at https://huggingface.co/settings/tokens, then run "
            "`hf auth login`, or set HF_TOKEN"
        )


def _holds(api: HfApi, repo: str, revision: str, files: Mapping[str, Path]) -> bool:
    """Whether a revision holds exactly these files, apart from what the Hub itself adds."""
    from huggingface_hub.utils.sha import git_hash

    there = {
        file.rfilename: file for file in api.model_info(repo, revision=revision, files_metadata=True).siblings or []
    }
    there.pop(".gitattributes", None)
    if set(there) != set(files):
        return False
    for name, path in files.items():
        file: Any = there[name]
        there_is, here_is = (
            (file.blob_id, git_hash(path.read_bytes())) if file.lfs is None else (file.lfs.sha256, digest(path).sha256)
        )
        if there_is != here_is:
            return False
    return True


def _commit(api: HfApi, repo: str, parent: str, files: Mapping[str, Path], message: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = {file.rfilename for file in api.model_info(repo, revision=parent).siblings or []}
    stale = (there & {*PUBLISHED, MANIFEST, ".eval_results/nir-zoo.yaml"}) - files.keys()
    operations: list[Any] = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    operations += [CommitOperationDelete(name) for name in sorted(stale)]
    done: Any = api.create_commit(
        repo, operations, commit_message=message or f"Publish {repo.split('/')[1]}", parent_commit=parent
    )
    return str(done.oid)


def write_index_entry(folder: Path, card: Card, published: Published) -> Path:
    """Write ``FOLDER/NAME/card.json`` for ``ZOO_INDEX``: the card, pinned to the commit and its content.

    Returns:
        The file.
    """
    pin = HubPin(repo=published.repo, commit=published.commit, manifest=published.manifest)
    pinned = card.model_copy(update={"hub": pin})
    return write_atomically(folder / card.name / CARD, pinned.to_json())
