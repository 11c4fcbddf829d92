"""Repositories in memory: commits that never change, branches and tags that point at them, and the contents of files."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field

LFS_SUFFIXES = (".safetensors", ".nir", ".bin", ".pt", ".npz")
LFS_FROM = 1_000_000
"""Bytes from which any file is stored as a large one."""


class HubError(Exception):
    """An answer other than 200.

    Args:
        status: HTTP status.
        message: for people.
        code: ``X-Error-Code``, by which the client tells errors apart.
        **details: more of the answer.
    """

    def __init__(self, status: int, message: str, code: str = "", **details: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.details = status, message, code, details


@dataclass(frozen=True)
class Blob:
    """A file's content.

    Attributes:
        oid: git's name for it: of the content, or for large files of the pointer to it.
        size: of the content.
        sha256: of the content of large files; None for others.
        data: the content.
    """

    oid: str
    size: int
    sha256: str | None
    data: bytes

    @classmethod
    def regular(cls, data: bytes) -> Blob:
        """A small file."""
        return cls(
            hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest(), len(data), None, data
        )

    @classmethod
    def large(cls, sha256: str, data: bytes) -> Blob:
        """A large file, of which git holds a pointer only."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n"
        return cls(cls.regular(text.encode()).oid, len(data), sha256, data)


@dataclass(frozen=True)
class Commit:
    """One state of all files."""

    oid: str
    parent: str | None
    summary: str
    when: float
    files: dict[str, Blob]


@dataclass
class Repo:
    """One repository.

    Attributes:
        name: ``owner/name``.
        private: only its owner sees it.
        gated: its files need to be granted.
        granted: users who may.
    """

    name: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """First part of the name."""
        return self.name.split("/")[0]

    def commit(self, summary: str, files: dict[str, Blob], branch: str = "main") -> Commit:
        """Add a state, on top of a branch."""
        parent = self.branches.get(branch)
        text = f"{self.name} {parent} {summary} {len(self.commits)} {sorted((p, b.oid) for p, b in files.items())}"
        oid = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        made = Commit(oid, parent, summary, time.time(), dict(files))
        self.commits[oid] = made
        self.branches[branch] = oid
        return made

    def at(self, revision: str) -> Commit:
        """The state that a branch, a tag or a commit names.

        Raises:
            HubError: none does.
        """
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubError(404, f"Revision {revision} not found", "RevisionNotFound")
        return self.commits[oid]


class Store:
    """All repositories, and the large files that were uploaded."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.uploaded: dict[str, bytes] = {}
        self.lock = threading.RLock()

    def create(self, name: str, *, private: bool) -> Repo:
        """A new repository with an empty first commit.

        Raises:
            HubError: there is one of this name.
        """
        with self.lock:
            if name in self.repos:
                raise HubError(409, "You already created this model repo")
            repo = self.repos[name] = Repo(name, private)
            repo.commit("initial commit", {".gitattributes": Blob.regular(b"*.safetensors filter=lfs\n")})
            return repo

    def get(self, name: str, user: str | None) -> Repo:
        """A repository that the user may see.

        Raises:
            HubError: there is none, as far as this user is told.
        """
        repo = self.repos.get(name)
        if repo is None or (repo.private and user != repo.owner):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        return repo


def check_path(path: str) -> str:
    """A path within a repository.

    Raises:
        HubError: one that leads out of it.
    """
    parts = path.split("/")
    if not path or "\\" in path or path.startswith("/") or any(part in {"", ".", "..", ".git"} for part in parts):
        raise HubError(400, f"not a path within a repository: {path!r}")
    return path


def is_large(path: str, size: int) -> bool:
    """Whether a file is stored as a large one."""
    return size > 0 and (path.endswith(LFS_SUFFIXES) or size >= LFS_FROM)
