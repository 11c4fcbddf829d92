"""A detector rebuilt from a NIR graph alone, on any backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from zoo.config import ModelConfig
from zoo.detectors.base import DetectorBase
from zoo.errors import InvalidInputError
from zoo.heads.table import head_of

if TYPE_CHECKING:
    from zoo.nir_graphs.graph import FlatGraph


class RunnableGraph(Protocol):
    """What :class:`GraphDetector` needs of a runnable graph."""

    graph: FlatGraph
    dtype: torch.dtype

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Input (T, B, ...) -> outputs (T, B, ...) by node name."""
        ...


class GraphDetector(DetectorBase):
    """A detector rebuilt from a NIR graph alone, on any backend.

    Args:
        runnable: a backend's runnable form of the graph.
        config: describes input, classes and decoding.
        encoder: of event detectors, in front of the graph.
    """

    def __init__(self, runnable: RunnableGraph, config: ModelConfig, encoder: nn.Module | None = None) -> None:
        self.runnable = runnable
        self.encoder = encoder
        head_of(config.decode)  # refuses a head that nothing here can decode, before anything runs
        self.config = config
        self.card = None
        self.info = runnable.graph.info

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the graph runs."""
        return self.runnable.dtype

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels for which the graph was exported."""
        return self.info.image_size or self.config.input.image_size

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) in [0, 1] or frames (T, B, C, H, W) -> raw head maps averaged over T, finest first.

        Event detectors take micro-slices (Tm, B, 2, H, W), oldest first.

        Raises:
            InvalidInputError: another image size than the graph was exported for.
        """
        folded = self.frames(images)
        if tuple(folded.shape[-2:]) != tuple(self.image_size):
            raise InvalidInputError(
                f"this graph was exported for images of {self.image_size[0]}x{self.image_size[1]} pixels, got "
                f"{folded.shape[-2]}x{folded.shape[-1]}; export it again with image_size=..."
            )
        outputs = self.runnable(folded.unflatten(0, (self.time_steps, -1)).to(self.dtype))
        return [raw.mean(0) for raw in self._scales(outputs)]

    def _scales(self, outputs: dict[str, Tensor]) -> list[Tensor]:
        """Head maps, finest first, cut out of the common Output node where they share one."""
        scales = []
        for place in self.info.outputs:
            scale = outputs[place["node"]]
            if "top" in place:
                scale = scale[..., place["top"] : place["top"] + place["height"], : place["width"]]
            scales.append(scale)
        return scales
