"""From a name to the folder that holds the model: an existing path, then a card that ships with the package."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zoo.cards.card import Card, read_card
from zoo.errors import FileMissingError, InvalidInputError, UnknownModelError

CARDS = Path(__file__).parent


@dataclass(frozen=True)
class Source:
    """Where a model lies.

    Attributes:
        name: as the user gave it.
        directory: a model folder.
        card: of the model, or None where a folder has no card.
    """

    name: str
    directory: Path
    card: Card | None


@cache
def _read(directory: Path) -> dict[str, Card]:
    return {path.parent.name: read_card(path) for path in sorted(directory.glob("*/card.json"))}


def bundled() -> dict[str, Card]:
    """Every card that ships with the package, by name, in alphabetical order."""
    return dict(_read(CARDS))


def _is_path(text: str) -> bool:
    return os.sep in text or text.startswith((".", "~")) or text.endswith((".nir", ".safetensors", ".pt", ".pth"))


def resolve(name_or_path: str | Path, *, revision: str | None = None) -> Source:
    """Find a model.

    Args:
        name_or_path: a model folder, or the name of a card.
        revision: of a model on the Hugging Face Hub; folders and bundled models have none.

    Raises:
        FileMissingError: a path that does not exist.
        InvalidInputError: a path that is a file; a revision where there are none.
        UnknownModelError: no such name; the message lists close ones. Or: the weights are not published yet.
    """
    text = os.fspath(name_or_path)
    if not text:
        raise UnknownModelError("an empty model name was given; `zoo list` shows the names")
    if text.startswith("hf-hub:"):
        raise UnknownModelError(
            f"{text}: this version does not load from the Hugging Face Hub; download the model's folder and give its path"
        )
    if revision is not None:
        raise InvalidInputError(f"revision={revision!r} was given, but {text!r} has no revisions")
    path = Path(text).expanduser()
    cards = bundled()
    explicit = isinstance(name_or_path, Path) or _is_path(text)
    if path.is_dir() and (explicit or text not in cards or (path / "manifest.json").exists()):
        return Source(text, path, None)
    if path.is_file():
        raise InvalidInputError(f"{text} is a file, not a model folder; zoo.import_nir runs any .nir file")
    if explicit:
        raise FileMissingError(f"there is no model folder {text}")
    if text not in cards:
        raise UnknownModelError(_unknown(text, cards))
    if not cards[text].available:
        raise UnknownModelError(f"no weights of {text} are published yet. {cards[text].how_to_get}".rstrip())
    return Source(text, CARDS / text, cards[text])


def _unknown(name: str, cards: dict[str, Card]) -> str:
    close = difflib.get_close_matches(name, cards, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"there is no model {name!r}; {hint}`zoo list` or zoo.list_models() shows all names"
