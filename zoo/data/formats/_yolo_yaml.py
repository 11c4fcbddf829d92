"""``data.yaml`` of ultralytics and Roboflow: where the images of each split are, and what the classes are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zoo.data.image_files import shown
from zoo.errors import DataError

SPLITS = ("train", "val", "test")
USUAL = ("data.yaml", "data.yml", "dataset.yaml")


@dataclass(frozen=True)
class DataYaml:
    """A checked data.yaml.

    Attributes:
        path: of the file.
        folder: that its paths are relative to.
        splits: folders or lists of images for each split, as written.
        names: of the classes.
        keypoints: whether lines of labels go on with keypoints.
    """

    path: Path
    folder: Path
    splits: dict[str, tuple[str, ...]]
    names: tuple[str, ...]
    keypoints: bool

    def resolve(self, source: str) -> Path | None:
        """Where a folder or list is. Roboflow's exports begin with ``../`` and mean the folder of data.yaml itself."""
        name = source.replace("\\", "/")
        candidates = [self.folder / name, self.path.parent / name]
        while name.startswith("../"):
            name = name.removeprefix("../")
            candidates += [self.folder / name, self.path.parent / name]
        return next((path for path in candidates if path.exists()), None)


def find_yaml(root: Path) -> DataYaml | None:
    """The description of a set: ``root`` itself, or the data.yaml in it.

    Raises:
        DataError: it is damaged.
    """
    if root.is_file():
        return _read(root, strict=True) if root.suffix.lower() in {".yaml", ".yml"} else None
    usual = [root / name for name in USUAL if (root / name).is_file()]
    if usual:
        return _read(usual[0], strict=True)
    others = [path for path in sorted(root.iterdir()) if path.suffix.lower() in {".yaml", ".yml"} and path.is_file()]
    return next((found for path in others if (found := _read(path, strict=False)) is not None), None)


def _read(path: Path, *, strict: bool) -> DataYaml | None:
    """None where the file describes no set of images, unless ``strict``."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        if strict:
            raise DataError(f"{shown(path)} is not YAML: {error}") from None
        return None
    described = (
        isinstance(content, dict) and "names" in content and any(content.get(name) for name in (*SPLITS, "valid"))
    )
    if not described:
        if strict:
            raise DataError(f"{shown(path)} describes no set of images: it needs names, and train, val or test")
        return None
    return DataYaml(path, _folder(path, content), _splits(path, content), _names(path, content), "kpt_shape" in content)


def _folder(path: Path, content: dict[str, Any]) -> Path:
    """``path`` in the file, where there is such a folder; otherwise the folder of the file."""
    stated = content.get("path")
    if isinstance(stated, str) and stated:
        for candidate in (path.parent / stated, Path(stated)):
            if candidate.is_dir():
                return candidate
    return path.parent


def _splits(path: Path, content: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in (*SPLITS, "valid"):
        stated = content.get(name)
        if not stated:
            continue
        sources = stated if isinstance(stated, list) else [stated]
        if not all(isinstance(source, str) for source in sources):
            raise DataError(f"{shown(path)}: {name} must be a folder, a .txt list of images, or a list of these")
        found["val" if name == "valid" else name] = tuple(sources)
    return found


def _names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    stated = content["names"]
    if isinstance(stated, dict):
        if sorted(stated, key=str) != sorted(range(len(stated)), key=str):
            raise DataError(f"{shown(path)}: names must have the numbers 0 to {len(stated) - 1} as keys")
        stated = [stated[index] for index in range(len(stated))]
    if (
        not isinstance(stated, list)
        or not stated
        or any(isinstance(name, dict | list) or name is None for name in stated)
    ):
        raise DataError(f"{shown(path)}: names must be a list of class names, or numbers from 0 on with a name each")
    if content.get("nc", len(stated)) != len(stated):
        raise DataError(f"{shown(path)}: nc is {content['nc']}, and names has {len(stated)} entries")
    return tuple(str(name) for name in stated)
