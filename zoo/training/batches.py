"""Batches whose content depends on (seed, step) alone, so that a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.config import InputSpec
from zoo.data.sample import AnySample, DetectionDataset, prepare_sample, stack_inputs
from zoo.errors import DataError, TrainingError, ZooError
from zoo.heads.boxes import Targets

CACHE_BYTES = 2**30
MOST_IN_A_ROW = 100
"""Images in a row that cannot be read before the run stops: then it is the disk, not an image."""

Augment = Callable[[AnySample, np.random.Generator], AnySample]
"""Makes another sample of a sample, which it must not change; all of its randomness comes from the generator."""


class Batch(NamedTuple):
    """What one step is computed on.

    Attributes:
        images: (B, C, H, W) float32 in [0, 1], or micro-slices (Tm, B, 2, H, W).
        targets: their objects in pixels of those.
        unreadable: why images could not be read; another image stands in the place of each.
    """

    images: Tensor
    targets: Targets
    unreadable: tuple[str, ...] = ()


class Batches:
    """Random-access batches over a data set, reshuffled each epoch. The last images that fill no batch are left out.

    An image that cannot be read is replaced by the next one in the data set that can.

    Args:
        dataset: images with objects.
        spec: how images become tensors.
        batch_size: images per batch, at most the whole set.
        seed: of the order and of augmentation.
        augment: applied to each sample after it was read.
        cache_bytes: keep the first so many bytes of images in memory once they are read.

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
        augment: Augment | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if len(dataset) == 0:
            raise DataError("there is nothing to train on: the data set holds no images")
        self.dataset = dataset
        self.spec = spec
        self.batch_size = min(batch_size, len(dataset))
        self.seed = seed
        self.augment = augment
        self.per_epoch = len(dataset) // self.batch_size
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None
        self._cache: dict[int, AnySample] = {}
        self._cache_left = cache_bytes

    def indices(self, step: int) -> list[int]:
        """Which images the batch of a step holds."""
        epoch, position = divmod(step, self.per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset)))
        start = position * self.batch_size
        return [int(index) for index in self._order[1][start : start + self.batch_size]]

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            DataError: many images in a row cannot be read.
        """
        unreadable: list[str] = []
        samples = [self._readable(index, unreadable) for index in self.indices(step)]
        if self.augment is not None:
            rngs = (np.random.default_rng([self.seed, step, row]) for row in range(len(samples)))
            samples = [self.augment(sample, rng) for sample, rng in zip(samples, rngs, strict=True)]
        return Batch(*collate(samples, self.spec), tuple(unreadable))

    def iterate(self, start: int, stop: int, *, workers: int = 0) -> Generator[Batch, None, None]:
        """The batches of the steps from ``start`` up to ``stop``, in order, prepared by other processes if ``workers``.

        Raises:
            TrainingError: such a process ended.
        """
        if workers == 0 or start >= stop:
            yield from (self[step] for step in range(start, stop))
            return
        self._cache_left //= workers  # each process keeps images of its own
        # a generator of its own: the loader draws a seed, which must not move the global one
        loader: DataLoader[Any] = DataLoader(
            self,  # type: ignore[arg-type]
            sampler=range(start, stop),
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals_to_the_parent,
            generator=torch.Generator().manual_seed(self.seed),
            # JAX runs threads: a forked copy of a process that has loaded it may never wake up
            multiprocessing_context="spawn" if "jax" in sys.modules else None,
        )
        try:
            yield from loader
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                f"a process that prepares images ended ({str(error).splitlines()[0]}); it may have lacked memory, or shared "
                "memory (in a container: its shm-size): use fewer --workers, or --workers 0"
            ) from None

    def readable(self, index: int) -> AnySample:
        """The sample of an index, or the next one that can be read."""
        return self._readable(index, [])

    def _readable(self, index: int, unreadable: list[str]) -> AnySample:
        """The sample of an index, or the next one that can be read; which one it is depends on the files alone."""
        for offset in range(min(len(self.dataset), MOST_IN_A_ROW)):
            try:
                return self._sample((index + offset) % len(self.dataset))
            except (ZooError, OSError) as error:
                unreadable.append(str(error))
        raise DataError(f"{len(unreadable)} images in a row cannot be read. The first: {unreadable[0]}")

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


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the step that is being computed still needs its images."""
    del worker
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


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
