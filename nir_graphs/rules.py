"""The table of lowering rules: how each module and function becomes standard NIR nodes, exactly.

A rule takes the builder, the module, a name for its nodes and its traced input, and returns the traced output. What has no
rule cannot be exported; nothing is ever approximated or dropped. DESIGN.md section 4 lists the mathematics.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from zoo.errors import ExportError
from zoo.layers.neurons import ILIF, LIF, PLIF
from zoo.layers.pooling import SpikeMaxPool2d
from zoo.layers.rate_neurons import SignedIF
from zoo.nir_graphs.rules_conv import convolution, transposed_convolution, upsample
from zoo.nir_graphs.rules_spiking import (
    average_pool,
    hard_reset_neuron,
    integer_neuron,
    max_pool,
    parametric_neuron,
    rate_neuron,
)
from zoo.nir_graphs.values import Builder, Refusal, Value

ModuleRule = Callable[[Builder, Any, str, Value], Value]
FunctionRule = Callable[..., Value]


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
    nn.Identity: identity,
    nn.BatchNorm2d: batch_norm,
}
"""By exact type: a subclass may compute something else."""

FUNCTION_RULES: dict[Any, FunctionRule] = {operator.add: add, torch.add: add, torch.cat: cat}
"""By function."""


def _no_rule(*_args: object, **_kwargs: object) -> Value:
    raise Refusal(
        "it has no exact form in standard NIR (affine maps, thresholds and leaky integrators), or none is known"
    )


def lower_module(builder: Builder, module: nn.Module, path: str, args: Sequence[object]) -> Value:
    """Apply the rule of a module.

    Raises:
        ExportError: there is no rule, or it refuses; the message names the module and the reason.
    """
    kind = type(module).__name__
    rule = MODULE_RULES.get(type(module), _no_rule)
    value = args[0] if len(args) == 1 else None
    try:
        return rule(builder, module, builder.unique(path), value) if isinstance(value, Value) else _no_rule()
    except Refusal as reason:
        raise ExportError(f"the module {path!r} ({kind}) cannot be exported: {reason}") from None


def lower_function(
    builder: Builder, function: Any, path: str, args: Sequence[object], kwargs: dict[str, object]
) -> Value:
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
