"""The form that any backend runs, from ``config.json`` and ``model.nir`` alone. It needs the backend's framework only."""

from __future__ import annotations

from typing import Any

import torch

from zoo.adapters.base import get_backend
from zoo.config import ModelConfig
from zoo.detectors.building import encoder_of, fill
from zoo.detectors.encoder import EventEncoder
from zoo.detectors.graph import GraphDetector
from zoo.errors import CorruptFileError
from zoo.hub import bundle
from zoo.hub.sources import Source
from zoo.loading.options import card_of, check_device, dtype_of


def load_graph(
    source: Source, backend: str, *, device: str = "cpu", dtype: str | torch.dtype | None = None
) -> GraphDetector:
    """The detector of a model folder on a backend.

    Args:
        source: of :func:`zoo.hub.sources.resolve`.
        backend: its name, for example ``norse``.
        device: torch device.
        dtype: of weights and arithmetic; by default the backend's own.

    Raises:
        HubError, FileMissingError, CorruptFileError, ConfigError, MissingFrameworkError, UnsupportedGraphError,
        InvalidInputError: see :func:`zoo.load`.
    """
    builder = get_backend(backend)
    check_device(device)
    config = bundle.read_config_of(source.directory)
    source.need(bundle.GRAPH)
    graph = bundle.read_graph_of(source.directory, trusted=source.trusted)
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype_of(dtype)}
    runnable = builder.build(graph, device=device, **options)
    detector = GraphDetector(runnable, config, _encoder(source, config, device, runnable.dtype))
    detector.card = card_of(source)
    nodes = [output.get("node") for output in detector.info.outputs]
    fits = len(nodes) == len(config.decode.strides) and set(nodes) <= set(graph.nodes)
    if not fits or detector.info.time_steps not in (None, config.time_steps):
        raise CorruptFileError(f"{source.directory}: model.nir and config.json do not describe the same detector")
    return detector


def _encoder(source: Source, config: ModelConfig, device: str, dtype: torch.dtype) -> EventEncoder | None:
    """What makes frames of events lies in front of the graph, and is the same for every backend."""
    encoder = encoder_of(config)
    if encoder is None:
        return None
    source.need(bundle.WEIGHTS)
    prefix = "encoder."
    expected = {f"{prefix}{key}": value for key, value in encoder.state_dict().items()}
    state = bundle.read_weights_of(source.directory, expected, prefix=prefix)
    fill(encoder, {key.removeprefix(prefix): value for key, value in state.items()})
    return encoder.to(device, dtype).requires_grad_(False)
