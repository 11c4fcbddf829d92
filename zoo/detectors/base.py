"""What every detector can do, whichever framework runs it: take images, return raw head maps, decode, predict.

:class:`Detector` is the snnTorch form (an ordinary ``nn.Module``). :class:`GraphDetector` runs an exported NIR graph on any
backend. Both share everything before and after the graph: repeating the image over T, the mean over T, decoding and
non-maximum suppression.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from zoo.config import ModelConfig
from zoo.errors import InvalidInputError
from zoo.layers.neurons import FoldedNeuron

if TYPE_CHECKING:
    import nir

    from zoo.config import EventSpec
    from zoo.data.events import Events
    from zoo.data.images import ImageSource, Placement
    from zoo.data.prophesee import DatFile
    from zoo.results import Result


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
        from zoo.detectors.decoding import decode_anchors, decode_dfl, decode_yolox

        spec = self.config.decode
        if spec.kind == "yolox":
            return decode_yolox(raw, strides=spec.strides, num_classes=self.config.num_classes)
        if spec.anchors is not None:
            return decode_anchors(
                raw,
                strides=spec.strides,
                anchors=spec.anchors,
                num_classes=self.config.num_classes,
                exponential=spec.kind == "anchors_exp",
            )
        return decode_dfl(raw, strides=spec.strides, reg_max=spec.reg_max, num_classes=self.config.num_classes)

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
        from zoo.detectors.decoding import non_max_suppression
        from zoo.results import Result

        conf, iou, max_det = limits
        with torch.inference_mode():
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


class Detector(DetectorBase, nn.Module):
    """A detector in snnTorch: ordinary, trainable, exportable.

    Args:
        network: (T*B, C, H, W) -> list of raw head maps (T*B, channels, H/s, W/s), finest first.
        config: describes the network.
        encoder: of event detectors: micro-slices (Tm, B, 2, H, W), oldest first, -> frames (Ts, B, 2, H, W).
    """

    __call__ = nn.Module.__call__

    def __init__(self, network: nn.Module, config: ModelConfig, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network
        self.encoder = encoder
        self.config = config
        self.card = None

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.network.parameters()).dtype

    @property
    def is_fused(self) -> bool:
        """Whether batch norms are folded into the convolutions (the deployed form)."""
        return self.config.fused

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) in [0, 1] or frames (T, B, C, H, W) -> raw head maps (B, channels, H/s, W/s).

        Event detectors take micro-slices (Tm, B, 2, H, W), oldest first. The maps are averaged over T, finest scale first. A
        converted network runs in memory that does not grow with T.
        """
        if getattr(self.network, "spiking", False) and images.dim() == 4 and not self.training:
            from zoo.conversion import stream

            ((_, averaged),) = stream(self, images, quiet=True)
            return averaged
        device = next(self.network.parameters()).device
        maps = self.network(self.frames(images).to(device, self.dtype))
        if getattr(self.network, "averages_time", False):
            return list(maps)
        return [raw.unflatten(0, (self.time_steps, -1)).mean(0) for raw in maps]

    def fuse(self, *, merge: bool = False, dtype: torch.dtype = torch.float32) -> Detector:
        """The deployed form: batch norms folded in float64, constants rounded once to ``dtype``.

        Args:
            merge: also merge each re-parameterised convolution into one dense 3x3: more weights, but then every synapse
                sees spikes only, which certificates and neuromorphic chips need.
            dtype: of the result. float32 is what is published; float64 serves comparisons with other float64 code.

        Returns:
            A new detector in eval mode; this one is unchanged.

        Raises:
            InvalidInputError: already fused.
        """
        if self.is_fused:
            raise InvalidInputError("this detector is fused already; fuse the trainable form instead")
        fused = copy.deepcopy(self).cpu().eval()
        for module in list(fused.network.modules()):
            fold: Any = getattr(module, "fuse_", None)
            if fold is not None:
                fold(merge=merge)
        for module in fused.network.modules():
            if isinstance(module, FoldedNeuron):
                module.freeze(dtype)
        fused.config = self.config.model_copy(update={"fused": True, "merged": merge})
        return fused.to(dtype).eval().requires_grad_(False)

    def to_nir(self, image_size: tuple[int, int] | int | None = None) -> nir.NIRGraph:
        """Export the deployed form to standard NIR.

        Args:
            image_size: (height, width) in pixels, or one number for both; by default the detector's own.

        Raises:
            ExportError: a module has no exact lowering; the message names it.
        """
        from zoo.nir_graphs.export import export_detector

        return export_detector(self, image_size)

    def export(
        self, path: str | Path, *, image_size: tuple[int, int] | int | None = None, single_output: bool = False
    ) -> Path:
        """Write the deployed form as a standard ``.nir`` file; see :func:`zoo.export`."""
        from zoo.api import export

        return export(self, path, image_size=image_size, single_output=single_output)


class RunnableGraph(Protocol):
    """What :class:`GraphDetector` needs of a runnable graph."""

    graph: nir.NIRGraph
    dtype: torch.dtype

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Input (T, B, ...) -> outputs (T, B, ...) by node name."""
        ...


class GraphDetector(DetectorBase):
    """A detector rebuilt from a NIR graph alone, on any backend.

    Args:
        runnable: a backend's runnable form of the graph.
        config: describes input, classes and decoding.
        encoder: of event detectors, in front of the graph.
    """

    def __init__(self, runnable: RunnableGraph, config: ModelConfig, encoder: nn.Module | None = None) -> None:
        from zoo.nir_graphs import metadata

        self.runnable = runnable
        self.encoder = encoder
        self.config = config
        self.card = None
        self.info = metadata.get(runnable.graph)

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the graph runs."""
        return self.runnable.dtype

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels for which the graph was exported."""
        return self.info.image_size or self.config.input.image_size

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) in [0, 1] or frames (T, B, C, H, W) -> raw head maps averaged over T, finest first.

        Event detectors take micro-slices (Tm, B, 2, H, W), oldest first.

        Raises:
            InvalidInputError: another image size than the graph was exported for.
        """
        folded = self.frames(images)
        if tuple(folded.shape[-2:]) != tuple(self.image_size):
            raise InvalidInputError(
                f"this graph was exported for images of {self.image_size[0]}x{self.image_size[1]} pixels, got "
                f"{folded.shape[-2]}x{folded.shape[-1]}; export it again with image_size=..."
            )
        outputs = self.runnable(folded.unflatten(0, (self.time_steps, -1)).to(self.dtype))
        return [raw.mean(0) for raw in self._scales(outputs)]

    def _scales(self, outputs: dict[str, Tensor]) -> list[Tensor]:
        """Head maps, finest first, cut out of the common Output node where they share one."""
        scales = []
        for place in self.info.outputs:
            scale = outputs[place["node"]]
            if "top" in place:
                scale = scale[..., place["top"] : place["top"] + place["height"], : place["width"]]
            scales.append(scale)
        return scales
