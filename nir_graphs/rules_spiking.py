"""Lowering rules of neurons and of pooling."""

from __future__ import annotations

import nir
import numpy as np
from torch import nn

from zoo.layers.neurons import ILIF
from zoo.nir_graphs.rules_conv import pair, stored
from zoo.nir_graphs.values import Array, Builder, Refusal, Segment, Value, constant, sliding_size


def integer_neuron(builder: Builder, module: ILIF, name: str, value: Value) -> Value:
    """I-LIF: D parallel Thresholds of the potential; for T > 1 the canonical soft-reset loop keeps the potential."""
    thresholds = _thresholds(builder, module)
    out = []
    for inner, segment in value.named(name):
        if module.time_steps == 1:
            levels = _levels(builder, inner, thresholds, segment)
        else:
            levels = _soft_reset_loop(builder, inner, module, thresholds, segment)
        out.append(Segment(levels, segment.shape, is_thermometer=True))
    builder.neurons[name] = [list(segment.nodes) for segment in out]
    return Value(tuple(out))


def _thresholds(builder: Builder, module: ILIF) -> Array:
    if module.rounding != "strict" and not module.is_frozen:
        raise Refusal(
            "it rounds ties half to even, which strict thresholds can only do once they are fixed; export the deployed "
            "form, detector.fuse()"
        )
    thresholds = stored(module.thresholds)
    if (np.diff(thresholds) < 0).any():
        raise Refusal(f"its thresholds do not ascend: {thresholds.tolist()}")
    if module.time_steps > 1:
        if builder.time_steps not in {None, module.time_steps}:
            raise Refusal(f"it runs {module.time_steps} time steps in a network of {builder.time_steps}")
        builder.time_steps = module.time_steps
    if module.reset_amount != 1.0:
        # u - 1 - 1 = u - 2 in every floating-point type, as the thresholds lie above it; this is not so for other amounts
        raise Refusal(f"only the reset by 1 per level has an exact form, not by {module.reset_amount}")
    return thresholds


def _levels(builder: Builder, name: str, thresholds: Array, segment: Segment) -> tuple[str, ...]:
    return tuple(
        builder.add(f"{name}.level{k}", nir.Threshold(constant(theta, segment.shape)), segment.nodes)
        for k, theta in enumerate(thresholds, 1)
    )


def _soft_reset_loop(builder: Builder, name: str, module: ILIF, thresholds: Array, segment: Segment) -> tuple[str, ...]:
    """U = x + B; Z_k = [U > theta_k]; D = U - sum_k Z_k, one step later; B = decay * D (DESIGN.md section 3)."""
    shape = segment.shape
    potential = builder.scaled(f"{name}.u", segment, 1.0)
    levels = _levels(builder, name, thresholds, potential)
    resets = [
        builder.add(f"{name}.reset{k}", nir.Scale(constant(-module.reset_amount, shape)), [level])
        for k, level in enumerate(levels, 1)
    ]
    delay = builder.add(f"{name}.delay", nir.Delay(constant(1.0, shape)), [*potential.nodes, *resets])
    decay = builder.add(f"{name}.decay", nir.Scale(constant(module.decay, shape)), [delay])
    builder.edges.append((decay, potential.nodes[0]))  # feedback comes last in the sum
    return levels


def max_pool(builder: Builder, module: nn.MaxPool2d, name: str, value: Value) -> Value:
    """Max-pool of integer spikes: level k of the maximum is [number of level-k spikes in the window > 0.5]."""
    if not all(segment.is_thermometer for segment in value.segments):
        raise Refusal(
            "it pools real values, and their maximum has no NIR form (a graph is affine maps and thresholds). Put the "
            "neuron before the pool. This is the same function at T = 1; at T > 1 it is another network: SpikeYOLO's "
            'form="native" instead of form="official", trained as such'
        )
    if pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise Refusal("NIR pools have neither dilation nor ceil_mode nor indices")
    kernel, padding = pair(module.kernel_size), pair(module.padding)
    stride = pair(module.stride)
    size = sliding_size(value.size, kernel, stride, padding)
    out = []
    for inner, segment in value.named(name):
        shape = (segment.shape[0], *size)
        levels = []
        for k, source in enumerate(segment.nodes, 1):
            pool = nir.SumPool2d(np.array(kernel), np.array(stride), np.array(padding))
            pool.input_type = {"input": np.array(segment.shape)}
            pool.output_type = {"output": np.array(shape)}
            summed = builder.add(f"{inner}.sum{k}", pool, [source])
            levels.append(builder.add(f"{inner}.level{k}", nir.Threshold(constant(0.5, shape)), [summed]))
        out.append(Segment(tuple(levels), shape, is_thermometer=True))
    return Value(tuple(out))
