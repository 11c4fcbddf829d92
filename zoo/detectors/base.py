"""What every detector can do, whichever framework runs it: take images, return raw head maps, decode, predict.

:class:`zoo.detectors.detector.Detector` is the snnTorch form (an ordinary ``nn.Module``), and
:class:`zoo.detectors.graph.GraphDetector` runs an exported NIR graph on any backend. Both share everything before and after the
graph: repeating the image over T, the mean over T, decoding and non-maximum suppression.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.config import ModelConfig
from zoo.detectors.modes import evaluating
from zoo.errors import InvalidInputError
from zoo.heads.table import head_of

if TYPE_CHECKING:
    from zoo.config import EventSpec
    from zoo.data.events import Events
    from zoo.data.images import ImageSource, Placement
    from zoo.data.prophesee import DatFile
    from zoo.result import Result


def folded_input(images: Tensor, config: ModelConfig) -> Tensor:
    """Images (B, C, H, W), repeated T times, or frames (T, B, C, H, W), as the folded (T*B, C, H, W).

    For a quantised detector the values are rounded to n / 256 with n the 8-bit level 0..255.

    Raises:
        InvalidInputError: other dimensions, channels, time steps, or a size that the strides do not divide.
    """
    channels, steps, multiple = config.input.channels, config.time_steps, max(config.decode.strides)
    if images.dim() == 4:
        images = images.expand(steps, *images.shape)
    if images.dim() != 5 or images.shape[0] != steps or images.shape[2] != channels:
        raise InvalidInputError(
            f"expected images of shape (B, {channels}, H, W) or frames of shape ({steps}, B, {channels}, H, W), "
            f"got {tuple(images.shape)}"
        )
    height, width = images.shape[-2:]
    if height % multiple or width % multiple or images.numel() == 0:
        raise InvalidInputError(f"height and width must be multiples of {multiple} and not zero, got {height}x{width}")
    if not images.is_floating_point():
        raise InvalidInputError(f"expected images as floating point in [0, 1], got {images.dtype}")
    folded = images.flatten(0, 1)
    # what a quantised detector was made for: pictures of 8 bits on the grid of 1/256
    return folded if config.quantization is None else folded.mul(255).round_().clamp_(0, 255).div_(256)


def _check_limits(conf: float, iou: float, max_det: int) -> None:
    for name, value in (("conf", conf), ("iou", iou)):
        if not 0 <= value <= 1:
            raise InvalidInputError(f"{name} must lie in 0..1, got {value}")
    if max_det < 1:
        raise InvalidInputError(f"max_det must be at least 1, got {max_det}")


class DetectorBase:
    """Decoding and prediction, shared by all backends. A subclass provides ``__call__`` and ``dtype``.

    Attributes:
        config: architecture and hyper-parameters.
        card: the zoo's card when the detector came from a named model, else None.
        encoder: of event detectors: micro-slices -> frames; None for pictures.
    """

    config: ModelConfig
    card: Any
    encoder: nn.Module | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, in the order of the class logits."""
        return self.config.class_names

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels to which pictures are resized."""
        return self.config.input.image_size

    @property
    def time_steps(self) -> int:
        """T, network steps per image."""
        return self.config.time_steps

    def frames(self, images: Tensor) -> Tensor:
        """What the network receives: images (B, C, H, W) or micro-slices (Tm, B, 2, H, W) -> frames (T*B, C, H, W).

        Raises:
            InvalidInputError: see :func:`folded_input`.
        """
        if self.encoder is None:
            return folded_input(images, self.config)
        weight = next(self.encoder.parameters(), None)
        if weight is not None and images.is_floating_point():
            images = images.to(weight.device, weight.dtype)
        frames: Tensor = self.encoder(images)
        return folded_input(frames.expand(self.time_steps, *frames.shape[1:]), self.config)

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw head maps, finest first -> (B, 4 + classes, A): cx, cy, w, h in input pixels, then class scores in 0..1."""
        spec = self.config.decode
        return head_of(spec).decode(raw, spec, self.config.num_classes)

    def predict(
        self,
        source: ImageSource | Events | Sequence[ImageSource | Events],
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
    ) -> Result | list[Result]:
        """Detect objects in one picture or in several; for event detectors, at the end of a stream of events.

        Args:
            source: path, PIL image, uint8 array (H, W, 3) in RGB, or tensor (3, H, W); or a list of these. Event detectors take
                a structured array with the fields x, y, t and p (as tonic has it), or the path of a ``.dat`` recording.
            conf: least class score of a detection, 0..1.
            iou: overlap above which the weaker of two boxes is dropped, 0..1.
            max_det: detections per picture at most.

        Returns:
            A result with ``supervision.Detections`` in pixels of the source; a list of them for a list of sources.

        Raises:
            InvalidInputError: not a picture, or limits out of bounds.
            FileMissingError: no such file.
        """
        _check_limits(conf, iou, max_det)
        if isinstance(source, list | tuple):
            return [self._predict_one(one, conf, iou, max_det) for one in source]
        return self._predict_one(source, conf, iou, max_det)

    def predict_recording(
        self,
        path: str | Path,
        *,
        step_us: int | None = None,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
    ) -> Iterator[Result]:
        """Detect objects all along a recording of events, in one pass and in little memory.

        Args:
            path: of a ``.dat`` file.
            step_us: microseconds from one result to the next; by default one window.
            conf, iou, max_det: see :meth:`predict`.

        Yields:
            One result for each moment, with ``time_us``.

        Raises:
            InvalidInputError: this detector takes pictures, the recording is of another sensor, or its events are not in order.
            FileMissingError, CorruptFileError: no such file, or a damaged one.
        """
        from zoo.data.prophesee import stream_windows

        _check_limits(conf, iou, max_det)
        spec = self._events()
        if step_us is not None and step_us < 1:
            raise InvalidInputError(f"step_us must be at least 1, got {step_us}")
        file = self._recording(path)
        for end, events in stream_windows(file, step_us or spec.window_us, spec.window_us):
            yield self._at(events, end, Path(path), conf, iou, max_det)

    def check_recordings(self, paths: Sequence[str | Path]) -> None:
        """Refuse recordings that are damaged or of another sensor, before anything is done with any of them.

        Raises:
            InvalidInputError, FileMissingError, CorruptFileError: see :meth:`predict_recording`.
        """
        for path in paths:
            self._recording(path)

    def _events(self) -> EventSpec:
        if self.config.input.events is None:
            raise InvalidInputError(
                f"{self.config.arch} takes pictures, not events; use an event detector such as eas-snn"
            )
        return self.config.input.events

    def _recording(self, path: str | Path) -> DatFile:
        from zoo.data.prophesee import DatFile

        file = DatFile(path)
        if problem := file.mismatch(self._events().sensor_size):
            raise InvalidInputError(problem)
        if file.count == 0:
            raise InvalidInputError(f"{path} holds no events")
        return file

    def _at(self, events: Any, end: int, path: Path | None, conf: float, iou: float, max_det: int) -> Result:
        """Detections at a moment, of events in order."""
        from zoo.data.events import draw_events, micro_slices, prepare_events

        counts = micro_slices(events, self._events(), end=end)
        tensor, placement = prepare_events(counts, self.config.input, self.image_size)
        image = draw_events(counts)
        return self._found(tensor[:, None], placement, image, path, (conf, iou, max_det), time_us=end)

    def _predict_events(self, source: Any, conf: float, iou: float, max_det: int) -> Result:
        from zoo.data.events import check_events

        spec = self._events()
        if isinstance(source, str | Path):
            from zoo.data.prophesee import stream_windows

            last = deque(stream_windows(self._recording(source), spec.window_us, spec.window_us), maxlen=1)
            ((end, events),) = last
            return self._at(events, end, Path(source), conf, iou, max_det)
        events = check_events(source, spec.sensor_size)
        return self._at(events, int(events["t"][-1]) + 1, None, conf, iou, max_det)

    def _predict_one(self, source: Any, conf: float, iou: float, max_det: int) -> Result:
        from zoo.data.images import load_image, prepare

        if self.config.input.events is not None:
            return self._predict_events(source, conf, iou, max_det)
        image = load_image(source)
        tensor, placement = prepare(image, self.config.input)
        path = Path(source) if isinstance(source, str | Path) else None
        return self._found(tensor[None], placement, image, path, (conf, iou, max_det))

    def _found(
        self,
        batch: Tensor,
        placement: Placement,
        image: Any,
        path: Path | None,
        limits: tuple[float, float, int],
        *,
        time_us: int | None = None,
    ) -> Result:
        """Detections in a batch of one."""
        from zoo.heads.nms import non_max_suppression
        from zoo.result import Result

        conf, iou, max_det = limits
        with torch.inference_mode(), evaluating(self):
            decoded = self.decode(self(batch))
            (kept,) = non_max_suppression(
                decoded, conf=conf, iou=iou, max_det=max_det, class_agnostic=self.config.decode.class_agnostic
            )
        rows = kept.double().cpu().numpy()
        return Result.from_rows(
            placement.undo(rows[:, :4]),
            rows[:, 4],
            rows[:, 5].astype(int),
            class_names=self.class_names,
            image=image,
            path=path,
            time_us=time_us,
        )

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) in [0, 1] or frames (T, B, C, H, W) -> raw head maps averaged over T, finest first."""
        raise NotImplementedError
