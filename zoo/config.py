"""``config.json``: everything besides weights that a detector is made of, as checked data.

The file holds data only. It is validated strictly (unknown keys, wrong types and numbers out of bounds are errors) before
anything is built from it, so that a downloaded configuration can neither run code nor ask for absurd amounts of memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zoo.errors import ConfigError, FileMissingError

Side = Annotated[int, Field(ge=1, le=8192)]
Pixels = Annotated[float, Field(gt=0, le=8192)]
Anchors = tuple[tuple[tuple[Pixels, Pixels], ...], ...]
"""Per scale, finest first: (width, height) of each anchor in input pixels."""
VariantValue = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class EventSpec(_Strict):
    """How a stream of events becomes micro-slices.

    Attributes:
        micro_slices: Tm, slices of equal duration in a window.
        window_us: duration of the window in microseconds; it ends where objects are to be found.
        sensor_size: (height, width) of the camera in pixels.
    """

    micro_slices: Annotated[int, Field(ge=1, le=1000)] = 4
    window_us: Annotated[int, Field(ge=1, le=10**9)] = 200_000
    sensor_size: Annotated[tuple[Side, Side], Field(strict=False)] = (240, 304)


class InputSpec(_Strict):
    """What the network receives, and how a picture or a stream of events becomes that.

    Attributes:
        channels: channels of the input; 3 means RGB, 2 the polarities of events.
        image_size: (height, width) in pixels that the detector was made for.
        resize: ``letterbox`` keeps the aspect ratio and pads with ``pad_value``; ``stretch`` does not.
        pad_value: grey level of the padding, 0..255.
        events: for event cameras; None for pictures.
    """

    channels: Annotated[int, Field(ge=1, le=64)] = 3
    image_size: Annotated[tuple[Side, Side], Field(strict=False)] = (640, 640)
    resize: Literal["letterbox", "stretch"] = "letterbox"
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114
    events: EventSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> InputSpec:
        if self.events is not None and self.channels != 2:
            raise ValueError("an event camera has 2 channels, one per polarity")
        return self


class DecodeSpec(_Strict):
    """How raw head maps become boxes; this part lies outside the NIR graph and is the same for every backend.

    Attributes:
        kind: a head of :mod:`zoo.heads`. ``dfl``: distribution focal loss bins per box side, then class logits. ``anchors``:
            per anchor x, y, w, h, objectness, class logits, as YOLOv5 reads them; ``anchors_exp``: the same as YOLOv3 reads
            them. ``yolox``: x, y, log w, log h, objectness, class logits.
        strides: input pixels per cell, finest scale first.
        reg_max: bins per box side (``dfl``).
        anchors: (width, height) in input pixels of each anchor of each scale (``anchors``).
        class_agnostic: non-maximum suppression across classes instead of within each class.
    """

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")] = "dfl"
    strides: Annotated[
        tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(strict=False, min_length=1, max_length=8)
    ] = (
        8,
        16,
        32,
    )
    reg_max: Annotated[int, Field(ge=2, le=64)] = 16
    anchors: Annotated[Anchors, Field(strict=False, max_length=8)] | None = None
    class_agnostic: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> DecodeSpec:
        if self.anchors is not None:
            counts = {len(scale) for scale in self.anchors}
            if len(self.anchors) != len(self.strides) or len(counts) != 1 or not 1 <= min(counts) <= 32:
                raise ValueError("anchors must hold the same number of pairs, 1 to 32, for each stride")
        return self


class Quantization(_Strict):
    """How the weights were rounded; see :mod:`zoo.compression.quantization`. Pictures are then whole multiples of 1/256.

    Attributes:
        bits: of a weight, its sign included.
        per: one power-of-two grid per layer, or per output channel.
    """

    bits: Annotated[int, Field(ge=4, le=16)] = 8
    per: Literal["layer", "channel"] = "layer"


class ModelConfig(_Strict):
    """The whole configuration of one detector.

    Attributes:
        format: version of this layout.
        arch: name that ``zoo.create`` takes, for example ``spikeyolo-n``.
        class_names: one name per class, in the order of the class logits.
        time_steps: T, network steps per image.
        levels: D, the largest integer that an I-LIF neuron emits per step.
        variant: further keyword arguments of the architecture.
        fused: batch norms are folded into the convolutions (the deployed form).
        merged: re-parameterised convolutions are merged into one dense convolution each (implies ``fused``).
        quantization: how the weights were rounded to power-of-two grids; None where they were not.
        input, decode: see there.
    """

    format: Literal[1] = 1
    arch: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$")]
    class_names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...],
        Field(strict=False, min_length=1, max_length=10_000),
    ]
    time_steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    levels: Annotated[int, Field(ge=1, le=255)] = 4
    variant: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], VariantValue], Field(max_length=32)
    ] = {}
    fused: bool = False
    merged: bool = False
    quantization: Quantization | None = None
    input: InputSpec = InputSpec()
    decode: DecodeSpec = DecodeSpec()

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.merged and not self.fused:
            raise ValueError("merged implies fused: a merged detector has no batch norm left")
        if self.quantization is not None and not self.merged:
            raise ValueError("a quantised detector is merged: its synapses see spikes only")
        return self

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def to_json(self) -> str:
        """The configuration as the text of ``config.json``."""
        return self.model_dump_json(indent=2) + "\n"


def _explain(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:5])


def make_config(**fields: Any) -> ModelConfig:
    """A configuration from Python values.

    Raises:
        ConfigError: unknown or missing fields, wrong types, numbers out of bounds.
    """
    try:
        return ModelConfig(**fields)
    except ValidationError as error:
        raise ConfigError(f"this is not a valid model configuration: {_explain(error)}") from None


def parse_config(text: str | bytes, *, source: str = "config.json") -> ModelConfig:
    """Read a configuration from JSON text.

    Raises:
        ConfigError: not JSON, unknown or missing keys, wrong types, numbers out of bounds.
    """
    try:
        return ModelConfig.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{source} is not a valid model configuration: {_explain(error)}") from None


def read_config(path: Path) -> ModelConfig:
    """Read ``config.json`` from a file of at most 1 MiB.

    Raises:
        FileMissingError: no such file.
        ConfigError: see :func:`parse_config`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(2**20 + 1)
    except OSError as error:
        raise FileMissingError(f"cannot read the model configuration {path}: {error.strerror}") from None
    if len(text) > 2**20:
        raise ConfigError(f"{path} is larger than 1 MiB: this is no model configuration")
    return parse_config(text, source=str(path))


_Share = Annotated[float, Field(ge=0, le=1)]


class Augmentation(BaseModel):
    """How images are changed during training. All settings default to no change.

    Attributes:
        mosaic: probability that an image is composed of four.
        mixup: probability that a second image is blended in.
        degrees: largest rotation, in degrees, either way.
        translate: largest shift, as a share of the image's side, either way.
        scale: largest change of size: the factor is drawn from 1 - scale to 1 + scale.
        shear: largest shear, in degrees, either way.
        crop: side of a square in pixels of the original image that is cut out at full resolution; 0 for the whole image.
        flip_horizontal, flip_vertical: probabilities.
        hue, saturation, brightness: largest relative change, each either way.
        noise: largest standard deviation of Gaussian noise, in grey levels of 255.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    mosaic: _Share = 0.0
    mixup: _Share = 0.0
    degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    translate: _Share = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shear: Annotated[float, Field(ge=0, le=60)] = 0.0
    crop: Annotated[int, Field(ge=0, le=65_536)] = 0
    flip_horizontal: _Share = 0.0
    flip_vertical: _Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    saturation: _Share = 0.0
    brightness: _Share = 0.0
    noise: Annotated[float, Field(ge=0, le=128)] = 0.0

    @property
    def changes_nothing(self) -> bool:
        """Whether every setting is zero."""
        return not any(self.model_dump().values())
