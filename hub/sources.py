"""From a name to the folder that holds the model.

In this order: a path that exists; a card of the index whose weights ship with the package; a card whose weights lie on the
Hugging Face Hub, pinned to a commit and a sha256; ``hf-hub:organisation/name@revision``. ``ZOO_HUB_NAMESPACE`` points the index
at another organisation of the Hub: its repositories have the names of the models, and are read at ``main``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.cards.card import Card
from zoo.cards.index import CARDS, Entry, index
from zoo.errors import FileMissingError, HubError, InvalidInputError, UnknownModelError
from zoo.hub.bundle import CARD, CONFIG, read_card_of
from zoo.hub.pull import pull
from zoo.hub.reference import Reference, check_repo, check_revision, parse

_SCHEME = "hf-hub:"


@dataclass(frozen=True)
class Source:
    """Where a model lies.

    Attributes:
        name: as the user gave it.
        directory: a model folder, or what the cache holds of one.
        card: of the model, or None where a folder has no card.
        trusted: its manifest ships with the package or is the one that the index names. Anything else may be hostile.
        reference: on the Hub; None for a folder on this machine.
    """

    name: str
    directory: Path
    card: Card | None
    trusted: bool = False
    reference: Reference | None = None

    def need(self, *names: str) -> None:
        """See to it that files are there; what lies on the Hub is pulled and checked.

        Raises:
            HubError, CorruptFileError, FileMissingError: see :func:`zoo.hub.pull.pull`.
        """
        if self.reference is not None:
            pull(self.reference, names)


def _is_path(text: str) -> bool:
    return os.sep in text or text.startswith((".", "~")) or text.endswith((".nir", ".safetensors", ".pt", ".pth"))


def resolve(name_or_path: str | Path, *, revision: str | None = None) -> Source:
    """Find a model; from the Hub, its card and configuration are pulled.

    Args:
        name_or_path: a model folder, the name of a card, or ``hf-hub:organisation/name@revision``.
        revision: branch, tag or commit of a model on the Hub; folders and bundled models have none.

    Raises:
        FileMissingError: a path that does not exist.
        InvalidInputError: a path that is a file; a revision where there are none.
        UnknownModelError: no such name; the message lists close ones. Or: the weights are not published yet.
        HubError, CorruptFileError: see :func:`zoo.hub.pull.pull`.
    """
    text = os.fspath(name_or_path)
    if not text:
        raise UnknownModelError("an empty model name was given; `zoo list` shows the names")
    if text.startswith(_SCHEME):
        return _pulled(text, parse(text, revision), None)
    path = Path(text).expanduser()
    entries = index()
    explicit = isinstance(name_or_path, Path) or _is_path(text)
    if path.is_dir() and (explicit or text not in entries or (path / "manifest.json").exists()):
        _refuse_revision(text, revision)
        return Source(text, path, None)
    if path.is_file():
        raise InvalidInputError(f"{text} is a file, not a model folder; zoo.import_nir runs any .nir file")
    if explicit:
        raise FileMissingError(f"there is no model folder {text}")
    if text not in entries:
        raise UnknownModelError(_unknown(text, entries))
    return _indexed(text, entries[text], revision)


def _indexed(name: str, entry: Entry, revision: str | None) -> Source:
    if entry.has_weights:
        _refuse_revision(name, revision)
        return Source(name, entry.directory, entry.card, trusted=entry.directory.parent == CARDS)
    reference = _on_hub(name, entry.card, revision)
    if reference is None:
        raise UnknownModelError(f"no weights of {name} are published yet. {entry.card.how_to_get}".rstrip())
    return _pulled(name, reference, entry.card)


def _on_hub(name: str, card: Card, revision: str | None) -> Reference | None:
    """Where the index says that a model lies."""
    pin = card.hub
    organisation = os.environ.get("ZOO_HUB_NAMESPACE", "")
    wanted = None if revision is None else check_revision(revision)
    if organisation:
        repo = check_repo(f"{organisation}/{name if pin is None else pin.repo.split('/')[1]}")
        return Reference(repo, wanted or "main", None if pin is None or wanted else pin.manifest)
    if pin is None:
        return None
    if wanted not in (None, pin.commit):
        return Reference(pin.repo, str(wanted))
    return Reference(pin.repo, pin.commit, pin.manifest)


def _pulled(name: str, reference: Reference, card: Card | None) -> Source:
    directory, commit = pull(reference, (CARD, CONFIG))
    found = read_card_of(directory)
    if card is not None and (found.arch, found.dataset) != (card.arch, card.dataset):
        raise HubError(
            f"{reference} is not {name}: its card says {found.arch} trained on {found.dataset or 'unknown data'}, not "
            f"{card.arch} trained on {card.dataset}"
        )
    return Source(name, directory, found, trusted=reference.manifest is not None, reference=commit)


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise InvalidInputError(f"revision={revision!r} was given, but {name!r} has no revisions")


def _unknown(name: str, entries: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, entries, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"there is no model {name!r}; {hint}`zoo list` or zoo.list_models() shows all names"
