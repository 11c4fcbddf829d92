"""The snnTorch form, from ``config.json`` and safetensors."""

from __future__ import annotations

from typing import Any

import torch

from zoo.config import ModelConfig
from zoo.detectors.building import fill, from_config
from zoo.detectors.detector import Detector
from zoo.hub import bundle
from zoo.hub.sources import Source
from zoo.loading.options import card_of, check_device, dtype_of


def load_module(
    source: Source, *, device: str = "cpu", dtype: str | torch.dtype | None = None, trainable: bool = False
) -> Detector:
    """The detector of a model folder. Its weights are in memory once: they are not made, folded or copied on the way.

    Args:
        source: of :func:`zoo.hub.sources.resolve`.
        device: torch device.
        dtype: of weights and arithmetic; by default as stored.
        trainable: the form before batch norms were folded.

    Raises:
        HubError, FileMissingError, CorruptFileError, ConfigError, CheckpointError, InvalidInputError: see :func:`zoo.load`.
    """
    check_device(device)
    config = bundle.read_config_of(source.directory)
    source.need(bundle.TRAINABLE if trainable else bundle.WEIGHTS)
    detector = from_config(_before_deployment(config) if trainable else config, numbers=False)
    fill(detector, bundle.read_weights_of(source.directory, detector.state_dict(), trainable=trainable))
    detector.card = card_of(source)
    detector = detector.to(device, None if dtype is None else dtype_of(dtype))
    return detector.eval().requires_grad_(True)


def _before_deployment(config: ModelConfig) -> ModelConfig:
    """The configuration of the trainable weights: before folding, quantisation, and conversion to spikes."""
    changes: dict[str, Any] = {"fused": False, "merged": False, "quantization": None}
    if config.variant.get("spiking"):
        variant = {key: value for key, value in config.variant.items() if key != "spiking"}
        changes |= {"variant": variant, "time_steps": 1}
    return config.model_copy(update=changes)
