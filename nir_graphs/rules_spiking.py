"""Lowering rules of neurons and of pooling."""

from __future__ import annotations

from collections.abc import Sequence

import nir
import numpy as np
from torch import nn

from zoo.layers.neurons import ILIF, LIF, PLIF, FoldedNeuron
from zoo.layers.rate_neurons import SignedIF
from zoo.nir_graphs.rules_conv import pair, stored
from zoo.nir_graphs.values import Array, Builder, Refusal, Segment, Shape, Value, compact, constant, sliding_size


def integer_neuron(builder: Builder, module: ILIF | PLIF, name: str, value: Value) -> Value:
    """I-LIF: D parallel Thresholds of the potential; for T > 1 the canonical soft-reset loop keeps the potential."""
    thresholds = _thresholds(builder, module)
    out = []
    for (inner, segment), rows in zip(value.named(name), _per_segment(thresholds, value), strict=True):
        if module.time_steps == 1:
            levels = _levels(builder, inner, rows, segment)
        else:
            levels = _soft_reset_loop(builder, inner, module, rows, segment)
        out.append(Segment(levels, segment.shape, is_thermometer=True))
    builder.neurons[name] = [list(segment.nodes) for segment in out]
    return Value(tuple(out))


def parametric_neuron(builder: Builder, module: PLIF, name: str, value: Value) -> Value:
    """PLIF with soft reset: the canonical loop, with the learned decay as a constant."""
    if not module.is_frozen:
        raise Refusal("its decay is still learned; export the deployed form, detector.fuse(), which fixes it")
    return integer_neuron(builder, module, name, value)


def _thresholds(builder: Builder, module: ILIF | PLIF) -> Array:
    if module.rounding != "strict" and not module.is_frozen:
        raise Refusal(
            "it rounds ties half to even, which strict thresholds can only do once they are fixed; export the deployed "
            "form, detector.fuse()"
        )
    thresholds = stored(module.thresholds)
    if (np.diff(thresholds, axis=0) < 0).any():
        raise Refusal(f"its thresholds do not ascend: {thresholds.tolist()}")
    if module.time_steps > 1:
        _agree_on_time_steps(builder, module)
    if module.reset_amount != 1.0:
        # u - 1 - 1 = u - 2 in every floating-point type, as the thresholds lie above it; this is not so for other amounts
        raise Refusal(f"only the reset by 1 per level has an exact form, not by {module.reset_amount}")
    return thresholds


def _per_segment(thresholds: Array, value: Value) -> list[list[Array]]:
    """Per segment the thresholds of each level: one number, or (C, 1, 1) where channels differ."""
    if thresholds.ndim == 2 and thresholds.shape[1] != value.channels:
        raise Refusal(f"it has thresholds for {thresholds.shape[1]} channels and gets {value.channels}")
    out, start = [], 0
    for segment in value.segments:
        stop = start + segment.shape[0]
        rows = thresholds if thresholds.ndim == 1 else thresholds[:, start:stop]
        if rows.ndim == 2:
            rows = rows[:, 0] if (rows == rows[:, :1]).all() else rows[:, :, None, None]
        out.append(list(rows))
        start = stop
    return out


def _agree_on_time_steps(builder: Builder, module: FoldedNeuron) -> None:
    if builder.time_steps not in {None, module.time_steps}:
        raise Refusal(f"it runs {module.time_steps} time steps in a network of {builder.time_steps}")
    builder.time_steps = module.time_steps


def hard_reset_neuron(builder: Builder, module: LIF, name: str, value: Value) -> Value:
    """LIF with a hard reset: ``nir.LIF``, with tau in float64 so that dt / tau is the module's own gain."""
    if not module.scales_input:
        raise Refusal("it does not scale its input, which NIR's LIF does; the native form does, too")
    gain = 1 - module.decay
    tau = 1 / gain
    if 1 / tau != gain:
        raise Refusal(f"no tau in float64 gives its decay {module.decay} back; use one whose complement has few bits")
    _agree_on_time_steps(builder, module)
    out = []
    parts = _per_segment(stored(module.thresholds), value)
    for (inner, segment), (threshold,) in zip(value.named(name), parts, strict=True):
        zero, one = constant(0.0, segment.shape), constant(1.0, segment.shape)
        node = nir.LIF(
            tau=np.broadcast_to(np.float64(tau), segment.shape),
            r=one,
            v_leak=zero,
            v_threshold=constant(threshold, segment.shape),
            v_reset=zero,  # its default would be allocated densely
        )
        out.append(Segment((builder.add(inner, node, segment.nodes),), segment.shape, is_thermometer=True))
    builder.neurons[name] = [list(segment.nodes) for segment in out]
    return Value(tuple(out))


def rate_neuron(builder: Builder, module: SignedIF, name: str, value: Value) -> Value:
    """Integrate-and-fire with soft reset: the canonical loop with a decay of 1; signed with a second Threshold on -U."""
    if module.reset_mechanism == "zero":
        return _hard_reset_if(builder, module, name, value)
    _agree_on_time_steps(builder, module)
    out, nodes = [], []
    for (inner, segment), rows in zip(value.named(name), _per_segment(stored(module.thresholds), value), strict=True):
        spikes = _rate_loop(builder, inner, module, rows, segment)
        nodes.append(list(spikes))
        out.append(_signed(builder, inner, spikes, segment.shape))
    builder.neurons[name] = nodes
    return Value(tuple(out))


def _signed(builder: Builder, name: str, spikes: tuple[str, ...], shape: Shape) -> Segment:
    """One node of binary spikes, or two of which the second stands for -1."""
    if len(spikes) == 1:
        return Segment(spikes, shape, is_thermometer=True)
    positive, negative = spikes
    minus = builder.add(f"{name}.minus", nir.Scale(constant(-1.0, shape)), [negative])
    return Segment((positive, minus), shape, ternary=(positive, negative))


def _hard_reset_if(builder: Builder, module: SignedIF, name: str, value: Value) -> Value:
    """``nir.IF``, which is set to 0 by a spike."""
    _agree_on_time_steps(builder, module)
    out = []
    for (inner, segment), (threshold,) in zip(
        value.named(name), _per_segment(stored(module.thresholds), value), strict=True
    ):
        shape = segment.shape
        node = nir.IF(r=constant(1.0, shape), v_threshold=constant(threshold, shape), v_reset=constant(0.0, shape))
        out.append(Segment((builder.add(inner, node, segment.nodes),), shape, is_thermometer=True))
    builder.neurons[name] = [list(segment.nodes) for segment in out]
    return Value(tuple(out))


def _rate_loop(
    builder: Builder, name: str, module: SignedIF, thresholds: Sequence[Array], segment: Segment
) -> tuple[str, ...]:
    """U = x + B; Z = [U > theta], N = [-U > theta / slope]; D = U - Z + N / slope, one step later; B = D."""
    shape = segment.shape
    potential = builder.scaled(f"{name}.u", segment, 1.0)
    spikes = [builder.add(f"{name}.positive", nir.Threshold(constant(thresholds[0], shape)), potential.nodes)]
    if module.slope:
        mirror = builder.scaled(f"{name}.mirror", potential, -1.0)
        spikes.append(builder.add(f"{name}.negative", nir.Threshold(constant(thresholds[1], shape)), mirror.nodes))
    down, up = module.resets
    resets = [
        builder.add(f"{name}.reset{index}", nir.Scale(constant(amount, shape)), [spike])
        for index, (spike, amount) in enumerate(zip(spikes, (-down, up), strict=False), 1)
    ]
    delay = builder.add(f"{name}.delay", nir.Delay(constant(1.0, shape)), [*potential.nodes, *resets])
    back = builder.add(f"{name}.decay", nir.Scale(constant(1.0, shape)), [delay])
    builder.edges.append((back, potential.nodes[0]))  # feedback comes last in the sum
    return tuple(spikes)


def _levels(builder: Builder, name: str, thresholds: Sequence[Array], segment: Segment) -> tuple[str, ...]:
    return tuple(
        builder.add(f"{name}.level{k}", nir.Threshold(constant(theta, segment.shape)), segment.nodes)
        for k, theta in enumerate(thresholds, 1)
    )


def _soft_reset_loop(
    builder: Builder, name: str, module: ILIF | PLIF, thresholds: Sequence[Array], segment: Segment
) -> tuple[str, ...]:
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


def average_pool(builder: Builder, module: nn.AvgPool2d, name: str, value: Value) -> Value:
    """``nir.AvgPool2d``, whose padding counts as in PyTorch's default."""
    if module.ceil_mode or not module.count_include_pad or module.divisor_override is not None:
        raise Refusal("NIR's average pool has no ceil_mode and no divisor of its own, and it counts its padding")
    kernel, stride, padding = pair(module.kernel_size), pair(module.stride), pair(module.padding)
    size = sliding_size(value.size, kernel, stride, padding)
    out = []
    for inner, segment in value.named(name):
        shape = (segment.shape[0], *size)
        pool = nir.AvgPool2d(np.array(kernel), np.array(stride), np.array(padding))
        pool.input_type = {"input": np.array(segment.shape)}
        pool.output_type = {"output": np.array(shape)}
        out.append(Segment((builder.add(inner, pool, segment.nodes),), shape))
    return Value(tuple(out))


def max_pool(builder: Builder, module: nn.MaxPool2d, name: str, value: Value) -> Value:
    """Max-pool of integer spikes: level k of the maximum is [number of level-k spikes in the window > 0.5].

    Of spikes -1, 0 and 1: the maximum is -1 where all places of the window within the map are -1.
    """
    if not all(segment.is_thermometer or segment.ternary for segment in value.segments):
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
        if segment.ternary is not None:
            out.append(_ternary_max(builder, inner, segment, shape, (kernel, stride, padding)))
            continue
        levels = []
        for k, source in enumerate(segment.nodes, 1):
            summed = _summed(builder, f"{inner}.sum{k}", source, segment.shape, shape, (kernel, stride, padding))
            levels.append(builder.add(f"{inner}.level{k}", nir.Threshold(constant(0.5, shape)), [summed]))
        out.append(Segment(tuple(levels), shape, is_thermometer=True))
    return Value(tuple(out))


_Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # kernel, stride, padding


def _summed(builder: Builder, name: str, source: str, given: Shape, shape: Shape, window: _Window) -> str:
    pool = nir.SumPool2d(*(np.array(part) for part in window))
    pool.input_type = {"input": np.array(given)}
    pool.output_type = {"output": np.array(shape)}
    return builder.add(name, pool, [source])


def _ternary_max(builder: Builder, name: str, segment: Segment, shape: Shape, window: _Window) -> Segment:
    """1 where a place of the window is 1; -1 where as many places are -1 as the window has within the map."""
    positive, negative = segment.ternary or ("", "")
    some = _summed(builder, f"{name}.sum_positive", positive, segment.shape, shape, window)
    every = _summed(builder, f"{name}.sum_negative", negative, segment.shape, shape, window)
    places = _places(segment.shape[1:], shape[1:], window)
    least = np.broadcast_to(compact(places - 0.5), shape)
    spikes = (
        builder.add(f"{name}.positive", nir.Threshold(constant(0.5, shape)), [some]),
        builder.add(f"{name}.negative", nir.Threshold(least), [every]),
    )
    return _signed(builder, name, spikes, shape)


def _places(given: tuple[int, int], size: tuple[int, int], window: _Window) -> Array:
    """How many places of each window lie within the map: (H', W')."""
    counts = []
    for axis in (0, 1):
        kernel, stride, padding = (part[axis] for part in window)
        first = np.arange(size[axis]) * stride - padding
        counts.append(np.minimum(first + kernel, given[axis]) - np.maximum(first, 0))
    return np.outer(*counts)
