"""From a configuration to a detector: with random weights to be trained, or without any, to be filled from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import ModelConfig
from zoo.detectors import registry
from zoo.detectors.deployed import deploy_, store_thresholds_per_channel_
from zoo.detectors.detector import Detector
from zoo.detectors.encoder import EventEncoder
from zoo.errors import ConfigError, InvalidInputError


def create(arch: str, **settings: Any) -> Detector:
    """A detector with random weights, in training form.

    Args:
        arch: for example ``spikeyolo-n``; see :func:`zoo.detectors.registry.architectures`.
        **settings: see :func:`zoo.detectors.registry.describe`.

    Raises:
        UnknownModelError: no such architecture.
        ConfigError: a number out of bounds, an unknown variant argument, or class names that do not fit.
    """
    return from_config(registry.describe(arch, **settings))


def from_config(config: ModelConfig, *, numbers: bool = True) -> Detector:
    """The detector that a configuration describes, with random weights; deployed when the configuration says so.

    Args:
        config: of the detector.
        numbers: False leaves the weights out: they are on the device ``meta``, which stores shapes only. Nothing is drawn at
            random, computed or allocated then, so that it takes milliseconds for any size, and :func:`fill` puts weights in.

    Raises:
        UnknownModelError, ConfigError: as :func:`create`.
    """
    family, size = registry.check(config)
    with _explained(config), nullcontext() if numbers else torch.device("meta"):
        encoder, network = family.build_encoder(size, config), family.build_network(size, config)
        if config.fused:
            deploy_(network.eval(), merge=config.merged, dtype=torch.float32)
        if config.quantization is not None:
            store_thresholds_per_channel_(network, config)
    detector = Detector(network, config, encoder, paper=family.paper)
    return detector.eval().requires_grad_(False) if config.fused else detector


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put weights into a detector or encoder without numbers, in place, and switch it to eval mode.

    It takes the tensors themselves, so that they are in memory once.

    Args:
        module: of ``from_config(config, numbers=False)``, for example.
        state: its whole state dict.
    """
    module.load_state_dict(state, assign=True)
    left = [name for name, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    if left:
        raise RuntimeError(f"a state dict does not hold all numbers of its module: {', '.join(left[:3])}")
    module.eval()


def encoder_of(config: ModelConfig) -> EventEncoder | None:
    """The encoder that a configuration describes, without numbers; None for images, whatever the architecture is.

    It needs no framework.

    Raises:
        UnknownModelError, ConfigError: as :func:`create`.
    """
    if config.input.events is None:
        return None
    family, size = registry.check(config)
    with _explained(config), torch.device("meta"):
        return family.build_encoder(size, config)


@contextmanager
def _explained(config: ModelConfig) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, InvalidInputError) as error:
        raise ConfigError(f"{config.arch} cannot be built from this configuration: {error}") from error
