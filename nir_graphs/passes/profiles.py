"""Profiles: passes that write an equal graph in a vocabulary that more tools read.

To add one, write a pass in a file of its own and name it in ``PROFILES``. Its ``ensures`` states what its readers need.
"""

from __future__ import annotations

import difflib

from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.passes.base import Notes, Pass
from zoo.nir_graphs.passes.stock import stock


class Full(Pass):
    """The graph as it is: standard NIR, which ``nir.read(path, type_check=False)`` loads."""

    def call(self, graph: FlatGraph) -> tuple[FlatGraph, Notes]:
        """See the class."""
        return graph, ()

    def ensures(self, before: FlatGraph, after: FlatGraph) -> None:
        """Nothing changed."""
        if before is not after:
            raise InvalidGraphError("the profile 'full' changed a graph")


PROFILES: dict[str, Pass] = {"full": Full(), "stock": stock}
"""By the name that ``zoo.export(profile=...)`` takes."""


def get_profile(name: str) -> Pass:
    """A profile by name.

    Raises:
        InvalidInputError: there is no such profile; names close ones.
    """
    if not isinstance(name, str) or name not in PROFILES:
        close = difflib.get_close_matches(str(name), PROFILES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(PROFILES)}"
        raise InvalidInputError(f"there is no profile {name!r}; {hint}")
    return PROFILES[name]
