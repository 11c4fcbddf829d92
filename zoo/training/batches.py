"""Batches whose content depends on (seed, step) alone, so that a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.config import InputSpec
from zoo.data.sample import AnySample, DetectionDataset, prepare_sample, stack_inputs
from zoo.errors import DataError
from zoo.heads.boxes import Targets

CACHE_BYTES = 2**30


class Batches:
    """Random-access batches over a data set, reshuffled each epoch. The last pictures that fill no batch are left out.

    Args:
        dataset: pictures with objects.
        spec: how pictures become tensors.
        batch_size: pictures per batch, at most the whole set.
        seed: of the order.
        cache_bytes: keep the first so many bytes of pictures in memory once they are made.

    Raises:
        DataError: the data set is empty.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        spec: InputSpec,
        *,
        batch_size: int,
        seed: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if len(dataset) == 0:
            raise DataError("there is nothing to train on: the data set holds no pictures")
        self.dataset = dataset
        self.spec = spec
        self.batch_size = min(batch_size, len(dataset))
        self.seed = seed
        self.per_epoch = len(dataset) // self.batch_size
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None
        self._cache: dict[int, AnySample] = {}
        self._cache_left = cache_bytes

    def indices(self, step: int) -> list[int]:
        """Which pictures the batch of a step holds."""
        epoch, position = divmod(step, self.per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset)))
        start = position * self.batch_size
        return [int(index) for index in self._order[1][start : start + self.batch_size]]

    def __getitem__(self, step: int) -> tuple[Tensor, Targets]:
        """Images (B, C, H, W) float32 in [0, 1], or micro-slices (Tm, B, 2, H, W), and their objects in pixels of those."""
        return collate([self._sample(index) for index in self.indices(step)], self.spec)

    def iterate(self, start: int, stop: int, *, workers: int = 0) -> Iterator[tuple[Tensor, Targets]]:
        """The batches of the steps from ``start`` up to ``stop``, in order, prepared by other processes if ``workers``."""
        if workers == 0:
            return (self[step] for step in range(start, stop))
        # a generator of its own: the loader draws a seed, which must not move the global one
        loader: DataLoader[Any] = DataLoader(
            self,  # type: ignore[arg-type]
            sampler=range(start, stop),
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            generator=torch.Generator().manual_seed(self.seed),
            # JAX runs threads: a forked copy of a process that has loaded it may never wake up
            multiprocessing_context="spawn" if "jax" in sys.modules else None,
        )
        return iter(loader)

    def _sample(self, index: int) -> AnySample:
        sample = self._cache.get(index)
        if sample is None:
            sample = self.dataset[index]
            if sample.nbytes <= self._cache_left:
                self._cache[index] = sample
                self._cache_left -= sample.nbytes
        return sample


def _as_it_is(batch: Any) -> Any:
    return batch


def collate(samples: Sequence[AnySample], spec: InputSpec) -> tuple[Tensor, Targets]:
    """Samples -> images (B, C, H, W), or micro-slices (Tm, B, 2, H, W), and padded objects."""
    most = max(len(sample.labels) for sample in samples)
    labels = torch.zeros(len(samples), most, dtype=torch.int64)
    boxes = torch.zeros(len(samples), most, 4)
    valid = torch.zeros(len(samples), most, dtype=torch.bool)
    images = []
    for row, sample in enumerate(samples):
        image, placement = prepare_sample(sample, spec)
        images.append(image)
        count = len(sample.labels)
        labels[row, :count] = torch.from_numpy(sample.labels)
        boxes[row, :count] = torch.from_numpy(placement.apply(sample.boxes))
        valid[row, :count] = True
    return stack_inputs(images), Targets(labels, boxes, valid)
