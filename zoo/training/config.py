"""Training settings: one table, from which the options of ``zoo train`` are generated, checked before anything is written."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from zoo.cards.card import ModelName
from zoo.config import Augmentation, VariantValue
from zoo.errors import ConfigError
from zoo.training.naming import legal_name

Kind = Literal["recipe", "run"]


@dataclass(frozen=True)
class Setting:
    """How one field of :class:`TrainConfig` appears on the command line, and whether the weights depend on it.

    Attributes:
        panel: heading of ``zoo train --help`` under which it stands.
        kind: ``recipe`` fields decide the weights, so an interrupted run continues only with the same ones. ``run`` fields
            (where and how it runs, what it logs) may differ.
        flags: names of the option, where they are not the field's own.
    """

    panel: Literal["Detector", "Data", "Optimisation", "Loss", "Run"]
    kind: Kind = "recipe"
    flags: tuple[str, ...] = ()


_DETECTOR, _DATA, _OPTIMISATION, _LOSS = Setting("Detector"), Setting("Data"), Setting("Optimisation"), Setting("Loss")
_RUN = Setting("Run", "run")
_GAIN = "Weight of the {} part of the loss; by default that of the head's own recipe."

_Number = Annotated[float, Field(gt=0, le=1e6)]


class TrainConfig(BaseModel):
    """How a detector is trained. Each field's description is its help text in ``zoo train --help``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    arch: Annotated[
        str, Field(min_length=1, max_length=64, description="Architecture, for example spikeyolo-pico."), _DETECTOR
    ]
    start: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Model whose trainable weights the training starts from, instead of random ones. For other classes "
            "its backbone and neck are kept and its head is made anew.",
        ),
        Setting("Detector", flags=("--from",)),
    ] = None
    time_steps: Annotated[
        int | None,
        Field(ge=1, le=10_000, description="Time steps T per image; by default the architecture's own number."),
        Setting("Detector", flags=("--time-steps", "-T")),
    ] = None
    levels: Annotated[
        int | None,
        Field(
            ge=1, le=255, description="Largest integer D that a neuron emits per step; by default the architecture's."
        ),
        Setting("Detector", flags=("--levels", "-D")),
    ] = None
    image_size: Annotated[
        int | None,
        Field(
            ge=1, le=8192, description="Side of the square network input in pixels; by default the architecture's own."
        ),
        _DETECTOR,
    ] = None
    class_agnostic: Annotated[
        bool | None,
        Field(description="Suppress overlapping boxes across classes, instead of within each class, when predicting."),
        _DETECTOR,
    ] = None
    variant: Annotated[
        dict[str, VariantValue],
        Field(max_length=32, description="Further argument of the architecture, such as ts=3; may be repeated."),
        Setting("Detector", flags=("--set",)),
    ] = {}
    data: Annotated[
        str,
        Field(
            min_length=1,
            description="Data set: digits, digits-events, or a folder. A folder may move: a run that continues compares its "
            "contents, not its path.",
        ),
        Setting("Data", "run"),
    ] = "digits"
    split: Annotated[
        str | None,
        Field(
            min_length=1, description="Split to train on, for example train2017; by default the folder's train split."
        ),
        _DATA,
    ] = None
    train_length: Annotated[
        int | None,
        Field(
            ge=1,
            le=10**9,
            description="Use the first so many images of the split; by default all images of a folder, and 30,000 of a "
            "generated set.",
        ),
        _DATA,
    ] = None
    augment: Annotated[
        dict[str, float],
        Field(
            max_length=32,
            description=f"Change of the training images, such as flip_horizontal=0.5; may be repeated. There are "
            f"{', '.join(Augmentation.model_fields)}.",
        ),
        Setting("Data", flags=("--augment",)),
    ] = {}
    steps: Annotated[int, Field(ge=1, le=10**9, description="Optimiser steps."), _OPTIMISATION] = 6_000
    batch_size: Annotated[int, Field(ge=1, le=65_536, description="Images per step."), _OPTIMISATION] = 32
    lr: Annotated[float, Field(gt=0, le=1e6, description="Peak learning rate of AdamW."), _OPTIMISATION] = 3e-3
    final_lr: Annotated[
        float,
        Field(gt=0, le=1, description="Last learning rate as a share of the peak, with a cosine in between."),
        _OPTIMISATION,
    ] = 0.01
    warmup_steps: Annotated[
        int, Field(ge=0, le=10**9, description="Steps in which the learning rate rises to its peak."), _OPTIMISATION
    ] = 100
    weight_decay: Annotated[
        float, Field(ge=0, le=1, description="Weight decay, on convolution weights only."), _OPTIMISATION
    ] = 0.01
    clip: Annotated[
        float,
        Field(gt=0, le=1e6, description="Largest norm of the gradient; larger ones are scaled down."),
        _OPTIMISATION,
    ] = 10.0
    ema_decay: Annotated[
        float,
        Field(ge=0, lt=1, description="Decay per step of the averaged weights, which become the model."),
        _OPTIMISATION,
    ] = 0.998
    seed: Annotated[
        int,
        Field(ge=0, lt=2**32, description="Seed of the random weights, the order of the images and a generated set."),
        _OPTIMISATION,
    ] = 0
    box_gain: Annotated[_Number | None, Field(description=_GAIN.format("box")), _LOSS] = None
    class_gain: Annotated[_Number | None, Field(description=_GAIN.format("class")), _LOSS] = None
    dfl_gain: Annotated[_Number | None, Field(description=_GAIN.format("distribution focal")), _LOSS] = None
    objectness_gain: Annotated[_Number | None, Field(description=_GAIN.format("objectness")), _LOSS] = None
    name: Annotated[
        ModelName | None,
        Field(description="Name of the model; by default made of ARCH and the name of the data."),
        _RUN,
    ] = None
    checkpoint_every: Annotated[int, Field(ge=1, le=10**9, description="Steps between checkpoints."), _RUN] = 500
    keep: Annotated[int, Field(ge=1, le=1000, description="Checkpoints that are kept, newest first."), _RUN] = 2
    log_every: Annotated[int, Field(ge=1, le=10**9, description="Steps between rows of metrics.csv."), _RUN] = 20
    validate_every: Annotated[
        int,
        Field(ge=0, le=10**9, description="Steps between measurements of mAP in validation.csv; 0 measures none."),
        _RUN,
    ] = 0
    validate_split: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Split to measure mAP on; by default the folder's validation split, else its test.",
        ),
        Setting("Run", "run", flags=("--val-split", "--validate-split")),
    ] = None
    validate_length: Annotated[
        int | None,
        Field(
            ge=1,
            le=10**9,
            description="Measure the first so many images; by default all of a folder, and 200 of a generated set (which are "
            "not those of `zoo val`).",
        ),
        _RUN,
    ] = None
    threads: Annotated[
        int,
        Field(ge=1, le=1024, description="CPU threads; results are identical bit by bit only for the same number."),
        _RUN,
    ] = 2
    workers: Annotated[
        int,
        Field(
            ge=0,
            le=256,
            description="Processes that prepare images; 0 prepares them between the steps. Changes no result.",
        ),
        _RUN,
    ] = 0
    device: Annotated[
        str, Field(pattern=r"^(cpu|cuda(:\d{1,2})?|mps)$", description="Torch device: cpu, cuda, cuda:1 or mps."), _RUN
    ] = "cpu"

    @field_validator("augment")
    @classmethod
    def _augmentation(cls, value: dict[str, float]) -> dict[str, float]:
        """Only known changes within their bounds."""
        try:
            Augmentation.model_validate({name: _whole(number) for name, number in value.items()})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            if first["type"] == "extra_forbidden":
                close = difflib.get_close_matches(name, Augmentation.model_fields, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(Augmentation.model_fields)}"
                raise ValueError(f"there is no change {name!r}; {hint}") from None
            raise ValueError(f"{name}: {first['msg']}") from None
        return value

    @property
    def augmentation(self) -> Augmentation:
        """``augment``, with the defaults of what it does not name."""
        return Augmentation.model_validate({name: _whole(number) for name, number in self.augment.items()})


def _whole(number: float) -> float | int:
    """A whole number as an integer: settings in pixels are integers."""
    return int(number) if float(number).is_integer() else number


def setting_of(name: str) -> Setting:
    """How a field appears on the command line, and of which kind it is."""
    (setting,) = (entry for entry in TrainConfig.model_fields[name].metadata if isinstance(entry, Setting))
    return setting


def fields_of(kind: Kind) -> list[str]:
    """Names of the recipe fields or of the run fields."""
    return [name for name in TrainConfig.model_fields if setting_of(name).kind == kind]


def type_of(name: str) -> type:
    """``int``, ``float``, ``bool``, ``str`` or ``dict``: what a field holds where it is not None."""
    found = TrainConfig.model_fields[name].annotation
    while get_origin(found) is not dict and (inner := [part for part in get_args(found) if part is not type(None)]):
        found = inner[0]
    plain: Any = get_origin(found) or found
    return plain


_ELSEWHERE = {
    "learning_rate": "lr",
    "lr0": "lr",
    "imgsz": "image_size",
    "batch": "batch_size",
    "val_split": "validate_split",
    "model": "arch",
    "pretrained": "start",
}
_EPOCHS = "the length of a run is given in steps: steps = epochs * images / batch_size"


def unknown_setting(name: str) -> str:
    """What to say of a setting that does not exist, with the names that are close."""
    if name in {"epochs", "max_epochs", "num_epochs"}:
        return f"there is no setting {name!r}: {_EPOCHS}"
    known = _ELSEWHERE.get(name)
    close = [known] if known else difflib.get_close_matches(name, TrainConfig.model_fields, n=3, cutoff=0.55)
    hint = f"did you mean {' or '.join(close)}?" if close else "`zoo train --help` lists them"
    return f"there is no setting {name!r}; {hint}"


def _explain(error: ValidationError) -> str:
    return "; ".join(_explain_one(one) for one in error.errors()[:5])


def _explain_one(one: Any) -> str:
    name = ".".join(map(str, one["loc"])) or "file"
    if one["type"] == "extra_forbidden":
        return unknown_setting(name)
    if name == "name" and one["type"] == "string_pattern_mismatch":
        return (
            f"{one['input']!r} cannot be the name of a model, which consists of lower case letters, digits, '.', '+' and '-'; "
            f"for example {legal_name(one['input']) or 'my-model'!r}"
        )
    if one["type"] == "string_unicode":
        return f"{name}: {one['input']!a} is not valid Unicode; rename the file or folder"
    return f"{name}: {one['msg']}"


def make_train_config(**fields: Any) -> TrainConfig:
    """Settings from Python values.

    Raises:
        ConfigError: unknown or missing fields, wrong types, numbers out of bounds.
    """
    try:
        return TrainConfig(**fields)
    except ValidationError as error:
        raise ConfigError(f"these training settings are not valid: {_explain(error)}") from None


def parse_train_config(text: str | bytes, *, source: str) -> TrainConfig:
    """Settings from JSON text; what an older version did not write yet takes its default.

    Raises:
        ConfigError: not JSON, unknown fields, wrong types, numbers out of bounds.
    """
    try:
        return TrainConfig.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{source} does not hold valid training settings: {_explain(error)}") from None
