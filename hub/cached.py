"""Models of the zoo in the Hub's cache on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.errors import CorruptFileError, FileMissingError, InvalidInputError
from zoo.hub.client import Client, from_environment
from zoo.hub.integrity import MANIFEST, digest, read_manifest
from zoo.hub.reference import check_repo


@dataclass(frozen=True)
class Cached:
    """One commit of one repository.

    Attributes:
        repo: ``organisation/name``.
        commit: 40 hexadecimal digits.
        refs: branches and tags that named it when they were last asked for.
        files: sizes in bytes of the files that are here.
        damaged: files whose content is not what the manifest says; they are fetched again when they are needed.
    """

    repo: str
    commit: str
    refs: tuple[str, ...]
    files: dict[str, int]
    damaged: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(self.files.values())


def cached(*, client: Client | None = None) -> list[Cached]:
    """Every model of the zoo in the cache, hashed; repositories that hold no manifest are left out."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    client = client or from_environment()
    try:
        info = scan_cache_dir(client.cache)
    except CacheNotFound:
        return []
    found = []
    for repo in sorted(info.repos, key=lambda one: one.repo_id):
        for revision in sorted(repo.revisions, key=lambda one: one.commit_hash):
            if (revision.snapshot_path / MANIFEST).is_file():
                files = {file.file_name: file.size_on_disk for file in revision.files}
                damaged = _damaged(revision.snapshot_path, files)
                found.append(Cached(repo.repo_id, revision.commit_hash, tuple(sorted(revision.refs)), files, damaged))
    return found


def _damaged(folder: Path, files: dict[str, int]) -> tuple[str, ...]:
    try:
        manifest = read_manifest(folder)
    except (CorruptFileError, FileMissingError):
        return (MANIFEST,)
    return tuple(
        name for name in sorted(files) if name in manifest.files and digest(folder / name) != manifest.files[name]
    )


def remove(repo: str, *, client: Client | None = None) -> int:
    """Delete every commit of a repository from the cache.

    Returns:
        Bytes that were freed.

    Raises:
        InvalidInputError: the cache holds no such model.
    """
    from huggingface_hub import scan_cache_dir

    client = client or from_environment()
    commits = [one.commit for one in cached(client=client) if one.repo == check_repo(repo)]
    if not commits:
        raise InvalidInputError(f"the cache {client.cache} holds no model {repo}; `zoo cache` lists what it holds")
    plan = scan_cache_dir(client.cache).delete_revisions(*commits)
    plan.execute()
    return int(plan.expected_freed_size)
