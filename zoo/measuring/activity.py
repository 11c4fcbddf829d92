"""Spikes and synaptic operations of a detector, counted on its exported graph as the reference interpreter runs it.

The convention is NeuroBench's (Yik et al., Nature Communications 2025, "synaptic operations"): a synaptic operation is
*effective* if neither its input nor its weight is zero. It is an accumulate (AC) where the inputs of a layer are spikes, and
a multiply-accumulate (MAC) where they are other numbers. *Dense* counts all, zeros too, without the padding. Layers are Conv1d,
Conv2d, Linear and Affine nodes; sums that lower an index map (upsampling, pooling of levels) are counted like any other,
since a chip would compute them. An input that is a whole number n, such as the sum of the D levels of an integer neuron, is |n|
spikes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.detectors.detector import Detector
from zoo.equivalence.probes import default_images
from zoo.nir_graphs import reference
from zoo.nir_graphs.graph import FlatGraph, FlatNode
from zoo.nir_graphs.normalise import normalise
from zoo.support.progress import progress_bar

CONVENTION = (
    "NeuroBench's effective operations: input and weight are not zero; additions (ACs) for spikes, products (MACs) for other "
    "numbers; a sum of n spikes counts n times; padding excluded."
)
SYNAPTIC = frozenset({nir.Conv1d, nir.Conv2d, nir.Linear, nir.Affine})
Array = npt.NDArray[np.float64]


@dataclass
class Activity:
    """Sums over all images and time steps that were observed.

    Attributes:
        images: how many.
        spikes: fired.
        places: neurons times time steps times images: what could have fired.
        dense_macs, effective_acs, effective_macs: operations.
    """

    images: int = 0
    spikes: float = 0.0
    places: float = 0.0
    dense_macs: float = 0.0
    effective_acs: float = 0.0
    effective_macs: float = 0.0
    _fan_outs: dict[str, tuple[Array, float]] = field(default_factory=dict, repr=False)

    @property
    def spike_rate(self) -> float:
        """Spikes per neuron and time step."""
        return self.spikes / self.places if self.places else 0.0

    def per_image(self) -> dict[str, float]:
        """Means over images, under the names of :class:`zoo.cards.Activity`."""
        names = ("dense_macs", "effective_acs", "effective_macs")
        return {"spike_rate": self.spike_rate, **{name: getattr(self, name) / self.images for name in names}}

    def observe(self, graph: FlatGraph, values: Mapping[str, Array]) -> None:
        """Add one time step."""
        for name, node in graph.nodes.items():
            if node.facts.spiking:
                self.spikes += float(values[name].sum())
                self.places += values[name].size
            elif node.type in SYNAPTIC:
                self._add(name, node, sum(values[source] for source in graph.sources[name]))

    def _add(self, name: str, node: FlatNode, x: Any) -> None:
        if name not in self._fan_outs:
            self._fan_outs[name] = fan_out(node)
        effective, dense = self._fan_outs[name]
        self.dense_macs += dense * len(x)
        if np.array_equal(x, np.rint(x)):
            self.effective_acs += float((np.abs(x) * effective).sum())
        else:
            self.effective_macs += float(((x != 0) * effective).sum())


def fan_out(node: FlatNode) -> tuple[Array, float]:
    """For each element of the input, how many weights that are not zero it meets; and how many weights all of them meet.

    Args:
        node: Conv1d, Conv2d, Linear or Affine.
    """
    weight = torch.from_numpy(node["weight"].astype(np.float64))
    x = torch.zeros(1, *node.input_shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        counts = [_apply(node, x, mask.double()).sum() for mask in (weight != 0, torch.ones_like(weight))]
        effective, dense = (torch.autograd.grad(count, x)[0] for count in counts)
    return effective[0].numpy(), float(dense.sum())


def _apply(node: FlatNode, x: Tensor, weight: Tensor) -> Tensor:
    if node.type in {nir.Linear, nir.Affine}:
        return F.linear(x, weight)
    padding = [side for pair in reversed(node["padding"]) for side in pair]
    convolve = F.conv1d if node.type is nir.Conv1d else F.conv2d
    return convolve(F.pad(x, padding), weight, None, node["stride"], 0, node["dilation"], node["groups"])


def count(detector: Detector, *, images: int = 16, images_per_run: int = 4) -> Activity:
    """Count over handwritten digits (moving ones for event detectors), from rest.

    Args:
        detector: fused.
        images: how many.
        images_per_run: at a time; the reference keeps every value in float64.

    Raises:
        ExportError: the detector has no exact NIR form.
    """
    graph = normalise(detector.to_nir())
    given = default_images(detector.config, count=images)["digits"]
    with torch.inference_mode():
        frames = detector.frames(given).double().unflatten(0, (detector.config.time_steps, -1))
    found = Activity()
    with progress_bar("counting", total=images) as bar:
        for part in frames.split(images_per_run, dim=1):
            reference.run(graph, part.numpy(), observe=lambda _t, values: found.observe(graph, values))
            found.images += part.shape[1]
            bar.advance(by=part.shape[1])
    return found
