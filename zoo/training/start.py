"""The detector that a run begins with: random weights, or what fits of another model (fine-tuning)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.config import ModelConfig, make_config
from zoo.detectors.building import from_config
from zoo.detectors.detector import Detector
from zoo.detectors.registry import describe
from zoo.errors import ConfigError
from zoo.training.config import TrainConfig

HEAD = "network.head."
"""Every network calls its head so; everything else of a detector serves any classes."""


@dataclass(frozen=True)
class TakenOver:
    """Which tensors of a model that was trained before stand at the beginning of a run.

    Attributes:
        kept: names of the tensors that were taken over.
        new: names of those that begin with random weights.
        why: the reason why some are new.
    """

    kept: tuple[str, ...]
    new: tuple[str, ...]
    why: str = ""

    def summary(self) -> str:
        """In words, with the parts of the detector and the number of tensors of each."""
        text = f"taken over: {_parts(self.kept)}"
        return f"{text}; new: {_parts(self.new)} ({self.why})" if self.new else f"{text}; nothing is new"


def _parts(names: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        part = ".".join(name.split(".")[:2]).removeprefix("network.")
        counts[part] = counts.get(part, 0) + 1
    listed = ", ".join(f"{part} {count}" for part, count in counts.items())
    return f"{len(names)} tensors ({listed})" if names else "nothing"


def model_config(config: TrainConfig, class_names: Sequence[str], start: ModelConfig | None = None) -> ModelConfig:
    """The configuration of the detector to be trained.

    Args:
        config: settings; what they leave open is the architecture's own, or that of ``start``.
        class_names: of the data.
        start: of the model to begin with.

    Raises:
        UnknownModelError, ConfigError: a detector that cannot be.
    """
    asked = describe(
        config.arch,
        num_classes=len(class_names),
        class_names=list(class_names),
        time_steps=config.time_steps,
        levels=config.levels,
        image_size=config.image_size,
        class_agnostic=bool(config.class_agnostic),
        **config.variant,
    )
    if start is None:
        return asked
    if start.arch != config.arch:
        raise ConfigError(f"the model to start from is of the architecture {start.arch}, not {config.arch}")
    changes: dict[str, Any] = {"class_names": tuple(class_names)}
    if config.time_steps is not None:
        changes["time_steps"] = asked.time_steps
    if config.levels is not None:
        changes["levels"] = asked.levels
    if config.image_size is not None:
        changes["input"] = start.input.model_copy(update={"image_size": asked.input.image_size})
    if config.class_agnostic is not None:
        changes["decode"] = start.decode.model_copy(update={"class_agnostic": config.class_agnostic})
    if config.variant:
        changes["variant"] = {**start.variant, **asked.variant}
        if asked.input.events is not None:
            kept = changes.get("input", start.input)
            changes["input"] = kept.model_copy(update={"events": _events(config, start, asked)})
    return make_config(**start.model_copy(update=changes).model_dump())


def _events(config: TrainConfig, start: ModelConfig, asked: ModelConfig) -> Any:
    """How events are taken: as ``start`` does, but for the arguments that were given."""
    plain = describe(config.arch, num_classes=1).input.events
    assert start.input.events is not None  # noqa: S101 - the same architecture
    assert plain is not None  # noqa: S101
    assert asked.input.events is not None  # noqa: S101
    given = {name: value for name, value in asked.input.events if value != getattr(plain, name)}
    return start.input.events.model_copy(update=given)


def build(model: ModelConfig, start: Detector | None) -> tuple[Detector, TakenOver | None]:
    """The detector of a configuration: ``start`` itself where nothing changes, else a new one with what fits of it.

    Other classes, or the same in another order, get a new head.

    Raises:
        ConfigError: nothing of ``start`` fits, or it is a quantised detector, whose classes are fixed.
    """
    if start is None:
        return from_config(model), None
    if model == start.config:
        return start, TakenOver(tuple(start.state_dict()), ())
    if start.config.fused:
        raise ConfigError("only the trainable form of a detector can be changed; this one is fused")
    detector = from_config(model)
    own, other = detector.state_dict(), start.state_dict()
    same_classes = model.class_names == start.config.class_names
    kept = [
        name
        for name, tensor in own.items()
        if name in other and other[name].shape == tensor.shape and (same_classes or not name.startswith(HEAD))
    ]
    if not kept:
        raise ConfigError("nothing of the model to start from fits the detector that these settings describe")
    detector.load_state_dict({**own, **{name: other[name] for name in kept}})
    new = tuple(name for name in own if name not in set(kept))
    why = "another variant of the architecture" if same_classes else _other_classes(start.config, model)
    return detector, TakenOver(tuple(kept), new, why)


def _other_classes(before: ModelConfig, now: ModelConfig) -> str:
    if set(before.class_names) == set(now.class_names):
        return "the classes are in another order"
    return f"other classes: {len(now.class_names)} in place of {len(before.class_names)}"
