"""Training settings, checked before anything is written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoo.config import VariantValue
from zoo.errors import ConfigError

Positive = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]


class TrainConfig(BaseModel):
    """How a detector is trained.

    Attributes:
        arch: architecture, for example ``spikeyolo-pico``.
        variant: further arguments of the architecture, such as ``tm`` and ``ts`` of EAS-SNN.
        data: ``digits``, ``digits-events``, or a folder in COCO or GEN1 layout.
        train_length: pictures of a generated set; the first so many of a folder.
        time_steps, levels: T and D; by default the architecture's own.
        image_size: side of the pictures in pixels; by default the architecture's own.
        class_agnostic: suppress overlapping boxes across classes when predicting.
        steps: optimiser steps.
        batch_size: pictures per step.
        lr: peak learning rate of AdamW.
        final_lr: last learning rate, as a share of the peak (cosine in between).
        warmup_steps: linear rise of the learning rate.
        weight_decay: on convolution weights only.
        clip: largest gradient norm.
        ema_decay: of the averaged weights that are kept.
        box_gain, class_gain, dfl_gain, objectness_gain: weights of the loss parts; by default those of the head's recipe.
        seed: of weights, order of pictures, generated pictures and everything else.
        checkpoint_every: steps between checkpoints.
        keep: checkpoints kept.
        log_every: steps between rows of ``metrics.csv``.
        validate_every: steps between measurements of mAP in ``validation.csv``; 0 for none.
        validate_split, validate_length: on which pictures. Generated ones differ from those of ``zoo val``.
        threads: CPU threads of torch; results are bit-identical only for the same number.
        workers: processes that prepare pictures; 0 prepares them in between. The result does not depend on it.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    arch: Annotated[str, Field(min_length=1, max_length=64)]
    variant: Annotated[dict[str, VariantValue], Field(max_length=32)] = {}
    data: Annotated[str, Field(min_length=1)] = "digits"
    train_length: Count = 30_000
    time_steps: Annotated[int, Field(ge=1, le=10_000)] | None = None
    levels: Annotated[int, Field(ge=1, le=255)] | None = None
    image_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    class_agnostic: bool = False
    steps: Count = 6_000
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    lr: Positive = 3e-3
    final_lr: Annotated[float, Field(gt=0, le=1)] = 0.01
    warmup_steps: CountOrNone = 100
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    clip: Positive = 10.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    box_gain: Positive | None = None
    class_gain: Positive | None = None
    dfl_gain: Positive | None = None
    objectness_gain: Positive | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    checkpoint_every: Count = 500
    keep: Annotated[int, Field(ge=1, le=1000)] = 2
    log_every: Count = 20
    validate_every: CountOrNone = 0
    validate_split: Annotated[str, Field(min_length=1)] = "test"
    validate_length: Count = 200
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d{1,2})?|mps)$")] = "cpu"


def _explain(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:5])


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
