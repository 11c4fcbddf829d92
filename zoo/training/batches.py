"""Batches whose content depends on (seed, step) alone, so that a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zoo.config import InputSpec
from zoo.data.images import prepare
from zoo.data.sample import DetectionDataset, Sample
from zoo.training.losses import Targets


class Batches:
    """Random-access batches over a data set, reshuffled each epoch.

    Args:
        dataset: pictures with objects.
        spec: how pictures become tensors.
        batch_size: pictures per batch.
        seed: of the order.
        cache: keep pictures of generated sets in memory once made.
    """

    def __init__(
        self, dataset: DetectionDataset, spec: InputSpec, *, batch_size: int, seed: int, cache: bool = True
    ) -> None:
        self.dataset = dataset
        self.spec = spec
        self.batch_size = min(batch_size, len(dataset))
        self.seed = seed
        self.per_epoch = len(dataset) // self.batch_size
        self._order: tuple[int, np.ndarray] | None = None
        self._cache: dict[int, Sample] | None = {} if cache else None

    def indices(self, step: int) -> list[int]:
        """Which pictures the batch of a step holds."""
        epoch, position = divmod(step, self.per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset)))
        start = position * self.batch_size
        return [int(index) for index in self._order[1][start : start + self.batch_size]]

    def __getitem__(self, step: int) -> tuple[Tensor, Targets]:
        """Images (B, 3, H, W) float32 in [0, 1] and their objects in pixels of those images."""
        samples = [self._sample(index) for index in self.indices(step)]
        return collate(samples, self.spec)

    def _sample(self, index: int) -> Sample:
        if self._cache is None:
            return self.dataset[index]
        if index not in self._cache:
            self._cache[index] = self.dataset[index]
        return self._cache[index]


def collate(samples: Sequence[Sample], spec: InputSpec) -> tuple[Tensor, Targets]:
    """Samples -> images (B, C, H, W) and padded objects."""
    most = max(len(sample.labels) for sample in samples)
    labels = torch.zeros(len(samples), most, dtype=torch.int64)
    boxes = torch.zeros(len(samples), most, 4)
    valid = torch.zeros(len(samples), most, dtype=torch.bool)
    images = []
    for row, sample in enumerate(samples):
        image, placement = prepare(sample.image, spec)
        images.append(image)
        count = len(sample.labels)
        labels[row, :count] = torch.from_numpy(sample.labels)
        boxes[row, :count] = torch.from_numpy(placement.apply(sample.boxes))
        valid[row, :count] = True
    return torch.stack(images), Targets(labels, boxes, valid)
