"""Architectures by name. A family registers itself with one decorator on its network, in ``model.py`` of its own room."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from zoo.cards.card import Paper
from zoo.config import DecodeSpec, InputSpec, ModelConfig, VariantValue, make_config
from zoo.detectors.encoder import EventEncoder
from zoo.detectors.network import NetworkModule
from zoo.errors import ConfigError, InvalidInputError, UnknownModelError
from zoo.heads.table import head_of
from zoo.support.discovery import import_all

State = Mapping[str, Tensor]
Built = TypeVar("Built", bound=type[NetworkModule])


@dataclass(frozen=True)
class Official:
    """How the authors' checkpoints of a family become its official form.

    Attributes:
        sizes: of which there are checkpoints.
        convert: (official state dict, size) -> the same weights under our names. Keys that belong to nothing keep theirs, so
            that the caller can report them.
        variant: arguments of the architecture that make the official form.
        variant_of: further arguments, read from a state dict; none by default.
        decoding_of: (official state dict, size) -> fields of :class:`DecodeSpec` that the checkpoint holds; none by default.
        is_ann: the checkpoint is of an ANN, which has no time steps.
        time_steps: T where the user of the command line names none; None: there is no usual one.
    """

    sizes: Sequence[str]
    convert: Callable[[State, str], dict[str, Tensor]]
    variant: Mapping[str, VariantValue] = field(default_factory=dict)
    variant_of: Callable[[State], Mapping[str, VariantValue]] = lambda _state: {}
    decoding_of: Callable[[State, str], Mapping[str, Any]] = lambda _state, _size: {}
    is_ann: bool = False
    time_steps: int | None = None


@dataclass(frozen=True)
class Family:
    """One published architecture with its sizes.

    Attributes:
        name: prefix of the architecture names, for example ``spikeyolo``.
        network: called as ``network(size, num_classes=..., time_steps=..., levels=..., **variant)``.
        sizes: what may follow the name, for example ``n`` in ``spikeyolo-n``.
        input_spec, decode_spec: called with the size.
        time_steps, levels: T and D where the caller gives none.
        encoder: of event detectors; called as ``encoder(size, tm=..., **variant)``.
        paper: the publication.
        licence: of the authors' code, and how this implementation relates to it.
        official: how the authors' checkpoints are imported; None where that is not possible.
    """

    name: str
    network: type[NetworkModule]
    sizes: Sequence[str]
    input_spec: Callable[[str], InputSpec]
    decode_spec: Callable[[str], DecodeSpec]
    time_steps: int = 1
    levels: int = 1
    encoder: Callable[..., EventEncoder] | None = None
    paper: Paper | None = None
    licence: str = ""
    official: Official | None = None

    def variants(self) -> set[str]:
        """Keyword arguments that a caller may set besides the common ones."""
        return self._network_variants() | self._encoder_variants()

    def _network_variants(self) -> set[str]:
        return set(inspect.signature(self.network).parameters) - {"size", "num_classes", "time_steps", "levels"}

    def _encoder_variants(self) -> set[str]:
        return set() if self.encoder is None else set(inspect.signature(self.encoder).parameters) - {"size", "tm"}

    def build_encoder(self, size: str, config: ModelConfig) -> EventEncoder | None:
        """The encoder of a configuration; None for images.

        Raises:
            TypeError, ValueError, InvalidInputError: arguments that do not fit.
        """
        if self.encoder is None or config.input.events is None:
            return None
        mine = {key: value for key, value in config.variant.items() if key in self._encoder_variants()}
        encoder = self.encoder(size, tm=config.input.events.micro_slices, **mine)
        if encoder.ts not in (1, config.time_steps):
            raise InvalidInputError(
                f"the encoder makes 1 frame, which is repeated, or one for each of the T = {config.time_steps} steps, "
                f"not ts = {encoder.ts}"
            )
        return encoder

    def build_network(self, size: str, config: ModelConfig) -> NetworkModule:
        """The network of a configuration, unfused.

        Raises:
            TypeError, ValueError, InvalidInputError: arguments that do not fit.
        """
        mine = {key: value for key, value in config.variant.items() if key in self._network_variants()}
        return self.network(
            size, num_classes=config.num_classes, time_steps=config.time_steps, levels=config.levels, **mine
        )


_FAMILIES: dict[str, Family] = {}
_EVENTS = {"tm": "micro_slices", "window_us": "window_us", "sensor_size": "sensor_size"}
"""Arguments of event detectors that are part of their input."""


def family(
    name: str,
    *,
    sizes: Sequence[str] | Mapping[str, object],
    input_spec: Callable[[str], InputSpec],
    decode_spec: Callable[[str], DecodeSpec],
    time_steps: int = 1,
    levels: int = 1,
    encoder: Callable[..., EventEncoder] | None = None,
    paper: Paper | None = None,
    licence: str = "",
    official: Official | None = None,
) -> Callable[[Built], Built]:
    """Register the decorated network as a family of architectures; see :class:`Family` for the arguments."""

    def register(network: Built) -> Built:
        if name in _FAMILIES:
            raise ValueError(f"two families have the name {name!r}")
        _FAMILIES[name] = Family(
            name,
            network,
            tuple(sizes),
            input_spec,
            decode_spec,
            time_steps=time_steps,
            levels=levels,
            encoder=encoder,
            paper=paper,
            licence=licence,
            official=official,
        )
        return network

    return register


def families() -> dict[str, Family]:
    """Every family by name: all rooms of this package that have a ``model.py``, and what else was registered."""
    import_all("zoo.detectors", "model")
    return dict(_FAMILIES)


def architectures() -> list[str]:
    """Every name that :func:`zoo.create` takes."""
    return [f"{one.name}-{size}" for one in families().values() for size in one.sizes]


def importable() -> list[str]:
    """Every architecture whose authors' checkpoints can be imported."""
    found = [(one.name, one.official) for one in families().values() if one.official is not None]
    return [f"{name}-{size}" for name, official in found for size in official.sizes]


def find(arch: str) -> tuple[Family, str]:
    """The family and the size of an architecture such as ``spikeyolo-n``.

    Raises:
        UnknownModelError: no such architecture; the message lists close ones.
    """
    for one in families().values():
        for size in one.sizes:
            if arch == f"{one.name}-{size}":
                return one, size
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
        image_size: (height, width) in pixels to which images are resized; by default the architecture's own.
        class_agnostic: suppress overlapping boxes across classes in ``predict``.
        **variant: further arguments of the architecture, such as ``decay`` or ``form``; for event cameras also ``tm``
            (micro-slices), ``window_us`` and ``sensor_size`` (height, width).

    Raises:
        UnknownModelError: no such architecture.
        ConfigError: a number out of bounds, an unknown variant argument, or class names that do not fit.
    """
    found, size = find(arch)
    known = found.variants() | (set() if found.encoder is None else set(_EVENTS))
    unknown = set(variant) - known
    if unknown:
        raise ConfigError(f"{arch} takes no argument {', '.join(sorted(unknown))}; it takes {', '.join(sorted(known))}")
    if class_names is None:
        class_names = [f"class {index}" for index in range(num_classes)]
    if len(class_names) != num_classes:
        raise ConfigError(f"{len(class_names)} class names were given for {num_classes} classes")
    spec = found.input_spec(size).model_dump()
    if image_size is not None:
        spec["image_size"] = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if spec["events"] is not None:
        spec["events"] |= {name: variant.pop(key) for key, name in _EVENTS.items() if key in variant}
    return make_config(
        arch=arch,
        class_names=tuple(class_names),
        time_steps=found.time_steps if time_steps is None else time_steps,
        levels=found.levels if levels is None else levels,
        variant=variant,
        input=spec,
        decode=found.decode_spec(size).model_dump() | {"class_agnostic": class_agnostic},
    )


def check(config: ModelConfig) -> tuple[Family, str]:
    """The family and size of a configuration, whose input, head and arguments must be theirs.

    Raises:
        UnknownModelError: no such architecture.
        ConfigError: the configuration says otherwise.
    """
    found, size = find(config.arch)
    multiple = max(config.decode.strides)
    if any(side % multiple for side in config.input.image_size):
        raise ConfigError(f"image_size must consist of multiples of {multiple}, got {config.input.image_size}")
    made = found.decode_spec(size)
    head_of(config.decode)
    shapes = [
        (spec.kind, spec.strides, spec.reg_max, spec.anchors and len(spec.anchors[0])) for spec in (config.decode, made)
    ]
    takes = found.input_spec(size)
    same_input = config.input.channels == takes.channels and (config.input.events is None) == (takes.events is None)
    if shapes[0] != shapes[1] or not same_input or not config.variant.keys() <= found.variants():
        raise ConfigError(
            f"{config.arch} has {made.kind} heads of strides {made.strides} and {made.reg_max} bins, and takes "
            f"{takes.channels} channels of {'events' if takes.events else 'images'} and the arguments "
            f"{', '.join(sorted(found.variants()))}; the configuration says otherwise"
        )
    return found, size
