"""The snnTorch form of a detector: an ordinary ``nn.Module``, trainable and exportable."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.cards.card import Paper
from zoo.config import ModelConfig
from zoo.detectors.base import DetectorBase
from zoo.detectors.deployed import deploy_
from zoo.detectors.encoder import EventEncoder
from zoo.detectors.network import NetworkModule
from zoo.detectors.stepwise import stream
from zoo.errors import InvalidInputError

if TYPE_CHECKING:
    import nir


class Detector(DetectorBase, nn.Module):
    """A detector in snnTorch: ordinary, trainable, exportable.

    Args:
        network: (T*B, C, H, W) -> list of raw head maps (T*B, channels, H/s, W/s), finest first.
        config: describes the network.
        encoder: of event detectors: micro-slices (Tm, B, 2, H, W), oldest first, -> frames (Ts, B, 2, H, W).
        paper: the publication of the architecture.
    """

    __call__ = nn.Module.__call__

    def __init__(
        self,
        network: NetworkModule,
        config: ModelConfig,
        encoder: EventEncoder | None = None,
        *,
        paper: Paper | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.encoder = encoder
        self.config = config
        self.paper = paper
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
        if self.network.streams and images.dim() == 4 and not self.training:
            ((_, averaged),) = stream(self, images, quiet=True)
            return averaged
        device = next(self.network.parameters()).device
        maps = self.network(self.frames(images).to(device, self.dtype))
        if self.network.averages_time:
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
        deploy_(fused.network, merge=merge, dtype=dtype)
        fused.config = self.config.model_copy(update={"fused": True, "merged": merge})
        return fused.to(dtype).requires_grad_(False)

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
        self,
        path: str | Path,
        *,
        image_size: tuple[int, int] | int | None = None,
        single_output: bool = False,
        profile: str = "full",
    ) -> Path:
        """Write the deployed form as a standard ``.nir`` file.

        Args:
            path: of the file; one that is there is replaced.
            image_size: (height, width) in pixels, or one number for both; by default the detector's own.
            single_output: one Output node for all scales, for tools that accept one only.
            profile: ``full`` or ``stock``; see :func:`zoo.export`.

        Returns:
            The path.

        Raises:
            ExportError: a module has no exact lowering, or a node no form in the profile; the message names it.
            InvalidInputError: an image size that the strides do not divide, or an unknown profile.
        """
        from zoo.nir_graphs import io
        from zoo.nir_graphs.normalise import normalise
        from zoo.nir_graphs.passes.profiles import get_profile
        from zoo.nir_graphs.passes.single_output import single_output as merged

        chosen = get_profile(profile)
        graph = self.to_nir(image_size)
        for change in ([merged] if single_output else []) + ([chosen] if profile != "full" else []):
            flat, _ = change(normalise(graph))
            graph = flat.to_nir()
        return io.write(graph, path)
