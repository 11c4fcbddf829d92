"""The order in which a graph's nodes can be evaluated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from zoo.errors import InvalidGraphError

Sources = Mapping[str, Sequence[str]]


def sources_of(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """For each node the sources of its in-edges, in the order of the edge list: the order in which they are summed.

    Raises:
        InvalidGraphError: an edge names a node that does not exist.
    """
    sources: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        for name in (source, target):
            if name not in sources:
                raise InvalidGraphError(f"the edge {source} -> {target} names the node {name!r}, which does not exist")
        sources[target].append(source)
    return sources


def strong_components(sources: Sources) -> list[list[str]]:
    """Strongly connected components, each after all those it depends on (Tarjan 1972, iterative)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    components: list[list[str]] = []
    for root, children_of_root in sources.items():
        if root in index:
            continue
        work = [(root, iter(children_of_root))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, children = work[-1]
            for child in children:
                if child not in index:
                    index[child] = low[child] = len(index)
                    stack.append(child)
                    on_stack.add(child)
                    work.append((child, iter(sources[child])))
                    break
                if child in on_stack:
                    low[node] = min(low[node], index[child])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    components.append(component[::-1])
    return components


def within_step(sources: Sources, delays: Collection[str]) -> dict[str, Sequence[str]]:
    """What each node reads within one step: a Delay reads the step before."""
    return {name: () if name in delays else before for name, before in sources.items()}


def cycles(sources: Sources) -> list[list[str]]:
    """The strongly connected components that are cycles: several nodes, or one that reads itself."""
    return [c for c in strong_components(sources) if len(c) > 1 or c[0] in sources[c[0]]]


def evaluation_order(sources: Sources, delays: Collection[str]) -> list[str]:
    """Nodes ordered so that within one time step each comes after those it reads; a Delay reads the step before.

    Raises:
        InvalidGraphError: a cycle without a Delay; the message names its nodes.
    """
    reads = within_step(sources, delays)
    order = []
    for component in strong_components(reads):
        if len(component) > 1 or component[0] in reads[component[0]]:
            raise InvalidGraphError(
                f"the nodes {', '.join(component)} form a cycle without a Delay, so their values would depend on "
                "themselves within one step; put a nir.Delay of one dt on the edge that closes the cycle"
            )
        order.append(component[0])
    return order
