"""The snnTorch form of a detector: an ordinary ``nn.Module``, trainable and exportable."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.config import ModelConfig
from zoo.detectors.base import DetectorBase
from zoo.errors import InvalidInputError
from zoo.layers.neurons import FoldedNeuron

if TYPE_CHECKING:
    import nir


class Detector(DetectorBase, nn.Module):
    """A detector in snnTorch: ordinary, trainable, exportable.

    Args:
        network: (T*B, C, H, W) -> list of raw head maps (T*B, channels, H/s, W/s), finest first.
        config: describes the network.
        encoder: of event detectors: micro-slices (Tm, B, 2, H, W), oldest first, -> frames (Ts, B, 2, H, W).
    """

    __call__ = nn.Module.__call__

    def __init__(self, network: nn.Module, config: ModelConfig, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network
        self.encoder = encoder
        self.config = config
        self.card = None

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.network.parameters()).dtype

    @property
    def is_fused(self) -> bool:
        """Whether batch norms are folded into the convolutions (the deployed form)."""
        return self.config.fused

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) in [0, 1] or frames (T, B, C, H, W) -> raw head maps (B, channels, H/s, W/s).

        Event detectors take micro-slices (Tm, B, 2, H, W), oldest first. The maps are averaged over T, finest scale first. A
        converted network runs in memory that does not grow with T.
        """
        if getattr(self.network, "spiking", False) and images.dim() == 4 and not self.training:
            from zoo.compression.conversion import stream

            ((_, averaged),) = stream(self, images, quiet=True)
            return averaged
        device = next(self.network.parameters()).device
        maps = self.network(self.frames(images).to(device, self.dtype))
        if getattr(self.network, "averages_time", False):
            return list(maps)
        return [raw.unflatten(0, (self.time_steps, -1)).mean(0) for raw in maps]

    def fuse(self, *, merge: bool = False, dtype: torch.dtype = torch.float32) -> Detector:
        """The deployed form: batch norms folded in float64, constants rounded once to ``dtype``.

        Args:
            merge: also merge each re-parameterised convolution into one dense 3x3: more weights, but then every synapse
                sees spikes only, which certificates and neuromorphic chips need.
            dtype: of the result. float32 is what is published; float64 serves comparisons with other float64 code.

        Returns:
            A new detector in eval mode; this one is unchanged.

        Raises:
            InvalidInputError: already fused.
        """
        if self.is_fused:
            raise InvalidInputError("this detector is fused already; fuse the trainable form instead")
        fused = copy.deepcopy(self).cpu().eval()
        for module in list(fused.network.modules()):
            fold: Any = getattr(module, "fuse_", None)
            if fold is not None:
                fold(merge=merge)
        for module in fused.network.modules():
            if isinstance(module, FoldedNeuron):
                module.freeze(dtype)
        fused.config = self.config.model_copy(update={"fused": True, "merged": merge})
        return fused.to(dtype).eval().requires_grad_(False)

    def to_nir(self, image_size: tuple[int, int] | int | None = None) -> nir.NIRGraph:
        """Export the deployed form to standard NIR.

        Args:
            image_size: (height, width) in pixels, or one number for both; by default the detector's own.

        Raises:
            ExportError: a module has no exact lowering; the message names it.
        """
        from zoo.nir_graphs.export import export_detector

        return export_detector(self, image_size)

    def export(
        self, path: str | Path, *, image_size: tuple[int, int] | int | None = None, single_output: bool = False
    ) -> Path:
        """Write the deployed form as a standard ``.nir`` file; see :func:`zoo.export`."""
        from zoo.api import export

        return export(self, path, image_size=image_size, single_output=single_output)
