"""A toy head: each cell says how far its box reaches from its centre. Module, decoding and loss in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.config import DecodeSpec
from zoo.heads.boxes import Targets, cell_centres
from zoo.heads.table import Head, register


class CentreHead(nn.Module):
    """(N, C, H, W) -> [(N, 4 + num_classes, H, W)]."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 + num_classes, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> [(N, 4 + num_classes, H, W)]."""
        return [self.conv(x)]


def decode(raw: Sequence[Tensor], spec: DecodeSpec, num_classes: int) -> Tensor:
    """Sides are powers of e, in strides."""
    centres, strides = cell_centres([(r.shape[-2], r.shape[-1]) for r in raw], spec.strides)
    flat = torch.cat([r.flatten(2) for r in raw], 2)
    reach = flat[:, :4].exp() * strides.to(flat).T
    low, high = centres.to(flat).T - reach[:, :2], centres.to(flat).T + reach[:, 2:]
    return torch.cat([(low + high) / 2, high - low, flat[:, 4 : 4 + num_classes].sigmoid()], 1)


@dataclass
class CentreLoss:
    """Pulls every cell's class scores to those of the image's first object."""

    num_classes: int
    class_gain: float = 1.0

    def __call__(self, raw: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Raw maps and objects -> the part ``cls``."""
        wanted = nn.functional.one_hot(targets.labels[:, 0], self.num_classes)[:, :, None, None].to(raw[0])
        logits = raw[0][:, 4:]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted.expand_as(logits))
        return {"cls": self.class_gain * loss}


register(
    Head("centre", decode, lambda _spec, classes, **gains: CentreLoss(classes, **gains), frozenset({"class_gain"}))
)
