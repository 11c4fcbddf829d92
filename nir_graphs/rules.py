"""The table of lowering rules: how each module and function becomes standard NIR nodes, exactly.

A rule takes the builder, the module, a name for its nodes and its traced input, and returns the traced output. What has no
rule cannot be exported; nothing is ever approximated or dropped. DESIGN.md section 4 lists the mathematics.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.errors import ExportError
from zoo.layers.fourier import IRFFT2, RFFT2
from zoo.layers.neurons import ILIF, LIF, PLIF
from zoo.layers.pooling import SpikeMaxPool2d
from zoo.layers.rate_neurons import SignedIF
from zoo.nir_graphs.rules_conv import (
    convolution,
    fourier,
    inverse_fourier,
    reflect_pad,
    transposed_convolution,
    upsample,
)
from zoo.nir_graphs.rules_spiking import (
    average_pool,
    hard_reset_neuron,
    integer_neuron,
    max_pool,
    parametric_neuron,
    rate_neuron,
)
from zoo.nir_graphs.values import Builder, Refusal, Value

ModuleRule = Callable[..., Value]
FunctionRule = Callable[..., Value | tuple[Value, ...]]


def identity(_builder: Builder, _module: nn.Identity, _name: str, value: Value) -> Value:
    """``nn.Identity``: no node."""
    return value


def batch_norm(_builder: Builder, _module: nn.BatchNorm2d, _name: str, _value: Value) -> Value:
    """``nn.BatchNorm2d`` belongs folded into its convolution before export, once, so that all sides share its constants."""
    raise Refusal("batch norm is no NIR primitive; export the deployed form, detector.fuse(), which folds it")


def add(builder: Builder, name: str, first: object, second: object, *, alpha: float = 1) -> Value:
    """``a + b`` of two tensors of one shape."""
    if not isinstance(first, Value) or not isinstance(second, Value) or alpha != 1:
        raise Refusal("only two traced tensors can be added, not numbers, constants or multiples")
    return builder.plus(name, first, second)


def cat(_builder: Builder, _name: str, tensors: Sequence[object], dim: int = 0) -> Value:
    """``torch.cat`` along channels: no node."""
    values = [tensor for tensor in tensors if isinstance(tensor, Value)]
    if dim not in {1, -3} or len(values) != len(tensors) or not values:
        raise Refusal(f"only traced tensors can be joined, and only along channels (dim=1, not {dim})")
    if len({value.size for value in values}) > 1:
        raise Refusal(f"it joins maps of different sizes, {', '.join(str(value.size) for value in values)}")
    return Value(tuple(segment for value in values for segment in value.segments))


def split(builder: Builder, name: str, tensor: object, sizes: object, dim: int = 0) -> tuple[Value, ...]:
    """``torch.split`` along channels: no node where segments end there, else one-hot 1x1 convolutions, which are exact."""
    if not isinstance(tensor, Value) or dim not in {1, -3}:
        raise Refusal(f"only traced tensors can be split, and only along channels (dim=1, not {dim})")
    if isinstance(sizes, int):
        full, rest = divmod(tensor.channels, sizes)
        sizes = [sizes] * full + ([rest] if rest else [])
    if not isinstance(sizes, list | tuple) or sum(sizes) != tensor.channels:
        raise Refusal(f"it splits {tensor.channels} channels into {sizes}")
    out, start = [], 0
    for index, size in enumerate(sizes):
        out.append(_channels(builder, f"{name}.part{index}", tensor, start, start + size))
        start += size
    return tuple(out)


def _channels(builder: Builder, name: str, value: Value, start: int, stop: int) -> Value:
    """Channels ``start`` up to ``stop``."""
    out, first = [], 0
    for inner, segment in value.named(name):
        count = segment.shape[0]
        low, high = max(start - first, 0), min(stop - first, count)
        if low == 0 and high == count:
            out.append(segment)
        elif low < high:
            weight = np.eye(count, dtype=np.float32)[low:high, :, None, None].copy()
            out.append(builder.convolved(inner, segment, weight))
        first += count
    return Value(tuple(out))


def item(_builder: Builder, _name: str, values: object, index: object) -> Value:
    """``parts[i]`` of what was split; no node."""
    if not isinstance(values, tuple | list) or not isinstance(index, int) or not -len(values) <= index < len(values):
        raise Refusal("only the parts of a split can be picked, by number; tensors are split with torch.split")
    found = values[index]
    if not isinstance(found, Value):
        raise Refusal("what was picked is no tensor")
    return found


MODULE_RULES: dict[type[nn.Module], ModuleRule] = {
    nn.Conv2d: convolution,
    nn.ConvTranspose2d: transposed_convolution,
    ILIF: integer_neuron,
    LIF: hard_reset_neuron,
    PLIF: parametric_neuron,
    SignedIF: rate_neuron,
    SpikeMaxPool2d: max_pool,
    nn.MaxPool2d: max_pool,
    nn.AvgPool2d: average_pool,
    nn.Upsample: upsample,
    nn.ReflectionPad2d: reflect_pad,
    RFFT2: fourier,
    IRFFT2: inverse_fourier,
    nn.Identity: identity,
    nn.BatchNorm2d: batch_norm,
}
"""By exact type: a subclass may compute something else."""

FUNCTION_RULES: dict[Any, FunctionRule] = {
    operator.add: add,
    torch.add: add,
    torch.cat: cat,
    torch.split: split,
    operator.getitem: item,
}
"""By function."""


def _no_rule(*_args: object, **_kwargs: object) -> Value:
    raise Refusal(
        "it has no exact form in standard NIR (affine maps, thresholds and leaky integrators), or none is known"
    )


def _inputs(rule: ModuleRule) -> int:
    """How many traced tensors a rule takes, behind builder, module and name."""
    return len(inspect.signature(rule).parameters) - 3


def lower_module(builder: Builder, module: nn.Module, path: str, args: Sequence[object]) -> Value:
    """Apply the rule of a module.

    Raises:
        ExportError: there is no rule, or it refuses; the message names the module and the reason.
    """
    kind = type(module).__name__
    rule = MODULE_RULES.get(type(module))
    values = [arg for arg in args if isinstance(arg, Value)]
    try:
        if rule is None or not len(values) == len(args) == _inputs(rule):
            return _no_rule()
        return rule(builder, module, builder.unique(path), *values)
    except Refusal as reason:
        raise ExportError(f"the module {path!r} ({kind}) cannot be exported: {reason}") from None


def lower_function(
    builder: Builder, function: Any, path: str, args: Sequence[object], kwargs: dict[str, object]
) -> Value | tuple[Value, ...]:
    """Apply the rule of a function that the module ``path`` calls; "" is the outermost one.

    Raises:
        ExportError: there is no rule, or it refuses; the message names the function, the module and the reason.
    """
    kind = function if isinstance(function, str) else getattr(function, "__name__", str(function))
    rule = FUNCTION_RULES.get(function, _no_rule)
    try:
        return rule(builder, builder.unique(f"{path}.{kind}".lstrip(".")), *args, **kwargs)
    except (Refusal, TypeError) as reason:
        where = f"the module {path!r}" if path else "the outermost module"
        raise ExportError(f"the operation {kind!r} in {where} cannot be exported: {reason}") from None
