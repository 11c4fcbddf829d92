"""Detection heads."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from zoo.layers.blocks import NeuronFactory, SpikeConv
from zoo.layers.neurons import FoldedNeuron


class SpikeConvNoBN(nn.Module):
    """Neuron, then a 1x1 convolution with bias: the last layer of a head branch. (N, I, H, W) -> (N, O, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, neuron: Callable[[], FoldedNeuron]) -> None:
        super().__init__()
        self.neuron = neuron()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        return self.conv(self.neuron(x))


class SpikeDetect(nn.Module):
    """Decoupled, anchor-free head of SpikeYOLO (the head of YOLOv8, with a neuron in front of each convolution).

    Per scale: (N, C_i, H_i, W_i) -> (N, 4 * reg_max + num_classes, H_i, W_i); box bins side-major (left, top, right,
    bottom), then class logits.

    Args:
        num_classes: number of classes.
        channels: C_i of each scale, finest first.
        strides: input pixels per cell of each scale; only used for the initial biases.
        reg_max: bins per box side.
        neuron: makes each neuron.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        reg_max: int = 16,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        box_width = max(16, channels[0] // 4, 4 * reg_max)
        class_width = max(channels[0], min(num_classes, 100))

        def branch(in_channels: int, width: int, out_channels: int) -> nn.Sequential:
            return nn.Sequential(
                SpikeConv(in_channels, width, 3, neuron=neuron),
                SpikeConv(width, width, 3, neuron=neuron),
                SpikeConvNoBN(width, out_channels, neuron=neuron),
            )

        self.box = nn.ModuleList(branch(c, box_width, 4 * reg_max) for c in channels)
        self.cls = nn.ModuleList(branch(c, class_width, num_classes) for c in channels)
        self._initialise_biases(num_classes, strides)

    def _initialise_biases(self, num_classes: int, strides: Sequence[int]) -> None:
        """Start from a prior of 5 objects in an image of 640 x 640 pixels, and boxes of a few cells."""
        for box, cls, stride in zip(self.box, self.cls, strides, strict=True):
            nn.init.constant_(box[-1].conv.bias, 1.0)  # type: ignore[index]
            nn.init.constant_(cls[-1].conv.bias, math.log(5 / num_classes / (640 / stride) ** 2))  # type: ignore[index]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, finest first -> raw head maps, finest first."""
        return [torch.cat([box(x), cls(x)], dim=1) for x, box, cls in zip(features, self.box, self.cls, strict=True)]


class AnchorDetect(nn.Module):
    """Anchor-based head of EMS-YOLO (the head of YOLOv3) with a neuron in front: one 1x1 convolution per scale.

    Per scale: (N, C_i, H_i, W_i) -> (N, anchors * (5 + num_classes), H_i, W_i); per anchor x, y, w, h, objectness, then class
    logits.

    Args:
        num_classes: number of classes.
        channels: C_i of each scale, finest first.
        strides: input pixels per cell of each scale; only used for the initial biases.
        anchors_per_cell: anchors at each cell.
        neuron: makes each neuron; None for convolutions of real values, as released.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        anchors_per_cell: int,
        neuron: Callable[[], FoldedNeuron] | None,
    ) -> None:
        super().__init__()
        outputs = anchors_per_cell * (5 + num_classes)
        self.scales = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv2d(c, outputs, 1)))
            if neuron is None
            else SpikeConvNoBN(c, outputs, neuron=neuron)
            for c in channels
        )
        for scale, stride in zip(self.scales, strides, strict=True):
            bias = scale.conv.bias.data.view(anchors_per_cell, -1)  # type: ignore[union-attr, operator]
            bias[:, :4] = 0
            bias[:, 4] = math.log(8 / (640 / stride) ** 2)  # a prior of 8 objects in 640 x 640 pixels
            bias[:, 5:] = math.log(0.6 / max(num_classes - 1, 1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, finest first -> raw head maps, finest first."""
        return [scale(x) for x, scale in zip(features, self.scales, strict=True)]
