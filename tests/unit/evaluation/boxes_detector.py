"""A detector that knows its answers: boxes in pixels of each image, given in the order in which images come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo.config import InputSpec, make_config
from zoo.detectors.base import DetectorBase

Found = npt.NDArray[np.float64]


class BoxesDetector(DetectorBase):
    """Returns what it was given, through decoding and suppression; the input has the size of the images or is letterboxed.

    Args:
        found: for each image (N, 6): x1, y1, x2, y2 in pixels, score, class.
        sizes: (height, width) of each image.
        class_names: one per class.
        side: of the input in pixels.
    """

    encoder = None

    def __init__(
        self, found: Sequence[Found], sizes: Sequence[tuple[int, int]], class_names: Sequence[str], *, side: int = 640
    ) -> None:
        self.config = make_config(
            arch="boxes", class_names=tuple(class_names), input=InputSpec(image_size=(side, side))
        )
        self.found, self.sizes, self.side, self.next = found, sizes, side, 0

    def __call__(self, images: Tensor) -> list[Tensor]:
        return [images]

    def decode(self, raw: Any) -> Tensor:
        most = max(1, *(len(rows) for rows in self.found))
        decoded = torch.zeros(len(raw[0]), 4 + len(self.class_names), most, dtype=torch.float64)
        for image in decoded:
            rows, (height, width) = torch.from_numpy(self.found[self.next]), self.sizes[self.next]
            self.next += 1
            scale = min(self.side / height, self.side / width)
            inner = (round(height * scale), round(width * scale))
            top, left = (self.side - inner[0]) // 2, (self.side - inner[1]) // 2
            scales = torch.tensor([inner[1] / width, inner[0] / height], dtype=torch.float64)
            offset = torch.tensor([left, top], dtype=torch.float64)
            first, last = rows[:, :2] * scales + offset, rows[:, 2:4] * scales + offset
            image[:2, : len(rows)] = ((first + last) / 2).T
            image[2:4, : len(rows)] = (last - first).T
            for index, row in enumerate(rows):
                image[4 + int(row[5]), index] = row[4]
        return decoded
