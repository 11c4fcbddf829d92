"""One picture of a detection data set, and what such a set must offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Sample:
    """A picture with its objects.

    Attributes:
        image: (H, W, 3) RGB.
        boxes: (N, 4) as x1, y1, x2, y2 in pixels.
        labels: (N,) index into the set's class names.
        image_id: identifies the picture within its set.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    image_id: int


class DetectionDataset(Protocol):
    """A finite sequence of samples with class names."""

    @property
    def class_names(self) -> Sequence[str]:
        """One name per class."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
