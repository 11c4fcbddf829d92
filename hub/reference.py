"""Which repository on the Hub, at which revision, and what its files must be."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from zoo.errors import InvalidInputError

SCHEME = "hf-hub:"
_REPO = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"
_REVISION = r"[A-Za-z0-9][\w./-]{0,199}"
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Reference:
    """A model on the Hub.

    Attributes:
        repo: ``organisation/name``.
        revision: branch, tag, or commit of 40 hexadecimal digits, which never changes.
        manifest: sha256 of its ``manifest.json``, where somebody trusted has said so; it covers every other file.
    """

    repo: str
    revision: str = "main"
    manifest: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit."""
        return COMMIT.fullmatch(self.revision) is not None

    def at(self, revision: str) -> Reference:
        """The same repository at another revision."""
        return replace(self, revision=revision)

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


def check_repo(repo: str) -> str:
    """The name of a repository.

    Raises:
        InvalidInputError: it is not ``organisation/name``.
    """
    if re.fullmatch(_REPO, repo) is None or ".." in repo or "--" in repo:
        raise InvalidInputError(
            f"a repository on the Hub is organisation/name, for example spikes/my-model, not {repo!r}"
        )
    return repo


def check_revision(revision: str) -> str:
    """A branch, tag or commit.

    Raises:
        InvalidInputError: it cannot be one.
    """
    if re.fullmatch(_REVISION, revision) is None or ".." in revision:
        raise InvalidInputError(f"a revision is a branch, a tag or a commit, not {revision!r}")
    return revision


def parse(text: str, revision: str | None = None) -> Reference:
    """``hf-hub:organisation/name`` or ``hf-hub:organisation/name@revision``.

    Args:
        text: as the user gave it.
        revision: given beside it.

    Raises:
        InvalidInputError: anything else; two revisions.
    """
    repo, at, given = text.removeprefix(SCHEME).partition("@")
    if at and revision is not None and given != revision:
        raise InvalidInputError(f"{text} names the revision {given!r}, and revision={revision!r} another; give one")
    wanted = given if at else "main" if revision is None else revision
    return Reference(check_repo(repo), check_revision(wanted))
