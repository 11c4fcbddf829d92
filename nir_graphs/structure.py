"""The order in which a graph's nodes can be evaluated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import nir

from zoo.errors import InvalidGraphError

Edges = Iterable[tuple[str, str]]


def predecessors(graph: nir.NIRGraph) -> dict[str, list[str]]:
    """For each node the sources of its in-edges, in the order of the edge list: the order in which they are summed.

    Raises:
        InvalidGraphError: an edge names a node that does not exist.
    """
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        for name in (source, target):
            if name not in graph.nodes:
                raise InvalidGraphError(f"the edge {source} -> {target} names the node {name!r}, which does not exist")
        sources[target].append(source)
    return sources


def strong_components(sources: dict[str, list[str]]) -> list[list[str]]:
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


def evaluation_order(graph: nir.NIRGraph) -> list[str]:
    """Nodes ordered so that within one time step each comes after those it reads; a Delay reads the step before.

    Raises:
        InvalidGraphError: a cycle without a Delay; the message names its nodes.
    """
    sources = predecessors(graph)
    within_step = {name: [] if isinstance(graph.nodes[name], nir.Delay) else before for name, before in sources.items()}
    order = []
    for component in strong_components(within_step):
        if len(component) > 1 or component[0] in within_step[component[0]]:
            raise InvalidGraphError(
                f"the nodes {', '.join(component)} form a cycle without a Delay, so their values would depend on "
                "themselves within one step; put a nir.Delay of one dt on the edge that closes the cycle"
            )
        order.append(component[0])
    return order


def successors(graph: nir.NIRGraph) -> dict[str, list[str]]:
    """For each node the targets of its out-edges, in edge order."""
    targets: dict[str, list[str]] = defaultdict(list)
    for source, target in graph.edges:
        targets[source].append(target)
    return {name: targets[name] for name in graph.nodes}
