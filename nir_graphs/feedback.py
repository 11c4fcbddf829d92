"""Cycles without a Delay, which graphs of others contain: where the step lies, and the Delays that say so.

The rule of DESIGN.md section 3b: the output of the one neuron in a cycle acts one step later inside the cycle. So the Delay
goes on those out-edges of the neuron that lie inside; external input and biases act at once. What passes through no neuron, or
through several, does not say where the step lies, and is refused unless the caller names the edges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs.fields import names
from zoo.nir_graphs.flatten import Draft, Pair
from zoo.nir_graphs.nodes import NEURONS
from zoo.nir_graphs.structure import cycles


def delay_said(draft: Draft, dt: float, said: Iterable[Pair]) -> None:
    """Delays on the edges that the caller names, which must lie on cycles without one."""
    pairs = _pairs(said)
    if not pairs:
        return
    component_of = {name: i for i, component in enumerate(cycles(draft.reads)) for name in component}
    found = draft.saying(pairs)
    for (source, target), places in found.items():
        if not places:
            raise InvalidInputError(f"delayed_edges names {source} -> {target}, which is no edge of the graph")
        ends = [draft.edges[place].ends for place in places]
        if not any(a in component_of and component_of[a] == component_of.get(b) for a, b in ends):
            raise InvalidInputError(f"delayed_edges names {source} -> {target}, which is on no cycle without a Delay")
    _delay(draft, sorted({place for places in found.values() for place in places}), dt)


def _pairs(said: Any) -> list[Pair]:
    """The edges that the caller names, each once."""
    edges = list(said) if isinstance(said, Iterable) and not isinstance(said, str) else [said]
    for edge in edges:
        if not (isinstance(edge, tuple | list) and len(edge) == 2 and all(isinstance(end, str) for end in edge)):
            raise InvalidInputError(f"delayed_edges must be pairs of node names, [(source, target), ...]; got {edge!r}")
    return list(dict.fromkeys((str(source), str(target)) for source, target in edges))


def delay_cycles(draft: Draft, dt: float) -> None:
    """Put the Delays into cycles that have none."""
    component_of: dict[str, int] = {}
    neuron_of: dict[int, str] = {}
    for number_of, component in enumerate(cycles(draft.reads)):
        neurons = [name for name in component if type(draft.nodes[name]) in NEURONS]
        if len(neurons) != 1:
            _refuse_cycle(draft, set(component), neurons)
        component_of |= dict.fromkeys(component, number_of)
        neuron_of[number_of] = neurons[0]
    if not component_of:
        return
    _split_borders(draft, component_of, set(neuron_of.values()))
    late = [
        place
        for place, (source, target) in enumerate(edge.ends for edge in draft.edges)
        if source in component_of
        and component_of[source] == component_of.get(target)
        and neuron_of[component_of[source]] == source
    ]
    _delay(draft, late, dt)
    for component in cycles(draft.reads):
        raise InvalidGraphError(
            f"the nodes {names(component)} form a cycle without a Delay and without a neuron; put a nir.Delay of one dt on "
            "the edge that closes it"
        )


def _refuse_cycle(draft: Draft, members: set[str], neurons: list[str]) -> NoReturn:
    listed = names((" -> ".join(edge.ends) for edge in draft.edges if members.issuperset(edge.ends)), 12)
    through = f"{len(neurons)} neurons ({names(neurons)})" if neurons else "no neuron"
    raise InvalidGraphError(
        f"the edges {listed} form a cycle without a Delay that passes through {through}, so it does not say where the step "
        "lies; name the edges that act one step later with delayed_edges=[(source, target)], or put a nir.Delay of one dt "
        "on them"
    )


def _split_borders(draft: Draft, component_of: Mapping[str, int], neurons: Collection[str]) -> None:
    """Keep late values out of what lies outside the cycle.

    The border of a subgraph with several in-edges has become a Scale(1). Where it passes the output of a cycle's neuron on
    both into the cycle and out of it, only the former is late, as it were without the subgraph. So it gets a twin for the
    edges that leave the cycle.
    """
    borders = {name for name in draft.sums if name in component_of}
    if not borders:
        return

    def same(source: str, target: str) -> bool:
        return source in component_of and component_of[source] == component_of.get(target)

    late: set[str] = set()  # borders that the neuron's output reaches through nothing but borders
    queue = list(neurons)
    targets, sources = draft.targets, draft.sources
    while queue:
        here = queue.pop()
        new = [name for name in targets[here] if name in borders and name not in late and same(here, name)]
        late.update(new)
        queue += new
    twins = {name for name in late if not all(same(name, target) for target in targets[name])}
    queue = list(twins)
    while queue:
        new = [name for name in sources[queue.pop()] if name in late and name not in twins]
        twins.update(new)
        queue += new
    if not twins:
        return
    twin = {name: draft.add(f"{name}.now", draft.nodes[name]) for name in list(draft.nodes) if name in twins}
    edges = []
    for edge in draft.edges:
        source, target = edge.ends
        leaves = source in twin and not same(source, target)
        edges.append(replace(edge, ends=(twin[source], target)) if leaves else edge)
        if target in twin:
            edges.append(replace(edge, ends=(twin.get(source, source), twin[target])))
    draft.edges = edges


def _delay(draft: Draft, late: Collection[int], dt: float) -> None:
    acts_on: dict[str, dict[str, None]] = {}
    for place in late:
        source, target = draft.edges[place].ends
        acts_on.setdefault(source, {})[target] = None
    delays = draft.delay(late, dt)
    for source, targets in acts_on.items():
        draft.note(
            "feedback",
            f"a cycle without a Delay: the output of {source!r} acts one step later on {names(targets)} (through the new "
            f"Delay {delays[source]!r})",
        )
