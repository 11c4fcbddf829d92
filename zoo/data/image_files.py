"""Image files, and PIL images of every mode, as upright RGB pixels of 8 bits.

Grey images of 9 to 16 bits keep their highest 8 bits, as Pillow and OpenCV do for colour images of 16 bits. Pixels whose range
the file does not state (32-bit integers, floating point) are refused, because any scale would be a guess.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from zoo.errors import CorruptFileError, FileMissingError, InvalidInputError, ZooError

Pixels = npt.NDArray[np.uint8]

IMAGE_ENDINGS = frozenset(
    {
        ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm",
        ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
"""Endings by which images in a folder are recognised."""

_ORIENTATION, _WIDTH, _LENGTH, _BITS_PER_SAMPLE, _PHOTOMETRIC = 274, 256, 257, 258, 262
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, for each EXIF orientation."""
_PROGRAMS = {"EPS", "WMF"}
"""Formats whose files are programs that another application would have to run."""


def read_pixels(path: Path) -> Pixels:
    """The pixels of an image file, upright by its EXIF orientation: (H, W, 3) RGB.

    Raises:
        FileMissingError: there is no such file.
        CorruptFileError: the file is not an image, is damaged, is too large, or does not state the range of its pixels.
    """
    with _opened(path) as image:
        return _upright_rgb(image)


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file when it is upright, from its header.

    A file that ends too early is decoded, so that damage is found before the image is needed.

    Raises:
        FileMissingError, CorruptFileError: as for :func:`read_pixels`.
    """
    with _opened(path) as image:
        width, height = _stored_size(image)
        turned = _orientation(image) >= 5
        if _ends_early(path, image.format or ""):
            image.load()
    return (width, height) if turned else (height, width)


def from_pil(image: Image.Image) -> Pixels:
    """A PIL image of any mode as upright RGB pixels (H, W, 3).

    Raises:
        InvalidInputError: the range of its pixels is not known.
        CorruptFileError: its file is damaged.
    """
    try:
        return _upright_rgb(image)
    except ZooError:
        raise
    except Exception as error:  # PIL images are decoded late, and decoders raise anything
        raise CorruptFileError(f"the PIL image cannot be decoded: {error or type(error).__name__}") from error


def _upright_rgb(image: Image.Image) -> Pixels:
    image.load()
    pixels = _eight_bits(image)
    turn = _TURNS.get(_orientation(image))
    return np.asarray(pixels if turn is None else pixels.transpose(turn))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file, with whatever Pillow raises on it as one clear error."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise FileMissingError(f"{shown(path)} is {what}, not an image")
    try:
        # from an open file: Pillow scrambles turned grey TIFF files when it maps them into memory by their name
        with path.open("rb") as file, _exif_unheard(), _open(path, file) as image:
            yield image
    except FileNotFoundError:
        raise FileMissingError(f"there is no file {shown(path)}") from None
    except InvalidInputError as error:
        raise CorruptFileError(f"{shown(path)}: {error}") from None
    except ZooError:
        raise
    except UnidentifiedImageError:
        raise CorruptFileError(f"{shown(path)} is not an image that Pillow can read (PNG, JPEG, ...)") from None
    # Pillow's decoders raise whatever a damaged file leads them into, and warn of decompression bombs
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise CorruptFileError(f"{shown(path)} cannot be read as an image: {reason}") from error


@contextmanager
def _exif_unheard() -> Iterator[None]:
    """Without Pillow's warnings of damaged EXIF blocks, whose pixels are still good."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)
        yield


def _open(path: Path, file: IO[bytes]) -> Image.Image:
    try:
        return _pixels_only(path, Image.open(file))
    except UnidentifiedImageError:
        if not _is_heif(file):
            raise
    try:
        import pillow_heif
    except ImportError:
        raise CorruptFileError(
            f"{shown(path)} is a HEIC image, which needs pillow-heif: pip install 'nir-zoo[heif]'"
        ) from None
    pillow_heif.register_heif_opener()
    return Image.open(file)


def _pixels_only(path: Path, image: Image.Image) -> Image.Image:
    if image.format in _PROGRAMS:
        image.close()
        raise CorruptFileError(f"{shown(path)} is an {image.format} file, not an image of pixels: convert it to PNG")
    return image


def _is_heif(file: IO[bytes]) -> bool:
    file.seek(0)
    start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1, which is upright, where the file's EXIF block is missing or damaged."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a damaged EXIF block raises anything; the pixels are still good
        return 1
    return found if found in _TURNS else 1


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) before turning; of a TIFF file, new versions of Pillow give the size after it."""
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2")  # noqa: B009 - of TIFF images only
        return int(tags[_WIDTH]), int(tags[_LENGTH])
    return image.size


def _eight_bits(image: Image.Image) -> Image.Image:
    """The same image in mode RGB, not yet turned."""
    if image.mode.startswith("I;16"):
        return _highest_bits(image, _bits(image))
    if image.mode == "I" and image.format in {"PNG", "PPM"}:
        return _highest_bits(image, 16)
    if image.mode in {"I", "F"}:
        kind = "floating point numbers" if image.mode == "F" else "32-bit integers"
        raise InvalidInputError(
            f"the pixels are {kind} (mode {image.mode}), whose range is not stated: scale them to 8 or 16 bits and save the "
            "image again"
        )
    if image.mode in {"PA", "La", "RGBa"} or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    return image.convert("RGB")


def _bits(image: Image.Image) -> int:
    """Bits that the pixels of a grey image fill; cameras and scanners also write 10, 12 and 14."""
    stated = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return int(stated[0]) if 8 < int(stated[0]) <= 16 else 16


def _highest_bits(image: Image.Image, bits: int) -> Image.Image:
    grey = (np.asarray(image).astype(np.int64) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # TIFF in which 0 is white
        grey = 255 - grey
    return Image.fromarray(grey).convert("RGB")


def _ends_early(path: Path, kind: str) -> bool:
    """Whether a file lacks the mark that its format ends with; some files have other bytes behind the mark."""
    marks = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}
    if kind not in marks:
        return False
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 64))
        return marks[kind] not in file.read()


def shown(path: Path | str) -> str:
    """A path as text that every terminal and file can hold, also where its name is not valid UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()
