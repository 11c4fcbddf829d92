"""One image of a detection data set, and what such a set must offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo.config import InputSpec
from zoo.data.events import EventSample, draw_events, prepare_events, require_events
from zoo.data.images import Placement, prepare
from zoo.errors import DataError


@dataclass(frozen=True)
class Sample:
    """An image with its objects.

    Attributes:
        image: (H, W, 3) RGB.
        boxes: (N, 4) as x1, y1, x2, y2 in pixels.
        labels: (N,) index into the set's class names.
        image_id: identifies the image within its set: a number, or text.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    image_id: int | str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory of the image."""
        return self.image.nbytes


AnySample = Sample | EventSample


class DetectionDataset(Protocol):
    """A finite sequence of samples with class names."""

    @property
    def class_names(self) -> Sequence[str]:
        """One name per class."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> AnySample: ...


def image_of(sample: AnySample) -> npt.NDArray[np.uint8]:
    """RGB pixels (H, W, 3): the image, or a drawing of the events."""
    return draw_events(sample.counts) if isinstance(sample, EventSample) else sample.image


def prepare_sample(sample: AnySample, spec: InputSpec) -> tuple[Tensor, Placement]:
    """What a detector takes of a sample: (C, H, W), or micro-slices (Tm, 2, H, W), and where the image lies in it.

    Raises:
        DataError: events for a detector of images, or the other way round.
    """
    if isinstance(sample, EventSample):
        require_events(spec, "the data set")
        return prepare_events(sample.counts, spec)
    if spec.events is not None:
        raise DataError("the data set holds images, and this detector takes events")
    return prepare(sample.image, spec)


def stack_inputs(inputs: Sequence[Tensor]) -> Tensor:
    """Inputs of several samples as one: (B, C, H, W), or micro-slices (Tm, B, 2, H, W)."""
    return torch.stack(list(inputs), dim=0 if inputs[0].dim() == 3 else 1)
