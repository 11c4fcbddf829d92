"""Model cards: what each named model is, what it was trained on, and what was measured.

A card lies beside its model as ``card.json``. Cards that ship with the package are folders here; a folder that holds a card
only names a model whose weights are not published yet, and says how to get them.
"""

from zoo.cards.card import (
    Activity,
    Card,
    Certified,
    Equivalence,
    HubPin,
    Metric,
    Paper,
    Provenance,
    parse_card,
    read_card,
)
from zoo.cards.index import CARDS, Entry, index

__all__ = [
    "CARDS",
    "Activity",
    "Card",
    "Certified",
    "Entry",
    "Equivalence",
    "HubPin",
    "Metric",
    "Paper",
    "Provenance",
    "index",
    "parse_card",
    "read_card",
]
