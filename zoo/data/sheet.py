"""A contact sheet: some images of a data set with their boxes, to see at a glance whether annotations are read right."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.data.sample import AnySample, DetectionDataset, image_of
from zoo.errors import InvalidInputError, ZooError
from zoo.support.files import replace_atomically

COLUMNS, ROWS, SIDE, CAPTION = 6, 4, 260, 18
"""Images side by side and below each other, and the pixels of each and of the text below it."""


def check_ending(path: Path) -> str:
    """Pillow's name of the image format that a file's ending stands for.

    Raises:
        InvalidInputError: an ending that Pillow cannot write.
    """
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise InvalidInputError(f"cannot write an image as {path.suffix or 'a file without ending'}: use .png or .jpg")
    return kind


def contact_sheet(datasets: Sequence[DetectionDataset], path: str | Path) -> Path:
    """Write an image of up to 24 images of the data sets, evenly chosen, with their boxes and class names.

    Args:
        datasets: splits of one data set.
        path: of the image to write, ending in .png or .jpg.

    Raises:
        InvalidInputError: an ending that Pillow cannot write, or no image that can be shown.
        FileMissingError: the file cannot be written.
    """
    path = Path(path)
    kind = check_ending(path)
    tiles = [_tile(sample, dataset.class_names, caption) for dataset, sample, caption in _chosen(datasets)]
    if not tiles:
        raise InvalidInputError("there is no image to show")
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * (SIDE + CAPTION)), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % columns * SIDE, place // columns * (SIDE + CAPTION)))
    with replace_atomically(path) as temporary:
        sheet.save(temporary, format=kind)
    return path


def _chosen(datasets: Sequence[DetectionDataset]) -> Iterator[tuple[DetectionDataset, AnySample, str]]:
    """Samples at even distances, as many from each split; those that cannot be read are passed over."""
    share = COLUMNS * ROWS // max(1, len(datasets))
    for dataset in datasets:
        for index in np.unique(np.linspace(0, len(dataset) - 1, min(max(1, share), len(dataset))).astype(int)):
            try:
                sample = dataset[int(index)]
            except ZooError:
                continue
            split = getattr(dataset, "split", "")
            yield dataset, sample, f"{split} {sample.image_id}".strip()


def _tile(sample: AnySample, class_names: Sequence[str], caption: str) -> Image.Image:
    image = Image.fromarray(image_of(sample))
    scale = min((SIDE - 4) / image.width, (SIDE - 4) / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile = Image.new("RGB", (SIDE, SIDE + CAPTION), "white")
    tile.paste(image.resize(size, Image.Resampling.BILINEAR), (2, 2))
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(size=11)
    for box, label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
        colour = class_colour(label)
        corners = [2 + value * scale for value in box]
        draw.rectangle(corners, outline=colour, width=2)
        text = class_names[label]
        left, top, right, bottom = draw.textbbox((corners[0] + 2, max(2.0, corners[1] - 13)), text, font=font)
        draw.rectangle([left - 2, top - 1, right + 2, bottom + 1], fill=colour)
        draw.text((left, max(2.0, corners[1] - 13)), text, fill="black", font=font)
    draw.text((4, SIDE + 2), caption[-44:], fill="black", font=font)
    return tile


def class_colour(label: int) -> tuple[int, int, int]:
    """A light colour for each class; neighbours differ clearly."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.61803398875 % 1, 0.65, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
