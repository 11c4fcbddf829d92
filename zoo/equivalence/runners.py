"""What is compared: the snnTorch definition, seen through hooks on its neurons, and backends that run the exported graph.

Both record the outputs and the binary spikes of every neuron node.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

from zoo.detectors.detector import Detector
from zoo.errors import InvalidInputError
from zoo.layers.neurons import FoldedNeuron
from zoo.layers.rate_neurons import SignedIF
from zoo.nir_graphs.graph import FlatGraph

Array = npt.NDArray[Any]


class Recorded(Protocol):
    """Outputs and spikes by node, each (T, B, ...)."""

    @property
    def outputs(self) -> Mapping[str, Array]:
        """By Output node."""
        ...

    @property
    def spikes(self) -> Mapping[str, Array]:
        """By neuron node."""
        ...


@dataclass
class Recording:
    """What the hooks on the snnTorch module saw, in the form of a backend's trace."""

    outputs: dict[str, Array] = field(default_factory=dict)
    spikes: dict[str, Array] = field(default_factory=dict)


class Runner(Protocol):
    """Runs frames (T, B, C, H, W) and records outputs and spikes of every neuron node."""

    name: str
    dtype: torch.dtype
    own_cells: tuple[int, int] | None

    def run(self, frames: Tensor) -> Recorded:
        """Outputs and spikes, each (T, B, ...)."""
        ...


class ModuleRunner:
    """The snnTorch definition, seen through hooks on its neurons.

    Args:
        detector: fused.
        graph: its exported form, whose metadata say which nodes each neuron module became.
        dtype: of weights and arithmetic.

    Raises:
        InvalidInputError: the graph belongs to another detector.
    """

    name = "module"
    own_cells: tuple[int, int] | None = None

    def __init__(self, detector: Detector, graph: FlatGraph, dtype: torch.dtype) -> None:
        self.network = copy.deepcopy(detector.network).to(dtype)
        self.dtype = dtype
        self.steps = detector.time_steps
        self.info = graph.info
        self.owners = {node: name for name, groups in self.info.neurons.items() for nodes in groups for node in nodes}
        self.channels = {node: graph.nodes[node].shape[0] for node in self.owners}
        neurons = {name for name, module in self.network.named_modules() if isinstance(module, FoldedNeuron)}
        self.signed = {name for name in neurons if isinstance(self.network.get_submodule(name), SignedIF)}
        if neurons != set(self.info.neurons):
            odd = sorted(neurons ^ set(self.info.neurons))
            raise InvalidInputError(f"graph and detector do not have the same neurons, see {', '.join(odd[:3])}")

    def run(self, frames: Tensor) -> Recording:
        """Run the module itself; see :class:`Runner`."""
        counts: dict[str, Tensor] = {}
        hooks = [
            self.network.get_submodule(name).register_forward_hook(
                lambda _module, _inputs, count, name=name: counts.update({name: count})
            )
            for name in self.info.neurons
        ]
        try:
            with torch.inference_mode():
                maps = self.network(frames.flatten(0, 1).to(self.dtype))
        finally:
            for hook in hooks:
                hook.remove()
        recording = Recording()
        for output, folded in zip(self.info.outputs, maps, strict=True):
            recording.outputs[output["node"]] = self._unfold(folded)
        for name, count in counts.items():
            recording.spikes.update(self._levels(name, self._unfold(count)))
        return recording

    def _unfold(self, folded: Tensor) -> Array:
        array: Array = folded.unflatten(0, (self.steps, -1)).numpy()
        return array

    def _levels(self, name: str, count: Array) -> Iterator[tuple[str, Array]]:
        """A module's counts (T, B, C, H, W) as binary spikes by node.

        Where a neuron follows a concatenation, it became one node per level and segment; segments share C in order.
        """
        start = 0
        for nodes in self.info.neurons[name]:
            stop = start + self.channels[nodes[0]]
            part = count[:, :, start:stop]
            if name in self.signed:
                yield from zip(nodes, (part > 0, part < 0), strict=False)
            else:
                yield from ((node, part >= level) for level, node in enumerate(nodes, start=1))
            start = stop


class GraphRunner:
    """A backend that runs the exported graph.

    Args:
        name: of the backend.
        graph: what it runs.
        dtype: of weights and arithmetic.

    Raises:
        UnsupportedGraphError: the backend cannot run it exactly.
    """

    def __init__(self, name: str, graph: FlatGraph, dtype: torch.dtype) -> None:
        from zoo.adapters.base import get_backend

        self.name = name
        self.dtype = dtype
        self.runnable = get_backend(name).build(graph, dtype=dtype)
        self.own_cells: tuple[int, int] | None = self.runnable.own_cells

    def run(self, frames: Tensor) -> Recorded:
        """See :class:`Runner`."""
        with torch.inference_mode():
            trace: Recorded = self.runnable.run(frames.to(self.dtype), record="neurons")
        return trace
