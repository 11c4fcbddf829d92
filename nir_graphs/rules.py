"""Lowering rules: how each module becomes standard NIR nodes, exactly.

A rule takes the builder, the module, a name for its nodes and its traced inputs, and returns the traced output. A module
without a rule cannot be exported; nothing is ever approximated or dropped. DESIGN.md section 4 has the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zoo.errors import ExportError
from zoo.layers.neurons import ILIF
from zoo.layers.pooling import SpikeMaxPool2d
from zoo.nir_graphs.axis_maps import AxisConv, repeat_rows
from zoo.nir_graphs.values import Builder, Segment, Shape, Value, channels, constant, conv2d, spatial

Rule = Callable[[Builder, Any, str, Value], Value]


class Refusal(Exception):  # noqa: N818 - not an error of its own: tracing turns it into an ExportError with the module's name
    """Raised by a rule that cannot be exact; the message is the reason."""


def _array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    return tensor.detach().cpu().numpy()


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def conv_output(shape: tuple[int, int], conv: nir.Conv2d) -> tuple[int, int]:
    """(H', W') of a convolution."""
    if isinstance(conv.padding, str):
        padding = (0, 0)
        if conv.padding == "same":
            return shape
    else:
        padding = _pair(conv.padding)
    sizes = []
    for axis in range(2):
        reach = _pair(conv.dilation)[axis] * (conv.weight.shape[2 + axis] - 1)
        size = (shape[axis] + 2 * padding[axis] - reach - 1) // _pair(conv.stride)[axis] + 1
        if size < 1:
            raise Refusal(f"an input of {shape[0]}x{shape[1]} pixels is smaller than its kernel")
        sizes.append(size)
    return sizes[0], sizes[1]


def convolution(builder: Builder, module: nn.Conv2d, name: str, value: Value) -> Value:
    """``nn.Conv2d``: one node per channel segment, each with its slice of the weight; the bias goes with the first."""
    if module.padding_mode != "zeros":
        raise Refusal(f"NIR convolutions pad with zeros, not with {module.padding_mode!r}")
    if channels(value) != module.in_channels:
        raise Refusal(f"it takes {module.in_channels} channels, but gets {channels(value)}")
    if module.groups > 1:
        value = (builder.single(value, name),)
    weight = _array(module.weight)
    bias = np.zeros(module.out_channels, weight.dtype) if module.bias is None else _array(module.bias)
    padding = module.padding if isinstance(module.padding, str) else _pair(module.padding)
    names, offset, size = [], 0, (0, 0)
    for index, segment in enumerate(value):
        count = segment.shape[0] // module.groups
        node = conv2d(
            np.ascontiguousarray(weight[:, offset : offset + count]),
            bias if index == 0 else np.zeros_like(bias),
            spatial(value),
            stride=_pair(module.stride),
            padding=padding,
            dilation=_pair(module.dilation),
            groups=module.groups,
        )
        size = conv_output(spatial(value), node)
        names.append(builder.add(_segment_name(name, index, value), node, segment.nodes))
        offset += count
    return (Segment(tuple(names), (module.out_channels, *size)),)


def _segment_name(name: str, index: int, value: Value) -> str:
    return name if len(value) == 1 else f"{name}.seg{index}"


def integer_neuron(builder: Builder, module: ILIF, name: str, value: Value) -> Value:
    """I-LIF: D parallel Thresholds on the potential; for T > 1 the potential is kept in the canonical soft-reset loop."""
    if not module.is_frozen:
        raise Refusal("its thresholds are not fixed yet; export the deployed form, detector.fuse()")
    out, layer = [], []
    for index, segment in enumerate(value):
        prefix = _segment_name(name, index, value)
        spikes = _integer_spikes(builder, module, prefix, segment)
        layer.append(list(spikes))
        out.append(Segment(spikes, segment.shape, is_thermometer=True))
    builder.neurons[name] = layer
    return tuple(out)


def _integer_spikes(builder: Builder, module: ILIF, name: str, segment: Segment) -> tuple[str, ...]:
    thresholds = _array(module.thresholds)
    shape = segment.shape
    if module.time_steps == 1:
        return tuple(
            builder.add(f"{name}.level{k}", nir.Threshold(constant(theta, shape, thresholds.dtype)), segment.nodes)
            for k, theta in enumerate(thresholds, 1)
        )
    # U = x + B;  Z_k = [U > theta_k];  D = U - sum_k Z_k, one step later;  B = decay * D
    potential = builder.add(f"{name}.u", nir.Scale(constant(1.0, shape)), segment.nodes)
    levels = [
        builder.add(f"{name}.level{k}", nir.Threshold(constant(theta, shape, thresholds.dtype)), [potential])
        for k, theta in enumerate(thresholds, 1)
    ]
    resets = [
        builder.add(f"{name}.reset{k}", nir.Scale(constant(-module.reset_amount, shape)), [level])
        for k, level in enumerate(levels, 1)
    ]
    delay = builder.add(f"{name}.delay", nir.Delay(constant(1.0, shape)), [potential, *resets])
    decay = builder.add(f"{name}.decay", nir.Scale(constant(module.decay, shape)), [delay])
    builder.edges.append((decay, potential))  # feedback comes last in the sum
    return tuple(levels)


def spike_max_pool(builder: Builder, module: SpikeMaxPool2d, name: str, value: Value) -> Value:
    """Max-pool of integer spikes: level k of the maximum is [number of level-k spikes in the window > 0.5]."""
    kernel, padding = _pair(module.kernel_size), _pair(module.padding)
    out = []
    for index, segment in enumerate(value):
        if not segment.is_thermometer:
            raise Refusal("its input is not spikes; a maximum of real values has no NIR form, so put the neuron first")
        prefix, levels = _segment_name(name, index, value), []
        for k, source in enumerate(segment.nodes, 1):
            pool = nir.SumPool2d(np.array(kernel), np.array(_pair(module.stride)), np.array(padding))
            summed = builder.add(f"{prefix}.sum{k}", pool, [source])
            threshold = nir.Threshold(constant(0.5, segment.shape, np.float32))
            levels.append(builder.add(f"{prefix}.level{k}", threshold, [summed]))
        out.append(Segment(tuple(levels), segment.shape, is_thermometer=True))
    return tuple(out)


def upsample(builder: Builder, module: nn.Upsample, name: str, value: Value) -> Value:
    """Nearest upsampling by a whole factor: rows, then columns, as chains of one-hot convolutions."""
    factors = {float(f) for f in np.atleast_1d(module.scale_factor)} if module.scale_factor else set()
    factor = factors.pop() if len(factors) == 1 else 0.0
    if module.mode != "nearest" or module.size is not None or factor < 1 or factor != int(factor):
        raise Refusal("only nearest upsampling by one whole factor has an exact form")
    out = []
    for index, segment in enumerate(value):
        prefix = _segment_name(name, index, value)
        count, height, width = segment.shape
        rows = apply_axis(builder, repeat_rows(height, int(factor), count), 0, f"{prefix}.rows", segment)
        out.append(apply_axis(builder, repeat_rows(width, int(factor), count), 1, f"{prefix}.columns", rows))
    return tuple(out)


def apply_axis(builder: Builder, convs: list[AxisConv], axis: int, name: str, segment: Segment) -> Segment:
    """A chain of convolutions along one axis of a segment."""
    for index, conv in enumerate(convs):
        weight = conv.weight(axis)
        node = conv2d(
            weight,
            np.zeros(len(weight), weight.dtype),
            segment.shape[1:],
            padding=(conv.padding, 0) if axis == 0 else (0, conv.padding),
            dilation=(conv.dilation, 1) if axis == 0 else (1, conv.dilation),
            groups=conv.groups,
        )
        shape: Shape = (len(weight), *conv_output(segment.shape[1:], node))
        segment = Segment((builder.add(f"{name}{index}", node, segment.nodes),), shape)
    return segment


def nothing(_builder: Builder, _module: nn.Identity, _name: str, value: Value) -> Value:
    """``nn.Identity``."""
    return value


def refuse_batch_norm(_builder: Builder, _module: nn.BatchNorm2d, _name: str, _value: Value) -> Value:
    """``nn.BatchNorm2d`` belongs folded into its convolution."""
    raise Refusal("batch norm is no NIR primitive; export the deployed form, detector.fuse()")


def refuse_max_pool(_builder: Builder, _module: nn.MaxPool2d, _name: str, _value: Value) -> Value:
    """``nn.MaxPool2d`` of real values."""
    raise Refusal(
        "it pools real values, whose maximum has no NIR form. The official form of SpikeYOLO does so for T > 1; use the "
        "native form, which pools spikes"
    )


RULES: dict[type[nn.Module], Rule] = {
    nn.Conv2d: convolution,
    ILIF: integer_neuron,
    SpikeMaxPool2d: spike_max_pool,
    nn.Upsample: upsample,
    nn.Identity: nothing,
    nn.BatchNorm2d: refuse_batch_norm,
    nn.MaxPool2d: refuse_max_pool,
}


def lower(builder: Builder, module: nn.Module, name: str, value: Value) -> Value:
    """Apply the rule of a module.

    Raises:
        ExportError: there is no rule, or it refuses; names the module.
    """
    rule = RULES.get(type(module))
    kind = type(module).__name__
    if rule is None:
        raise ExportError(f"the module {name!r} ({kind}) cannot be exported: there is no exact NIR form for {kind}")
    try:
        return rule(builder, module, builder.unique(name), value)
    except Refusal as reason:
        raise ExportError(f"the module {name!r} ({kind}) cannot be exported: {reason}") from None
