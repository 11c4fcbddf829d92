"""Getting a model from the Hub into the cache, checked before anything of it is opened.

The client library does not verify what it downloads (a wrong byte in a body of the right size is cached for good), so every
file is hashed here, whenever it is used: against ``manifest.json``, and that against what the index says, where it does. Only
the files in ``FILES`` are ever asked for. A commit that is in the cache costs no request.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.errors import CorruptFileError, FileMissingError, HubError, HubUnreachableError
from zoo.hub.bundle import CARD, CONFIG, GRAPH, TRAINABLE, WEIGHTS
from zoo.hub.client import TIMEOUT, Client, explained, from_environment, quiet_bars, unreachable
from zoo.hub.integrity import MANIFEST, MANIFEST_LIMIT, Manifest, digest, read_manifest
from zoo.hub.reference import COMMIT, Reference

LIMITS = {
    MANIFEST: MANIFEST_LIMIT,
    CARD: 2**20,
    CONFIG: 2**20,
    WEIGHTS: 4 * 2**30,
    TRAINABLE: 4 * 2**30,
    GRAPH: 4 * 2**30,
}
"""The only files that are ever downloaded, and how many bytes each may have."""
FILES = tuple(name for name in LIMITS if name != MANIFEST)

log = logging.getLogger("zoo.hub")


def pull(reference: Reference, files: Iterable[str] = (), *, client: Client | None = None) -> tuple[Path, Reference]:
    """Bring files of a model into the cache, unless they are there, and check every one of them.

    Args:
        reference: repository and revision. A branch or tag costs one request; where the Hub does not answer, the revision
            that was pulled last is used, with a warning. A commit costs none once its files are here.
        files: names out of ``FILES``; others of the repository are never touched.
        client: instead of the environment's.

    Returns:
        The folder that holds them, and the reference with the commit that it was resolved to.

    Raises:
        HubError: no such repository, revision or file; too large; not a model of the zoo.
        HubAccessError: it is private or gated.
        HubUnreachableError: no answer, and not everything is in the cache.
        CorruptFileError: the Hub's content is not what its manifest, or the index, says; it was removed from the cache.
    """
    client = client or from_environment()
    reference, sizes = _resolved(reference, client)
    download = _Download(reference, client, sizes)
    manifest = download.manifest()
    for name in files:
        download.file(name, manifest)
    return download.folder, reference


def _resolved(reference: Reference, client: Client) -> tuple[Reference, dict[str, int] | None]:
    """The reference with a commit for a revision, and the sizes of its files if they had to be asked for."""
    if reference.pinned:
        return reference, None
    cached = _cached(reference, client, MANIFEST)
    known = None if cached is None else reference.at(cached.parent.name)
    if client.offline:
        if known is None:
            raise unreachable(str(reference), client)
        return known, None
    try:
        commit, sizes = _ask(reference, client)
    except HubUnreachableError:
        if known is None:
            raise
        log.warning(
            "%s does not answer: using the commit %s of %s, which was pulled before",
            client.endpoint,
            known.revision[:12],
            reference,
        )
        return known, None
    if known is not None and known.revision == commit:
        return known, sizes
    _check_size(reference, MANIFEST, sizes)
    # by the name of the branch or tag, so that the cache notes what it stands for
    return reference.at(_download(reference, client, MANIFEST, force=False).parent.name), sizes


def _ask(reference: Reference, client: Client) -> tuple[str, dict[str, int]]:
    """Commit and sizes of the files, from the Hub."""
    with explained(str(reference), client):
        info: Any = client.api().model_info(
            reference.repo, revision=reference.revision, files_metadata=True, timeout=TIMEOUT
        )
    return str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or []}


def _check_size(reference: Reference, name: str, sizes: dict[str, int]) -> None:
    """Refuse what is not there, or is too large, before it is downloaded."""
    if name not in sizes:
        raise HubError(f"{reference} has no {name}" + ("; it is not a model of the zoo" if name == MANIFEST else ""))
    if sizes[name] > LIMITS[name]:
        raise HubError(
            f"{name} of {reference} has {sizes[name]:,} bytes; the limit is {LIMITS[name]:,}: not downloaded"
        )


def _cached(reference: Reference, client: Client, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(reference.repo, name, cache_dir=client.cache, revision=reference.revision)
    return Path(found) if isinstance(found, str) else None


def _download(reference: Reference, client: Client, name: str, *, force: bool) -> Path:
    from huggingface_hub import hf_hub_download

    with explained(f"{name} of {reference}", client), quiet_bars():
        return Path(
            hf_hub_download(
                reference.repo, name, revision=reference.revision, cache_dir=client.cache, endpoint=client.endpoint,
                force_download=force, etag_timeout=TIMEOUT, library_name="nir-zoo",
                local_files_only=client.offline,
            )
        )  # fmt: skip


def _discard(path: Path) -> None:
    """Take a file out of the cache: the name in the snapshot and the content behind it."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    content.unlink(missing_ok=True)


def _is_what_its_name_says(content: Path) -> bool:
    """Whether a small file of the cache has the content that git's name for it stands for; True where it has no such name."""
    if COMMIT.fullmatch(content.name) is None:
        return True
    from huggingface_hub.utils.sha import git_hash

    return git_hash(content.read_bytes()) == content.name


class _Download:
    """Files of one commit."""

    def __init__(self, reference: Reference, client: Client, sizes: dict[str, int] | None) -> None:
        self.reference = reference
        self.client = client
        self.sizes = sizes

    def manifest(self) -> Manifest:
        """The manifest, which is what the index says where it says something."""
        path, manifest, why = self._read_manifest(self._get(MANIFEST))
        if manifest is None:
            self._refuse_offline(path, why)
            log.warning("%s in the cache is damaged: it is fetched again", path)
            path, manifest, why = self._read_manifest(self._get(MANIFEST, again=True))
        if manifest is None:
            _discard(path)
            raise CorruptFileError(
                f"{MANIFEST} of {self.reference} is not what it should be: {why}; nothing of it is used"
            )
        self.folder = path.parent
        return manifest

    def _read_manifest(self, path: Path) -> tuple[Path, Manifest | None, str]:
        """The manifest, or None and what is wrong with it."""
        wanted = self.reference.manifest
        if wanted is not None and (found := digest(path).sha256) != wanted:
            return path, None, f"its sha256 is {found[:12]}..., the index says {wanted[:12]}..."
        if not _is_what_its_name_says(path.resolve()):
            return path, None, "its content is not what git's name for it says"
        try:
            return path, read_manifest(path.parent), ""
        except CorruptFileError as error:
            return path, None, str(error)

    def file(self, name: str, manifest: Manifest) -> Path:
        """A file whose content was checked."""
        if name not in FILES:
            raise HubError(f"{name} is never downloaded; a model of the zoo consists of {', '.join(FILES)}")
        entry = manifest.files.get(name)
        if entry is None:
            raise FileMissingError(f"{self.reference} has no {name}: its manifest does not list one")
        if entry.size > LIMITS[name]:
            raise HubError(f"{name} of {self.reference} has {entry.size:,} bytes; the limit is {LIMITS[name]:,}")
        path = _cached(self.reference, self.client, name)
        if path is not None:
            if digest(path) == entry:
                return path
            self._refuse_offline(path, "its sha256 is not what the manifest says")
            log.warning("%s in the cache is damaged: it is fetched again", path)
            _discard(path)
        path = self._get(name, again=path is not None)
        if (found := digest(path)) != entry:
            _discard(path)
            raise CorruptFileError(
                f"the Hub delivered a damaged {name} of {self.reference}: {found.size:,} bytes with sha256 "
                f"{found.sha256[:12]}..., instead of {entry.size:,} with {entry.sha256[:12]}...; it was not opened and is not "
                "kept. Run the same again"
            )
        return path

    def _refuse_offline(self, path: Path, why: str) -> None:
        if self.client.offline:
            raise CorruptFileError(
                f"{path} in the cache is damaged ({why}), and HF_HUB_OFFLINE is set; pull it while online"
            )

    def _get(self, name: str, *, again: bool = False) -> Path:
        path = None if again else _cached(self.reference, self.client, name)
        if path is not None:
            return path
        if not self.client.offline:
            if self.sizes is None:
                self.sizes = _ask(self.reference, self.client)[1]
            _check_size(self.reference, name, self.sizes)
        return _download(self.reference, self.client, name, force=again)
