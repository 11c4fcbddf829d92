"""Pictures: every accepted kind gives the same pixels; what is no picture gives one clear error; boxes find their way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from zoo.config import InputSpec
from zoo.data.images import load_image, prepare
from zoo.errors import CorruptFileError, FileMissingError, InvalidInputError


def picture(height: int = 20, width: int = 30) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    sources: list[Any] = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(pixels),
        pixels,
        tensor,
        tensor / 255,
    ]
    for source in sources:
        assert np.array_equal(load_image(source), pixels)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(picture(20, 30)).save(tmp_path / "turned.png", exif=exif)
    assert load_image(tmp_path / "turned.png").shape == (30, 20, 3)


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "1"):
        Image.fromarray(picture()).convert(mode).save(tmp_path / "a.png")
        assert load_image(tmp_path / "a.png").shape == (20, 30, 3)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    Image.fromarray(picture(200, 300)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    with pytest.raises(CorruptFileError, match="not an image"):
        load_image(tmp_path / "text.png")
    with pytest.raises(CorruptFileError):
        load_image(tmp_path / "half.png")
    for missing in (tmp_path / "none.png", tmp_path):
        with pytest.raises(FileMissingError):
            load_image(missing)


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        torch.zeros(1, 4, 4),
        torch.full((3, 4, 4), 2.0),
        torch.full((3, 4, 4), float("nan")),
        torch.zeros(3, 4, 4, dtype=torch.int64),
    ],
)
def test_wrong_arrays(source: Any) -> None:
    with pytest.raises(InvalidInputError):
        load_image(source)


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", [(20, 30), (300, 100), (96, 96), (7, 200)])
def test_boxes_come_back_to_where_they_were(resize: str, size: tuple[int, int]) -> None:
    spec = InputSpec(image_size=(96, 128), resize=resize)  # type: ignore[arg-type]
    tensor, placement = prepare(picture(*size), spec)
    assert tensor.shape == (3, 96, 128)
    assert 0 <= tensor.min() <= tensor.max() <= 1
    height, width = size
    boxes = np.array([[0, 0, width, height], [1, 2, width / 2, height / 2]], np.float32)
    moved = placement.apply(boxes)
    assert (moved[:, 2] <= 128.01).all()
    assert (moved[:, 3] <= 96.01).all()
    assert np.allclose(placement.undo(moved), boxes, atol=1e-3)
    assert np.allclose(placement.undo(np.array([[-50.0, -50, 500, 500]])), [[0, 0, width, height]])


def test_letterbox_pads_evenly_with_its_grey() -> None:
    tensor, placement = prepare(np.zeros((48, 96, 3), np.uint8), InputSpec(image_size=(96, 96), pad_value=114))
    assert placement.offset == (0, 24)
    assert torch.all(tensor[:, :24] == 114 / 255)
    assert torch.all(tensor[:, 24:72] == 0)
    assert torch.all(tensor[:, 72:] == 114 / 255)
