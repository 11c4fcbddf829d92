"""Image files of a folder, and what only looks like one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from zoo.data.faults import Report
from zoo.data.image_files import IMAGE_ENDINGS


def list_images(folder: Path, report: Report, *, recursive: bool = True) -> list[Path]:
    """All image files of a folder, told by their endings, in alphabetical order.

    Left out, and noted in the report: folders and other things that are no regular files but are named like images, the files
    that macOS writes beside images (``._x.jpg``), and files whose names are not valid UTF-8, since no annotation can name them.

    Args:
        folder: where to look.
        report: receives what is left out.
        recursive: also look in its folders.
    """
    found = []
    for entry in _entries(folder, recursive, set()):
        if os.path.splitext(entry.name)[1].lower() not in IMAGE_ENDINGS:  # noqa: PTH122 - millions of names; Path is slow
            continue
        if reason := _not_an_image(entry):
            report.skip(entry.path, reason)
        else:
            found.append(Path(entry.path))
    return sorted(found)


def has_images(folder: Path) -> bool:
    """Whether a folder holds at least one file that is named like an image, itself or in its folders."""
    return any(
        os.path.splitext(entry.name)[1].lower() in IMAGE_ENDINGS and not entry.name.startswith(".") and entry.is_file()  # noqa: PTH122
        for entry in _entries(folder, True, set())
    )


def _entries(folder: Path | str, recursive: bool, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Everything in a folder; folders that are named like images are not looked into, and links that lead round are cut."""
    state = os.stat(folder)  # noqa: PTH116
    if (state.st_dev, state.st_ino) in seen:
        return
    seen.add((state.st_dev, state.st_ino))
    with os.scandir(folder) as listing:
        inside = sorted(listing, key=lambda entry: entry.name)
    for entry in inside:
        yield entry
        named_like_image = os.path.splitext(entry.name)[1].lower() in IMAGE_ENDINGS  # noqa: PTH122
        if recursive and entry.is_dir() and not entry.name.startswith(".") and not named_like_image:
            yield from _entries(entry.path, recursive, seen)


def _not_an_image(entry: os.DirEntry[str]) -> str:
    if entry.name.startswith("._"):
        return "is a file that macOS keeps beside an image, not an image"
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "has a name that is not valid UTF-8"
    if entry.is_dir():
        return "is a folder, not an image"
    if not entry.is_file():
        return "is a broken link" if entry.is_symlink() else "is no regular file"
    return ""
