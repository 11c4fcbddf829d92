"""Architectures by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from zoo.config import DecodeSpec, InputSpec, ModelConfig, make_config
from zoo.detectors.detector import Detector
from zoo.detectors.eas_snn import model as eas_snn
from zoo.detectors.ems_yolo import model as ems_yolo
from zoo.detectors.spikeyolo import model as spikeyolo
from zoo.detectors.spiking_yolo import model as spiking_yolo
from zoo.detectors.spikingyolox import model as spikingyolox
from zoo.errors import ConfigError, InvalidInputError, UnknownModelError


class Family:
    """One published architecture with its sizes.

    Args:
        name: prefix of the architecture names, for example ``spikeyolo``.
        sizes: what may follow, for example ``n`` in ``spikeyolo-n``.
        network: called as ``network(size, num_classes=..., time_steps=..., levels=..., **variant)``.
        input_spec, decode_spec: called with the size.
        time_steps, levels: T and D where the caller gives none.
        encoder: of event detectors; called as ``encoder(size, tm=..., **variant)``.
    """

    def __init__(
        self,
        name: str,
        sizes: Sequence[str],
        network: Callable[..., nn.Module],
        input_spec: Callable[[str], InputSpec],
        decode_spec: Callable[[str], DecodeSpec],
        *,
        time_steps: int = 1,
        levels: int = 1,
        encoder: Callable[..., nn.Module] | None = None,
    ) -> None:
        self.name = name
        self.sizes = tuple(sizes)
        self.network = network
        self.input_spec = input_spec
        self.decode_spec = decode_spec
        self.time_steps = time_steps
        self.levels = levels
        self.encoder = encoder

    def variants(self) -> set[str]:
        """Keyword arguments that a caller may set besides the common ones."""
        return self._network_variants() | self._encoder_variants()

    def _network_variants(self) -> set[str]:
        return set(inspect.signature(self.network).parameters) - {"size", "num_classes", "time_steps", "levels"}

    def _encoder_variants(self) -> set[str]:
        return set() if self.encoder is None else set(inspect.signature(self.encoder).parameters) - {"size", "tm"}

    def build(self, size: str, config: ModelConfig) -> tuple[nn.Module, nn.Module | None]:
        """Network and encoder of a configuration.

        Raises:
            TypeError, ValueError, InvalidInputError: arguments that do not fit.
        """
        mine = self._network_variants()
        encoder = None
        if self.encoder is not None and config.input.events is not None:
            theirs = {key: value for key, value in config.variant.items() if key in self._encoder_variants()}
            encoder = self.encoder(size, tm=config.input.events.micro_slices, **theirs)
            if encoder.ts not in (1, config.time_steps):
                raise InvalidInputError(
                    f"the encoder makes 1 frame, which is repeated, or one for each of the T = {config.time_steps} steps, "
                    f"not ts = {encoder.ts}"
                )
        network = self.network(
            size,
            num_classes=config.num_classes,
            time_steps=config.time_steps,
            levels=config.levels,
            **{key: value for key, value in config.variant.items() if key in mine},
        )
        return network, encoder


FAMILIES = {
    "spikeyolo": Family(
        "spikeyolo",
        tuple(spikeyolo.SIZES),
        spikeyolo.SpikeYOLO,
        spikeyolo.input_spec,
        spikeyolo.decode_spec,
        levels=4,
    ),
    "ems-yolo": Family(
        "ems-yolo",
        tuple(ems_yolo.SIZES),
        ems_yolo.EMSYOLO,
        ems_yolo.input_spec,
        ems_yolo.decode_spec,
        time_steps=4,
    ),
    "spiking-yolo": Family(
        "spiking-yolo",
        tuple(spiking_yolo.SIZES),
        spiking_yolo.SpikingYOLO,
        spiking_yolo.input_spec,
        spiking_yolo.decode_spec,
    ),
    "spikingyolox": Family(
        "spikingyolox",
        tuple(spikingyolox.SIZES),
        spikingyolox.SpikingYOLOX,
        spikingyolox.input_spec,
        spikingyolox.decode_spec,
    ),
    "eas-snn": Family(
        "eas-snn",
        tuple(eas_snn.SIZES),
        eas_snn.EASSNN,
        eas_snn.input_spec,
        eas_snn.decode_spec,
        time_steps=3,
        encoder=eas_snn.encoder,
    ),
}
_EVENTS = {"tm": "micro_slices", "window_us": "window_us", "sensor_size": "sensor_size"}
"""Arguments of event detectors that are part of their input."""


def architectures() -> list[str]:
    """Every name that :func:`create` takes."""
    return [f"{family.name}-{size}" for family in FAMILIES.values() for size in family.sizes]


def _resolve(arch: str) -> tuple[Family, str]:
    for family in FAMILIES.values():
        for size in family.sizes:
            if arch == f"{family.name}-{size}":
                return family, size
    close = difflib.get_close_matches(arch, architectures(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(architectures())}"
    raise UnknownModelError(f"there is no architecture {arch!r}; {hint}")


def describe(
    arch: str,
    *,
    num_classes: int,
    time_steps: int | None = None,
    levels: int | None = None,
    class_names: Sequence[str] | None = None,
    image_size: tuple[int, int] | int | None = None,
    class_agnostic: bool = False,
    **variant: Any,
) -> ModelConfig:
    """The configuration of a detector in training form.

    Args:
        arch: for example ``spikeyolo-n``; see :func:`architectures`.
        num_classes: number of classes.
        time_steps: T; by default the architecture's own.
        levels: D of integer neurons; by default the architecture's own.
        class_names: by default ``class 0``, ``class 1``, ...
        image_size: (height, width) in pixels to which pictures are resized; by default the architecture's own.
        class_agnostic: suppress overlapping boxes across classes in ``predict``.
        **variant: further arguments of the architecture, such as ``decay`` or ``form``; for event cameras also ``tm``
            (micro-slices), ``window_us`` and ``sensor_size`` (height, width).

    Raises:
        UnknownModelError: no such architecture.
        ConfigError: a number out of bounds, an unknown variant argument, or class names that do not fit.
    """
    family, size = _resolve(arch)
    known = family.variants() | (set() if family.encoder is None else set(_EVENTS))
    unknown = set(variant) - known
    if unknown:
        raise ConfigError(f"{arch} takes no argument {', '.join(sorted(unknown))}; it takes {', '.join(sorted(known))}")
    if class_names is None:
        class_names = [f"class {index}" for index in range(num_classes)]
    if len(class_names) != num_classes:
        raise ConfigError(f"{len(class_names)} class names were given for {num_classes} classes")
    spec = family.input_spec(size).model_dump()
    if image_size is not None:
        spec["image_size"] = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if spec["events"] is not None:
        spec["events"] |= {name: variant.pop(key) for key, name in _EVENTS.items() if key in variant}
    return make_config(
        arch=arch,
        class_names=tuple(class_names),
        time_steps=family.time_steps if time_steps is None else time_steps,
        levels=family.levels if levels is None else levels,
        variant=variant,
        input=spec,
        decode=family.decode_spec(size).model_dump() | {"class_agnostic": class_agnostic},
    )


def create(arch: str, **settings: Any) -> Detector:
    """A detector with random weights, in training form.

    Args:
        arch: for example ``spikeyolo-n``; see :func:`architectures`.
        **settings: see :func:`describe`.

    Raises:
        UnknownModelError: no such architecture.
        ConfigError: a number out of bounds, an unknown variant argument, or class names that do not fit.
    """
    return from_config(describe(arch, **settings))


def encoder_of(config: ModelConfig) -> nn.Module | None:
    """The encoder that a configuration describes, with random weights; None for pictures.

    Raises:
        UnknownModelError, ConfigError: as :func:`create`.
    """
    if config.input.events is None:
        return None
    return from_config(config).encoder


def from_config(config: ModelConfig) -> Detector:
    """The detector that a configuration describes, with random weights; fused when the configuration says so.

    Raises:
        UnknownModelError, ConfigError: as :func:`create`.
    """
    family, size = _resolve(config.arch)
    multiple = max(config.decode.strides)
    if any(side % multiple for side in config.input.image_size):
        raise ConfigError(f"image_size must consist of multiples of {multiple}, got {config.input.image_size}")
    made = family.decode_spec(size)
    shapes = [
        (spec.kind, spec.strides, spec.reg_max, spec.anchors and len(spec.anchors[0])) for spec in (config.decode, made)
    ]
    fits = shapes[0] == shapes[1]
    takes = family.input_spec(size)
    same_input = config.input.channels == takes.channels and (config.input.events is None) == (takes.events is None)
    if not fits or not same_input or not config.variant.keys() <= family.variants():
        raise ConfigError(
            f"{config.arch} has {made.kind} heads of strides {made.strides} and {made.reg_max} bins, and takes "
            f"{takes.channels} channels of {'events' if takes.events else 'pictures'} and the arguments "
            f"{', '.join(sorted(family.variants()))}; the configuration says otherwise"
        )
    try:
        network, encoder = family.build(size, config)
    except (TypeError, ValueError, InvalidInputError) as error:
        raise ConfigError(f"{config.arch} cannot be built from this configuration: {error}") from error
    plain = config.model_copy(update={"fused": False, "merged": False, "quantization": None})
    detector = Detector(network, plain, encoder)
    if not config.fused:
        return detector
    detector = detector.fuse(merge=config.merged)
    if config.quantization is not None:
        from zoo.compression.quantization import allow_thresholds_per_channel

        allow_thresholds_per_channel(detector)
        detector.config = config
    return detector
