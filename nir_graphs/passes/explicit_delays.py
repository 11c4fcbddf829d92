"""Pass: make the delay of a recurrent connection explicit.

Published NIR files contain cycles without any Delay, such as LIF <-> Linear. The platforms of the NIR paper all read them
the same way: what comes back arrives one step later. The pass puts a Delay of one step on the edge that closes the cycle back
into the neuron.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from zoo.errors import InvalidGraphError
from zoo.nir_graphs.passes.base import Pass, rebuilt
from zoo.nir_graphs.structure import evaluation_order, predecessors, strong_components

STATEFUL = (nir.LIF, nir.IF, nir.CubaLIF, nir.LI, nir.I, nir.CubaLI)


class ExplicitDelays(Pass):
    """Inserts a one-step Delay into every cycle that has none.

    Args:
        dt: length of a step.

    Attributes:
        inserted: the edges (source, target) that got a Delay in the last call.
    """

    def __init__(self, dt: float) -> None:
        self.dt = dt
        self.inserted: list[tuple[str, str]] = []

    def call(self, graph: nir.NIRGraph) -> nir.NIRGraph:
        """See the class.

        Raises:
            InvalidGraphError: a cycle with no neuron, or with several, where it is not clear which edge closes it.
        """
        self.inserted = []
        edges = list(graph.edges)
        nodes: dict[str, nir.NIRNode] = dict(graph.nodes)
        within = {
            name: [] if isinstance(graph.nodes[name], nir.Delay) else before
            for name, before in predecessors(graph).items()
        }
        for component in strong_components(within):
            if len(component) == 1 and component[0] not in within[component[0]]:
                continue
            neurons = [name for name in component if isinstance(graph.nodes[name], STATEFUL)]
            if len(neurons) != 1:
                raise InvalidGraphError(
                    f"the nodes {', '.join(component)} form a cycle without a Delay and with {len(neurons)} neurons, so which "
                    "edge closes it is ambiguous; put a nir.Delay of one dt on that edge"
                )
            for source in [s for s in within[neurons[0]] if s in component]:
                self._insert(nodes, edges, (source, neurons[0]))
        return rebuilt(graph, nodes, edges) if self.inserted else graph

    def _insert(self, nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]], edge: tuple[str, str]) -> None:
        source, target = edge
        shape = np.shape(_first_parameter(nodes[target]))
        name = f"{source}.delay"
        while name in nodes:
            name += "_"
        nodes[name] = nir.Delay(np.full(shape, self.dt))
        # feedback is summed last
        edges.remove(edge)
        edges += [(source, name), (name, target)]
        self.inserted.append(edge)

    def ensures(self, graph: nir.NIRGraph) -> None:
        """Every cycle passes through a Delay."""
        evaluation_order(graph)


def _first_parameter(node: Any) -> Any:
    return node.r
