"""What a detector found in one picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from zoo.errors import InvalidInputError
from zoo.support.files import replace_atomically

with warnings.catch_warnings():
    # supervision recommends OpenCV when it is imported; nothing here needs it
    warnings.filterwarnings("ignore", message="OpenCV", category=UserWarning)
    import supervision as sv

Pixels = npt.NDArray[np.uint8]

_COLOURS = sv.ColorPalette.from_hex(
    ["#d7263d", "#1b998b", "#2e86de", "#f46036", "#8e44ad", "#3a7d44", "#b8860b", "#c2185b", "#00838f", "#5d4037"]
)
_ON_COLOURS = sv.ColorPalette(
    [sv.Color.BLACK if sum(one.as_rgb()) > 420 else sv.Color.WHITE for one in _COLOURS.colors]
)
"""Of the text on each of them."""
_SMALLEST_PLOT = 480  # pixels on the longer side, so that names stay legible on small pictures


@cache
def _font() -> str:
    """matplotlib's own font: Pillow's and OpenCV's have ASCII only, and class names have more."""
    from matplotlib import get_data_path

    return str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@dataclass(frozen=True)
class Boxes:
    """Detections as bare arrays.

    Attributes:
        xyxy: (N, 4) x1, y1, x2, y2 in pixels of the picture.
        conf: (N,) class scores in 0..1.
        cls: (N,) class indices.
    """

    xyxy: npt.NDArray[np.float32]
    conf: npt.NDArray[np.float32]
    cls: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """Detections in one picture, strongest first.

    Attributes:
        detections: for supervision's annotators, trackers and metrics; ``data["class_name"]`` holds the names.
        image: (H, W, 3) RGB, as it was given.
        class_names: of the detector.
        path: of the picture's file, if it came from one.
        time_us: for events, the moment in microseconds at which objects were found; ``image`` is a drawing of the events.
    """

    detections: sv.Detections
    image: Pixels
    class_names: tuple[str, ...]
    path: Path | None = None
    time_us: int | None = None

    @classmethod
    def from_rows(
        cls,
        xyxy: npt.NDArray[np.floating],
        confidence: npt.NDArray[np.floating],
        class_id: npt.NDArray[np.int_],
        *,
        class_names: Sequence[str],
        image: Pixels,
        path: Path | None = None,
        time_us: int | None = None,
    ) -> Result:
        """A result from arrays (N, 4), (N,) and (N,)."""
        names = np.array([class_names[index] for index in class_id], dtype=str)
        detections = sv.Detections(
            xyxy=np.asarray(xyxy, np.float32).reshape(-1, 4),
            confidence=np.asarray(confidence, np.float32),
            class_id=np.asarray(class_id, int),
            data={"class_name": names},
        )
        return cls(detections, image, tuple(class_names), path, time_us)

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def boxes(self) -> Boxes:
        """Detections as bare arrays."""
        found = self.detections
        return Boxes(
            np.asarray(found.xyxy, np.float32),
            np.asarray([] if found.confidence is None else found.confidence, np.float32),
            np.asarray([] if found.class_id is None else found.class_id, np.int64),
        )

    def to_dict(self) -> dict[str, Any]:
        """Detections as plain data, for JSON."""
        boxes = self.boxes
        return {
            "path": None if self.path is None else str(self.path),
            **({} if self.time_us is None else {"time_us": self.time_us}),
            "height": self.image.shape[0],
            "width": self.image.shape[1],
            "detections": [
                {
                    "class": int(index),
                    "name": self.class_names[index],
                    "confidence": round(float(confidence), 6),
                    "xyxy": [round(float(value), 3) for value in xyxy],
                }
                for xyxy, confidence, index in zip(boxes.xyxy, boxes.conf, boxes.cls, strict=True)
            ],
        }

    def plot(self) -> Pixels:
        """The image (H, W, 3) with boxes, names and confidences, the strongest on top; small images are enlarged."""
        height, width = self.image.shape[:2]
        zoom = max(1, -(-_SMALLEST_PLOT // max(height, width)))
        scene = Image.fromarray(self.image).resize((width * zoom, height * zoom), Image.Resampling.BICUBIC)
        boxes = self.boxes
        order = slice(None, None, -1)
        found = sv.Detections(xyxy=boxes.xyxy[order] * zoom, confidence=boxes.conf[order], class_id=boxes.cls[order])
        names = [
            f"{self.class_names[index]} {confidence:.2f}"
            for index, confidence in zip(boxes.cls[order], boxes.conf[order], strict=True)
        ]
        line, text = max(2, max(scene.size) // 300), max(12, max(scene.size) // 36)
        scene = sv.BoxAnnotator(color=_COLOURS, thickness=line).annotate(scene, found)
        labels = sv.RichLabelAnnotator(
            color=_COLOURS,
            text_color=_ON_COLOURS,
            font_path=_font(),
            font_size=text,
            text_padding=3,
            smart_position=True,
        )
        return np.asarray(labels.annotate(scene, found, names))

    def save(self, path: str | Path) -> Path:
        """Write :meth:`plot` as a picture file, whole or not at all.

        Args:
            path: ending in .png, .jpg or another ending that Pillow can write.

        Raises:
            InvalidInputError: an ending that Pillow cannot write.
            FileMissingError: the folder cannot be made or written.
        """
        path = Path(path)
        kind = Image.registered_extensions().get(path.suffix.lower())
        if kind is None or kind not in Image.SAVE:
            raise InvalidInputError(
                f"cannot write a picture as {path.suffix or 'a file without ending'}: use .png or .jpg"
            )
        with replace_atomically(path) as temporary:
            Image.fromarray(self.plot()).save(temporary, format=kind)
        return path


def check_video(path: Path) -> str:
    """The kind of moving picture that a file's ending stands for.

    Raises:
        InvalidInputError: an ending that cannot hold moving pictures.
    """
    kind = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}.get(path.suffix.lower())
    if kind is None:
        raise InvalidInputError(
            f"cannot write a video as {path.suffix or 'a file without ending'}: use .gif, .webp or .png"
        )
    return kind


def save_video(results: Sequence[Result], path: str | Path, *, milliseconds: int = 200) -> Path:
    """Write the pictures of several results as one moving picture, whole or not at all.

    Args:
        results: in order of time; of one size.
        path: ending in .gif, .webp or .png (animated).
        milliseconds: for which each is shown.

    Raises:
        InvalidInputError: no results, or an ending that cannot hold moving pictures.
        FileMissingError: the folder cannot be made or written.
    """
    path = Path(path)
    kind = check_video(path)
    if not results:
        raise InvalidInputError("a video has at least one picture")
    first, *others = (Image.fromarray(result.plot()) for result in results)
    with replace_atomically(path) as temporary:
        first.save(temporary, format=kind, save_all=True, append_images=others, duration=milliseconds, loop=0)
    return path
