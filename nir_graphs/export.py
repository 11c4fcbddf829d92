"""From a module to a NIR graph: trace it with torch.fx, lower what was traced."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import nir
import numpy as np
import torch
from torch import fx, nn

from zoo.errors import ExportError, InvalidInputError
from zoo.nir_graphs import metadata
from zoo.nir_graphs.rules import RULES, lower
from zoo.nir_graphs.values import Builder, Segment, Shape, Value

if TYPE_CHECKING:
    from zoo.detectors.base import Detector


class _Tracer(fx.Tracer):
    """Goes into modules until it meets one that has a lowering rule, or one of torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in RULES or super().is_leaf_module(m, module_qualified_name)


def export_detector(detector: Detector, image_size: tuple[int, int] | int | None = None) -> nir.NIRGraph:
    """The deployed form of a detector as a NIR graph with one Output node per scale, finest first.

    Args:
        detector: in training form (it is fused first) or deployed form.
        image_size: (height, width) in pixels, or one number for both; by default the detector's own.

    Raises:
        ExportError: a module has no exact lowering.
        InvalidInputError: an image size that the strides do not divide.
    """
    if not detector.is_fused:
        detector = detector.fuse()
    config = detector.config
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size or detector.image_size)
    multiple = max(config.decode.strides)
    if len(size) != 2 or any(side < multiple or side % multiple for side in size):
        raise InvalidInputError(f"image_size must be two positive multiples of {multiple}, got {size}")
    graph = export_module(detector.network, (config.input.channels, size[0], size[1]), time_steps=config.time_steps)
    info = metadata.get(graph)
    outputs = [{**output, "stride": s} for output, s in zip(info.outputs, config.decode.strides, strict=True)]
    fields = {"time_steps": config.time_steps, "image_size": (size[0], size[1]), "outputs": outputs}
    return metadata.put(graph, metadata.GraphInfo(neurons=info.neurons, **fields))  # type: ignore[arg-type]


def export_module(module: nn.Module, input_shape: Shape, *, time_steps: int | None = None) -> nir.NIRGraph:
    """Any module made of parts that have lowering rules, as a NIR graph.

    Args:
        module: takes one folded tensor (T*B, C, H, W), returns one or several.
        input_shape: (C, H, W).
        time_steps: noted in the metadata.

    Returns:
        A graph with Input ``input`` and Outputs ``output_0``, ``output_1``, ...

    Raises:
        ExportError: a module or function has no exact lowering; the message names it.
    """
    builder = Builder()
    builder.add("input", nir.Input(np.array(input_shape)), [])
    try:
        traced = _Tracer().trace(module)
    except (TypeError, ValueError, RuntimeError, fx.proxy.TraceError) as error:
        raise ExportError(f"{type(module).__name__} cannot be traced: {error}") from error
    result = _Lowering(builder, module).run(traced, (Segment(("input",), input_shape),))
    outputs = []
    for index, value in enumerate(result):
        segment = builder.single(value, f"output_{index}")
        shape = np.array(segment.shape)
        outputs.append({"node": builder.add(f"output_{index}", nir.Output(shape), segment.nodes)})
    graph = nir.NIRGraph(builder.nodes, builder.edges, metadata={}, type_check=False)
    return metadata.put(graph, metadata.GraphInfo(time_steps=time_steps, outputs=outputs, neurons=builder.neurons))


class _Lowering:
    """Walks a traced graph and lowers each step."""

    def __init__(self, builder: Builder, root: nn.Module) -> None:
        self.builder = builder
        self.root = root
        self.functions: dict[Any, Callable[[fx.Node, list[Any]], Any]] = {
            operator.add: self._add,
            torch.add: self._add,
            torch.cat: self._cat,
            operator.getitem: lambda _node, args: args[0][args[1]],
        }

    def run(self, traced: fx.Graph, given: Value) -> list[Value]:
        """Lower everything; returns the values of the outputs."""
        values: dict[fx.Node, Any] = {}
        for node in traced.nodes:
            args = list(fx.map_arg(node.args, values.__getitem__))
            if node.op == "placeholder":
                values[node] = given
            elif node.op == "call_module":
                module = self.root.get_submodule(str(node.target))
                values[node] = lower(self.builder, module, str(node.target), args[0])
            elif node.op == "output":
                return _flat(args[0])
            elif node.op == "call_function" and node.target in self.functions:
                values[node] = self.functions[node.target](node, args)
            else:
                raise ExportError(
                    f"the operation {node.name!r} ({node.op} {node.target}) cannot be exported: there is no exact NIR form"
                )
        raise ExportError(f"{type(self.root).__name__} has no output")

    def _add(self, node: fx.Node, args: list[Any]) -> Value:
        first, second = args
        if not isinstance(first, tuple) or not isinstance(second, tuple):
            raise ExportError(f"the addition {node.name!r} cannot be exported: it adds a number or constant tensor")
        name = self.builder.unique(node.name)
        if [s.shape for s in first] != [s.shape for s in second]:
            first = (self.builder.single(first, f"{name}.first"),)
            second = (self.builder.single(second, f"{name}.second"),)
        return tuple(self.builder.plus(a, b, name) for a, b in zip(first, second, strict=True))

    @staticmethod
    def _cat(node: fx.Node, args: list[Any]) -> Value:
        dim = args[1] if len(args) > 1 else node.kwargs.get("dim", 0)
        if dim != 1:
            raise ExportError(
                f"the concatenation {node.name!r} cannot be exported: only channels (dim=1) can be joined"
            )
        return tuple(segment for value in args[0] for segment in value)


def _flat(result: Any) -> list[Value]:
    """Output of a module, which may be one value, or a list or tuple of values."""
    if isinstance(result, tuple) and all(isinstance(part, Segment) for part in result):
        return [result]
    return [value for part in result for value in _flat(part)]
