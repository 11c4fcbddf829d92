"""Images: reading them, and turning them into what a network receives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from zoo.config import InputSpec
from zoo.data.image_files import Pixels, from_pil, read_pixels
from zoo.errors import InvalidInputError

ImageSource = str | Path | Image.Image | npt.NDArray[np.uint8] | Tensor


def load_image(source: ImageSource) -> Pixels:
    """An image in any form as RGB pixels (H, W, 3).

    Args:
        source: path of an image file or PIL image (both turned upright by their EXIF orientation), uint8 array (H, W, 3) in
            RGB or (H, W) in grey, or tensor (3, H, W), uint8 or floating point in [0, 1].

    Raises:
        FileMissingError: no such file.
        CorruptFileError: the file is not an image, is damaged, or does not state the range of its pixels.
        InvalidInputError: wrong number of channels, wrong type, pixels of unknown range, or an empty image.
    """
    if isinstance(source, str | Path):
        pixels = read_pixels(Path(source))
    elif isinstance(source, Image.Image):
        pixels = from_pil(source)
    elif isinstance(source, Tensor):
        pixels = _from_tensor(source)
    elif isinstance(source, np.ndarray):
        pixels = _from_array(source)
    else:
        raise InvalidInputError(f"expected a path, PIL image, array or tensor, got {type(source).__name__}")
    if pixels.size == 0:
        raise InvalidInputError(f"the image is empty: its shape is {pixels.shape}")
    return pixels


def _from_array(array: npt.NDArray[np.generic]) -> Pixels:
    if array.dtype.names is not None:
        raise InvalidInputError(
            f"this detector takes images, and got events with the fields {', '.join(array.dtype.names)}"
        )
    if array.dtype != np.uint8:
        raise InvalidInputError(f"expected an array of uint8 in 0..255, got {array.dtype}")
    if array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise InvalidInputError(f"expected RGB pixels of shape (H, W, 3), got {array.shape}")
    return np.ascontiguousarray(array)


def _from_tensor(tensor: Tensor) -> Pixels:
    if tensor.dim() != 3 or tensor.shape[0] != 3:
        raise InvalidInputError(f"expected a tensor of shape (3, H, W), got {tuple(tensor.shape)}")
    if tensor.is_floating_point():
        if tensor.numel() and not (tensor.min() >= 0 and tensor.max() <= 1):
            raise InvalidInputError("expected floating point pixels in [0, 1]")
        tensor = (tensor * 255).round()
    elif tensor.dtype != torch.uint8:
        raise InvalidInputError(f"expected a floating point or uint8 tensor, got {tensor.dtype}")
    return np.ascontiguousarray(tensor.permute(1, 2, 0).to(torch.uint8).cpu().numpy())


@dataclass(frozen=True)
class Placement:
    """Where an image lies within the network's input.

    Attributes:
        scale: (x, y) input pixels per image pixel.
        offset: (x, y) of the image's corner in the input.
        size: (height, width) of the image.
    """

    scale: tuple[float, float]
    offset: tuple[int, int]
    size: tuple[int, int]

    def apply(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) in image pixels -> in input pixels."""
        return (boxes * np.array(self.scale * 2) + np.array(self.offset * 2)).astype(np.float32)

    def undo(self, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Boxes (N, 4) in input pixels -> in image pixels, clipped to the image."""
        height, width = self.size
        restored = (boxes.astype(np.float64) - np.array(self.offset * 2)) / np.array(self.scale * 2)
        return restored.clip(0, np.array([width, height, width, height]))


def prepare(image: Pixels, spec: InputSpec, size: tuple[int, int] | None = None) -> tuple[Tensor, Placement]:
    """Image (H, W, 3) -> network input (3, h, w), float32 in [0, 1], and where the image lies in it.

    Args:
        image: RGB pixels.
        spec: how to resize.
        size: (h, w) of the input; by default the specification's.

    Raises:
        InvalidInputError: the network does not take RGB images.
    """
    if spec.channels != 3:
        raise InvalidInputError(f"this detector takes {spec.channels} channels, not RGB images")
    target = spec.image_size if size is None else size
    height, width = image.shape[:2]
    scale_y, scale_x = target[0] / height, target[1] / width
    if spec.resize == "letterbox":
        scale_y = scale_x = min(scale_y, scale_x)
    inner = (max(1, round(height * scale_y)), max(1, round(width * scale_x)))
    top, left = (target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2
    if inner != (height, width):
        image = np.asarray(Image.fromarray(image).resize(inner[::-1], Image.Resampling.BILINEAR))
    if inner != target:
        padded = np.full((*target, 3), spec.pad_value, np.uint8)
        padded[top : top + inner[0], left : left + inner[1]] = image
        image = padded
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255
    return tensor, Placement((inner[1] / width, inner[0] / height), (left, top), (height, width))
