"""Training settings, checked before anything is written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoo.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class TrainConfig(BaseModel):
    """How a detector is trained.

    Attributes:
        arch: architecture, for example ``spikeyolo-pico``.
        data: ``digits`` or a folder in COCO layout.
        train_length: pictures of a generated set; ignored for a folder.
        time_steps, levels: T and D.
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
        box_gain, class_gain, dfl_gain: weights of the loss parts.
        seed: of weights, order of pictures and everything else.
        checkpoint_every: steps between checkpoints.
        keep: checkpoints kept.
        log_every: steps between rows of ``metrics.csv``.
        threads: CPU threads of torch; results are bit-identical only for the same number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    arch: str
    data: str = "digits"
    train_length: Count = 30_000
    time_steps: Count = 1
    levels: Count = 4
    image_size: Count | None = None
    class_agnostic: bool = False
    steps: Count = 6_000
    batch_size: Count = 32
    lr: Positive = 3e-3
    final_lr: Annotated[float, Field(gt=0, le=1)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Positive = 10.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    box_gain: Positive = 7.5
    class_gain: Positive = 0.5
    dfl_gain: Positive = 1.5
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Count = 500
    keep: Count = 2
    log_every: Count = 20
    threads: Count = 2


def make_train_config(**fields: Any) -> TrainConfig:
    """Settings from Python values.

    Raises:
        ConfigError: unknown or missing fields, wrong types, numbers out of bounds.
    """
    try:
        return TrainConfig(**fields)
    except ValidationError as error:
        listed = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ConfigError(f"these training settings are not valid: {listed}") from None
