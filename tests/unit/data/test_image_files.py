"""More than 300 image files as the world has them: formats, modes, EXIF orientations, 16 bits, damage, bombs.

Each is read as Pillow's or OpenCV's decoders and plain arithmetic say, or gives one clear error; and its size is known from its
header.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from zoo.data import image_files
from zoo.data.faults import Report
from zoo.data.folders import has_images, list_images
from zoo.data.image_files import read_pixels, read_size, shown
from zoo.data.images import load_image
from zoo.errors import CorruptFileError, FileMissingError, InvalidInputError, ZooError

cv2 = pytest.importorskip("cv2")

Pixels = npt.NDArray[np.uint8]


def colours(height: int = 33, width: int = 47, seed: int = 0) -> Pixels:
    """A smooth image, which lossy formats keep well, with a corner that shows how it lies."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], 2)
    image[: height // 4, : width // 4] = [255, 255 - seed, 0]
    return image.astype(np.uint8)


def with_orientation(pixels: Pixels, orientation: int) -> Image.Image:
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return image


def check(path: Path, expected: npt.NDArray[Any], *, tolerance: int = 0) -> None:
    found = read_pixels(path)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert int(np.abs(found.astype(int) - expected).max()) <= tolerance
    assert read_size(path) == found.shape[:2]
    with path.open("rb") as file, Image.open(file) as image:
        assert np.array_equal(load_image(image), found)  # as a PIL image it is the same


FORMATS = {
    "png": {}, "bmp": {}, "gif": {}, "tif": {}, "webp": {"lossless": True}, "ppm": {}, "jp2": {"irreversible": False},
    "tga": {}, "jpg": {"quality": 95}, "avif": {"quality": 95},
}  # fmt: skip
MODES = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "bmp": ["1", "L", "P", "RGB"],
    "gif": ["1", "L", "P", "RGB"],
    "tif": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"],
    "webp": ["RGB", "RGBA"],
    "ppm": ["1", "L", "RGB"],
    "jp2": ["L", "LA", "RGB", "RGBA"],
    "tga": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "jpg": ["L", "RGB", "CMYK"],
    "avif": ["RGB", "RGBA"],
}
CASES = [
    (ending, mode, size) for ending, modes in MODES.items() for mode in modes for size in ((33, 47), (1, 1), (1, 90))
]


@pytest.mark.parametrize(("ending", "mode", "size"), CASES)
def test_formats_and_modes_are_read_as_pillow_reads_them(
    tmp_path: Path, ending: str, mode: str, size: tuple[int, int]
) -> None:
    path = tmp_path / f"image.{ending}"
    Image.fromarray(colours(*size)).convert(mode).save(path, **FORMATS[ending])  # type: ignore[arg-type]
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB"))
    check(path, expected)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "ppm", "jpg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_opencv_reads_the_same(tmp_path: Path, ending: str, mode: str) -> None:
    path = tmp_path / f"image.{ending}"
    Image.fromarray(colours()).convert(mode).save(path, **FORMATS[ending])  # type: ignore[arg-type]
    check(path, cv2.imread(str(path))[..., ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_exif_orientations(tmp_path: Path, orientation: int, ending: str, mode: str) -> None:
    path = tmp_path / f"image.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colours()).convert(mode).save(path, exif=exif, **FORMATS[ending])  # type: ignore[arg-type]
    with path.open("rb") as file, Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if ending in {"png", "tif"}:
        turned = np.asarray(
            ImageOps.exif_transpose(with_orientation(colours(), orientation)).convert(mode).convert("RGB")
        )
        assert np.array_equal(turned, expected)
    assert expected.shape[:2] == ((33, 47) if orientation < 5 else (47, 33))
    check(path, expected)
    if ending != "tif":  # OpenCV 4 fails on turned TIFF files
        check(path, cv2.imread(str(path))[..., ::-1])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colours()).save(tmp_path / "a.png", exif=exif)
    check(tmp_path / "a.png", colours())


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"]
)
def test_damaged_exif_does_not_spoil_the_pixels(tmp_path: Path, block: bytes) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.jpg", exif=block, quality=95)
    assert np.array_equal(read_pixels(tmp_path / "a.jpg"), cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1])
    assert read_size(tmp_path / "a.jpg") == (33, 47)


# Grey images of more than 8 bits.

GREY = np.random.default_rng(1).integers(0, 65_536, (20, 30), dtype=np.uint16)


def high_byte(grey: npt.NDArray[np.uint16], bits: int = 16) -> npt.NDArray[np.uint16]:
    return np.repeat((grey >> (bits - 8))[..., None], 3, 2)


def tiff16(bits: int, photometric: int, order: str, data: bytes) -> bytes:
    """A TIFF file of one strip, by hand."""
    tags = [
        (256, 4, 30), (257, 4, 20), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8), (277, 3, 1),
        (278, 4, 20), (279, 4, len(data)), (339, 3, 1),
    ]  # fmt: skip
    body = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(f"{order}{'H2x' if kind == 3 else 'I'}", value)
        for tag, kind, value in tags
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    place = 8 + len(data)
    return mark + struct.pack(f"{order}I", place) + data + struct.pack(f"{order}H", len(tags)) + body + b"\0\0\0\0"


def packed12(grey: npt.NDArray[Any]) -> bytes:
    """Two pixels in three bytes."""
    first, second = grey.reshape(-1, 2).astype(int).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_keeps_its_high_byte_as_in_opencv(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(GREY).save(path)
    check(path, high_byte(GREY))
    check(path, cv2.imread(str(path))[..., ::-1])
    assert np.array_equal(load_image(Image.fromarray(GREY)), high_byte(GREY))


@pytest.mark.parametrize("largest", [65_535, 4_095, 1_023, 300])
def test_pgm_of_more_than_8_bits_is_scaled_by_its_own_maximum(tmp_path: Path, largest: int) -> None:
    grey = (GREY.astype(np.int64) * largest // 65_535).astype(np.uint16)
    header = f"P5\n30 20\n{largest}\n".encode()
    (tmp_path / "a.pgm").write_bytes(header + grey.astype(">u2").tobytes())
    expected = np.repeat((grey.astype(float) * 255 / largest)[..., None], 3, 2)
    check(tmp_path / "a.pgm", expected.astype(int), tolerance=1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_tiff_of_16_bits_in_both_byte_orders_and_both_senses(tmp_path: Path, order: str, photometric: int) -> None:
    grey = 65_535 - GREY if photometric == 0 else GREY
    (tmp_path / "a.tif").write_bytes(tiff16(16, photometric, order, grey.astype(f"{order}u2").tobytes()))
    if order == ">" and photometric == 0:
        with pytest.raises(CorruptFileError):  # Pillow has no mode for it
            read_pixels(tmp_path / "a.tif")
        return
    check(tmp_path / "a.tif", high_byte(GREY), tolerance=1)


def test_tiff_of_12_bits(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff16(12, 1, "<", packed12(GREY >> 4)))
    check(tmp_path / "a.tif", high_byte(GREY))


@pytest.mark.parametrize("orientation", [3, 6])
def test_16_bits_and_a_turn(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    check(tmp_path / "a.png", np.rot90(high_byte(GREY), {3: 2, 6: -1}[orientation]))


def test_16_bit_colour_keeps_its_high_byte(tmp_path: Path) -> None:
    colour = np.random.default_rng(2).integers(0, 65_536, (20, 30, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), colour[..., ::-1])
    check(tmp_path / "a.png", colour >> 8)


@pytest.mark.parametrize("values", [np.float32, np.int32])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, values: Any) -> None:
    image = Image.fromarray(np.arange(600).reshape(20, 30).astype(values))
    image.save(tmp_path / "a.tif")
    with pytest.raises(
        CorruptFileError, match=r"a\.tif: the pixels are .*, whose range is not stated: scale them to 8 or 16 bits"
    ):
        read_pixels(tmp_path / "a.tif")
    with pytest.raises(InvalidInputError, match="whose range is not stated"):
        load_image(image)
    assert read_size(tmp_path / "a.tif") == (20, 30)


# Palettes and alpha.


@pytest.mark.parametrize("transparency", [0, 200, b"\0" * 100, bytes(range(256))])
def test_palettes_with_transparency(tmp_path: Path, transparency: Any) -> None:
    image = Image.fromarray(colours()).quantize(256)
    expected = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "a.png", transparency=transparency)
    check(tmp_path / "a.png", expected)


def test_alpha_is_dropped_as_opencv_drops_it(tmp_path: Path) -> None:
    rgba = np.dstack([colours(), np.random.default_rng(0).integers(0, 256, (33, 47), dtype=np.uint8)])
    for ending in ("png", "tif", "tga"):
        Image.fromarray(rgba).save(tmp_path / f"a.{ending}")
        check(tmp_path / f"a.{ending}", colours())
    check(tmp_path / "a.png", cv2.imread(str(tmp_path / "a.png"))[..., ::-1])


def test_of_many_frames_the_first_is_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(colours(seed=seed)).quantize(64) for seed in (0, 90, 200)]
    for ending in ("gif", "tif", "png", "webp"):
        frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
        check(tmp_path / f"a.{ending}", np.asarray(frames[0].convert("RGB")))


def test_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    with io.BytesIO() as buffer:
        pillow_heif.from_pillow(Image.fromarray(colours(64, 96))).save(buffer, quality=95, exif=exif.tobytes())
        (tmp_path / "a.heic").write_bytes(buffer.getvalue())
    found = read_pixels(tmp_path / "a.heic")
    assert found.shape in {(64, 96, 3), (96, 64, 3)}
    assert read_size(tmp_path / "a.heic") == found.shape[:2]


def test_heic_without_its_reader_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 100)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Image.init()
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    with pytest.raises(CorruptFileError, match=r"HEIC image, which needs pillow-heif: pip install 'nir-zoo\[heif\]'"):
        read_pixels(tmp_path / "a.jpg")


# Damage.

WHOLE = {ending: FORMATS[ending] for ending in ("png", "jpg", "gif", "tif", "webp", "bmp", "jp2", "ppm", "tga", "avif")}


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("ending", WHOLE)
def test_truncated_files_are_one_clear_error_or_read_whole(tmp_path: Path, ending: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    with io.BytesIO() as buffer:
        Image.fromarray(noise).save(buffer, format=Image.registered_extensions()[f".{ending}"], **WHOLE[ending])  # type: ignore[arg-type]
        data = buffer.getvalue()
    path = tmp_path / f"a.{ending}"
    path.write_bytes(data[: int(len(data) * share)])
    try:
        found = read_pixels(path)
    except CorruptFileError as error:
        assert str(path) in str(error)  # noqa: PT017 - either is right, and both are checked
    else:
        path.write_bytes(data)
        assert np.array_equal(found, read_pixels(path)), "a part of an image was taken for the whole"


@pytest.mark.parametrize("ending", ["png", "jpg", "gif"])
def test_truncation_is_found_when_a_set_is_opened(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptFileError):
        read_size(path)
    path.write_bytes(data + b"\r\n")  # bytes behind the image do no harm
    assert read_size(path) == (90, 120)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_changed_bytes_are_read_or_one_clear_error(tmp_path: Path, ending: str, seed: int) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(colours()).save(path)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 4):
        data[place] = rng.integers(0, 256)
    path.write_bytes(bytes(data))
    for read in (read_pixels, read_size):
        try:
            read(path)
        except ZooError as error:
            assert str(path) in str(error)  # noqa: PT017


def bomb(width: int, height: int) -> bytes:
    """A PNG file that says it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 1), (65_535, 65_535), (12_000, 9_000)])
def test_decompression_bombs(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(bomb(*size))
    for read in (read_pixels, read_size):
        with pytest.raises(CorruptFileError, match=r"a\.png cannot be read as an image: .*exceeds limit"):
            read(tmp_path / "a.png")


def test_large_photographs_are_no_bombs(tmp_path: Path) -> None:
    Image.new("L", (8_000, 8_000), 7).save(tmp_path / "a.png")
    assert read_size(tmp_path / "a.png") == (8_000, 8_000)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jpg", b""),
        ("text.jpg", b"hello"),
        ("page.png", b"<!DOCTYPE html><html>not found</html>"),
        ("pointer.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        ("video.gif", b"\0\0\0\x20ftypisom" + b"\0" * 64),
        ("zeros.bmp", b"\0" * 4096),
        ("._x.jpg", b"\0\x05\x16\x07\0\x02\0\0Mac OS X        "),
        ("program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n%%EOF\n"),
    ],
)
def test_what_is_no_image(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (read_pixels, read_size):
        with pytest.raises(CorruptFileError, match=r"is not an image|is an EPS file, not an image"):
            read(tmp_path / name)


def test_what_is_no_file(tmp_path: Path) -> None:
    import os

    (tmp_path / "x.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for name in ("x.jpg", "pipe.jpg", "link.jpg", "none.jpg"):
        for read in (read_pixels, read_size):
            with pytest.raises(FileMissingError):
                read(tmp_path / name)


def test_errors_of_pil_images_are_ours_too(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:9000])
    with Image.open(tmp_path / "a.png") as image, pytest.raises(CorruptFileError, match="PIL image cannot be decoded"):
        load_image(image)


def test_pillow_does_not_warn(tmp_path: Path) -> None:
    """Warnings are errors in these tests; here is one that Pillow gives when it is asked less carefully."""
    image = Image.fromarray(colours()).quantize(256)
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    with Image.open(tmp_path / "a.png") as image, pytest.warns(UserWarning, match="Transparency"):
        image.convert("RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_pixels(tmp_path / "a.png")


# Folders.


def test_a_folder_is_listed_with_what_only_looks_like_images(tmp_path: Path) -> None:
    import os

    for name in ("b.PNG", "a.jpg", "inner/c.tif", "inner/deep/d.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._a.jpg").write_bytes(b"x")
    (tmp_path / "x.jpg").mkdir()
    (tmp_path / "x.jpg" / "hidden.png").write_bytes(b"x")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.bmp")
    (Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.png"))).write_bytes(b"x")
    report = Report()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path, report)]
    assert found == ["a.jpg", "b.PNG", "inner/c.tif", "inner/deep/d.webp"]
    reasons = {Path(one.name).name: one.reason for one in report.skipped}
    assert reasons == {
        "._a.jpg": "is a file that macOS keeps beside an image, not an image",
        "caf\\udce9.png": "has a name that is not valid UTF-8",
        "gone.png": "is a broken link",
        "pipe.bmp": "is no regular file",
        "x.jpg": "is a folder, not an image",
    }
    assert "and 2 more" in report.warning()
    assert [path.name for path in list_images(tmp_path, Report(), recursive=False)] == ["a.jpg", "b.PNG"]
    assert has_images(tmp_path)
    assert not has_images(tmp_path / "x.jpg" / "nothing") if (tmp_path / "x.jpg" / "nothing").exists() else True
    assert shown(tmp_path / "a.jpg") == str(tmp_path / "a.jpg")


def test_there_are_at_least_300_files() -> None:
    exif = 8 * 4 * 2
    truncated = 6 * len(WHOLE)
    assert len(CASES) + 12 + exif + 3 + 4 + 14 + truncated + 120 + 4 + 8 >= 300
    assert {f".{ending}" for ending in FORMATS} <= image_files.IMAGE_ENDINGS
