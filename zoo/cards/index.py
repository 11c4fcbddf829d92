"""The index: every card that is known, with or without weights beside it.

``ZOO_INDEX`` names a folder with cards of one's own (``zoo publish --index`` makes them), which come first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zoo.cards.card import Card, read_card
from zoo.errors import FileMissingError

CARDS = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One card of the index.

    Attributes:
        card: what it says.
        directory: where it lies; the model too, if it ships with the card.
    """

    card: Card
    directory: Path

    @property
    def has_weights(self) -> bool:
        """Whether the model lies beside its card."""
        return (self.directory / "config.json").exists()


@cache
def _read(directory: Path) -> dict[str, Entry]:
    return {path.parent.name: Entry(read_card(path), path.parent) for path in sorted(directory.glob("*/card.json"))}


def index() -> dict[str, Entry]:
    """Every card that is known, by name, in alphabetical order.

    Raises:
        FileMissingError: ``ZOO_INDEX`` names no folder.
        ConfigError: a card in it is invalid.
    """
    own = os.environ.get("ZOO_INDEX", "")
    if not own:
        return dict(_read(CARDS))
    folder = Path(own).expanduser()
    if not folder.is_dir():
        raise FileMissingError(f"ZOO_INDEX names the folder {own}, which does not exist")
    return dict(sorted({**_read(CARDS), **_read.__wrapped__(folder)}.items()))
