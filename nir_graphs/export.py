"""Module -> NIR graph: the entry points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import nir
import numpy as np
from torch import nn

from zoo.config import ModelConfig
from zoo.errors import ExportError, InvalidInputError
from zoo.nir_graphs import metadata
from zoo.nir_graphs.normalise import normalise
from zoo.nir_graphs.tracing import is_leaf, lower
from zoo.nir_graphs.values import Builder, Segment, Shape, Value


class Exportable(Protocol):
    """What :func:`export_detector` asks of a detector."""

    config: ModelConfig

    @property
    def network(self) -> nn.Module:
        """(T*B, C, H, W) -> raw head maps, finest first."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        ...

    @property
    def is_fused(self) -> bool:
        """Whether batch norms are folded into the convolutions."""
        ...

    def fuse(self) -> Exportable:
        """The deployed form."""
        ...


class _Single(nn.Module):
    """Gives a layer that is exported alone a path."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        """What the layer does."""
        return self.layer(x)


def export_module(module: nn.Module, input_shape: Shape, *, time_steps: int | None = None) -> nir.NIRGraph:
    """Any module made of parts that have lowering rules, as a NIR graph.

    Args:
        module: takes one folded tensor (T*B, C, H, W), returns one or several (in lists or tuples, at any depth).
        input_shape: (C, H, W).
        time_steps: T for which neurons with memory must be made; by default whatever they say.

    Returns:
        A graph with the Input ``input`` and the Outputs ``output_0``, ``output_1``, ... Other nodes have the paths of their
        modules. It holds copies of the parameters, in float32 where that is exact.

    Raises:
        ExportError: a module or function has no exact lowering; the message names it.
        InvalidInputError: an input shape that is not three positive numbers.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or any(not isinstance(n, int) or n < 1 for n in shape):
        raise InvalidInputError(f"input_shape must be (C, H, W) with positive whole numbers, got {input_shape}")
    builder, values, outputs = _lowered(module, shape, time_steps)
    for name, value in zip(outputs, values, strict=True):
        segment = builder.joined(f"{name}.join", value)
        if len(segment.nodes) > 1:
            # stock tools return several edges into an Output as a tuple instead of their sum
            segment = builder.scaled(f"{name}.sum", segment, 1.0)
        builder.add(name, nir.Output(np.array(segment.shape)), segment.nodes)
    graph = nir.NIRGraph(builder.nodes, builder.edges, metadata={}, type_check=False)
    notes: list[dict[str, Any]] = [{"node": name} for name in outputs]
    info = metadata.GraphInfo(time_steps=builder.time_steps, outputs=notes, neurons=builder.neurons)
    graph = metadata.put(graph, info)
    normalise(graph)  # all shapes fit, and every cycle passes through a Delay
    return graph


def _lowered(
    module: nn.Module, shape: Shape, time_steps: int | None, reserved: int = 64
) -> tuple[Builder, list[Value], list[str]]:
    """(the nodes so far, the module's outputs, names of their Output nodes); no module may take ``reserved`` such names."""
    builder = Builder(time_steps)
    builder.add(builder.unique("input"), nir.Input(np.array(shape)), [])
    outputs = [builder.unique(f"output_{index}") for index in range(reserved)]
    values = lower(builder, _Single(module) if is_leaf(module) else module, Value((Segment(("input",), shape),)))
    if len(values) > reserved:  # only now it is known how many there are
        return _lowered(module, shape, time_steps, len(values))
    return builder, values, outputs[: len(values)]


def export_detector(detector: Exportable, image_size: tuple[int, int] | int | None = None) -> nir.NIRGraph:
    """The deployed form of a detector as a NIR graph with one Output node per scale, finest first.

    Args:
        detector: in deployed form, or in training form, of which the deployed form is made first.
        image_size: (height, width) in pixels, or one number for both; by default the detector's own.

    Raises:
        ExportError: a module has no exact lowering.
        InvalidInputError: an image size that the strides do not divide.
    """
    config = detector.config
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size or detector.image_size)
    multiple = max(config.decode.strides)
    if len(size) != 2 or any(not isinstance(side, int) or side < multiple or side % multiple for side in size):
        raise InvalidInputError(
            f"image_size must be (height, width), each a positive multiple of {multiple} (the largest stride), got {size}"
        )
    _require_nir_form(detector)
    network = (detector if detector.is_fused else detector.fuse()).network
    graph = export_module(network, (config.input.channels, size[0], size[1]), time_steps=config.time_steps)
    info = metadata.get(graph)
    outputs = [{**output, "stride": stride} for output, stride in zip(info.outputs, config.decode.strides, strict=True)]
    # pictures of 8 bits, divided by 256
    grid = None if config.quantization is None else [-8, 0.0, 255 / 256]
    return metadata.put(
        graph, replace(info, time_steps=config.time_steps, image_size=size, outputs=outputs, input_grid=grid)
    )


def _require_nir_form(detector: Exportable) -> None:
    """Name all modules of a form that cannot be exported, rather than the first one."""
    reasons: dict[str, str] = getattr(detector.network, "without_nir_form", dict)()
    if reasons:
        listed = "; ".join(f"{name!r} {reason}" for name, reason in reasons.items())
        raise ExportError(
            f"this form of {detector.config.arch} has no exact NIR form: {listed}. The native form has one: "
            f"zoo.create({detector.config.arch!r}, ...)"
        )
