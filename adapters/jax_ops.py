"""NIR nodes as JAX functions. Equations as in ``zoo.nir_graphs.reference``, one step (B, ...) at a time.

Rounding: XLA contracts a * b + c into one fused multiply-add, also through ``lax.optimization_barrier`` on a CPU, which changes
a third of all float64 potentials of a leaky neuron (measured, jax 0.10.2). So every product is written a * b + zero with a
zero that XLA only gets to know when it runs: the fused operation is then the rounded product itself. XLA also turns a division
by one number into a multiplication by its rounded inverse, so a divisor is an array that it cannot know either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import nir
import numpy as np
import spyx
from flax import nnx
from jax import lax

from zoo.adapters.membranes import Membrane, membranes
from zoo.nir_graphs.fields import Array
from zoo.nir_graphs.graph import FlatNode

Value = jax.Array
Parameters = dict[str, Any]
_SURROGATE = spyx.axn.superspike()


@dataclass(frozen=True)
class Operation:
    """What one node does.

    Attributes:
        parameters: numpy arrays in the type of the computation.
        step: (parameters, zero, input, state) -> (output, state, what is compared with the threshold or else the output).
        has_state: whether ``state`` means anything.
        spyx_cells: how many of its membranes run on Spyx's own cells, of how many.
    """

    parameters: Parameters
    step: Callable[[Parameters, Value, Value, Any], tuple[Value, Any, Value]]
    has_state: bool = False
    spyx_cells: tuple[int, int] = (0, 0)


def fire(potential: Value, threshold: Value) -> Value:
    """[potential > threshold]; the gradient is Spyx's SuperSpike."""
    exact = (potential > threshold).astype(potential.dtype)
    surrogate = _SURROGATE(potential - threshold)
    return lax.stop_gradient(exact) + (surrogate - lax.stop_gradient(surrogate))


def _stateless(parameters: Parameters, function: Callable[[Parameters, Value, Value], Value]) -> Operation:
    def step(p: Parameters, zero: Value, x: Value, state: Any) -> tuple[Value, Any, Value]:
        y = function(p, zero, x)
        return y, state, y

    return Operation(parameters, step)


def _convolution(node: FlatNode, dtype: Any) -> Operation:
    parameters = {name: node[name].astype(dtype) for name in ("weight", "bias")}
    stride, sides, dilation, groups = (node[name] for name in ("stride", "padding", "dilation", "groups"))

    def apply(p: Parameters, _zero: Value, x: Value) -> Value:
        y = lax.conv_general_dilated(
            x, p["weight"], stride, sides, rhs_dilation=dilation, feature_group_count=groups,
            precision=lax.Precision.HIGHEST,
        )  # fmt: skip
        return y + p["bias"].reshape(-1, *[1] * len(stride))

    return _stateless(parameters, apply)


def _dense(node: FlatNode, dtype: Any) -> Operation:
    parameters = {name: node[name].astype(dtype) for name in node.values}

    def apply(p: Parameters, _zero: Value, x: Value) -> Value:
        y = jnp.matmul(x, p["weight"].T, precision=lax.Precision.HIGHEST)
        return y + p["bias"] if "bias" in p else y

    return _stateless(parameters, apply)


def _scale(node: FlatNode, dtype: Any) -> Operation:
    return _stateless({"scale": node["scale"].astype(dtype)}, lambda p, zero, x: p["scale"] * x + zero)


def _pool(node: FlatNode, dtype: Any) -> Operation:
    kernel, stride = (1, 1, *node["kernel_size"]), (1, 1, *node["stride"])
    padding = ((0, 0), (0, 0), *node["padding"])
    divisor = dtype(np.prod(kernel)) if node.type is nir.AvgPool2d else None

    def apply(_p: Parameters, _zero: Value, x: Value) -> Value:
        summed = lax.reduce_window(x, np.zeros((), dtype), lax.add, kernel, stride, padding)
        return summed if divisor is None else summed / (divisor + summed * 0)

    return _stateless({}, apply)


def _flatten(node: FlatNode, _dtype: Any) -> Operation:
    return _stateless({}, lambda _p, _zero, x: x.reshape(x.shape[0], *node.shape))


def _threshold(node: FlatNode, dtype: Any) -> Operation:
    def step(p: Parameters, _zero: Value, x: Value, state: Any) -> tuple[Value, Any, Value]:
        return fire(x, p["threshold"]), state, x

    return Operation({"threshold": node["threshold"].astype(dtype)}, step)


def _neuron(node: FlatNode, dtype: Any, dt: float) -> Operation:
    parts = [_membrane(membrane, dtype) for membrane in membranes(node, dt)]

    def step(p: Parameters, zero: Value, x: Value, state: Any) -> tuple[Value, Any, Value]:
        potential, after = x, []
        for index, part in enumerate(parts):
            before = jnp.zeros_like(x) if state is None else state[index]
            x, v, potential = part.step(p[str(index)], zero, x, before)
            after.append(v)
        return x, tuple(after), potential

    own = (sum(part.spyx_cells[0] for part in parts), len(parts))
    return Operation({str(i): part.parameters for i, part in enumerate(parts)}, step, True, own)


def _membrane(membrane: Membrane, dtype: Any) -> Operation:
    """One membrane; without a threshold it runs on ``spyx.nn.LI``, its leak in its current.

    Spyx's firing neurons compare the potential of the step before and subtract, which is not the contract: they are computed
    in plain JAX.
    """
    given = {"k": membrane.k, "r": membrane.r, "v_leak": membrane.v_leak, "threshold": membrane.threshold}
    parameters = {key: np.asarray(value).astype(dtype) for key, value in given.items() if value is not None}
    leaks, fires = membrane.k is not None, membrane.threshold is not None
    parameters["reset"] = np.asarray(membrane.reset).astype(dtype)
    cell = None if fires else spyx.nn.LI((), beta=1.0, rngs=nnx.Rngs(0))

    def step(p: Parameters, zero: Value, x: Value, v: Value) -> tuple[Value, Value, Value]:
        current = p["r"] * x + zero
        if leaks:
            current = p["k"] * ((p["v_leak"] - v) + current) + zero
        if cell is not None:
            out, after = cell(current, v)
            return out, after, out
        u = v + current
        z = fire(u, p["threshold"])
        return z, jnp.where(z > 0, p["reset"], u), u

    return Operation(parameters, step, True, (int(cell is not None), 1))


def read_delay(steps: Array, past: Value) -> Value:
    """Value of this step, from the inputs (longest, B, ...) of the last steps, newest first."""
    out = jnp.zeros_like(past[0])
    for count in np.unique(steps):
        out = jnp.where(steps == count, past[int(count) - 1], out)
    return out


def operation(node: FlatNode, dtype: Any, dt: float) -> Operation:
    """What a node other than Input and Delay does."""
    return STATELESS[node.type](node, dtype) if node.type in STATELESS else _neuron(node, dtype, dt)


STATELESS: dict[type, Callable[[FlatNode, Any], Operation]] = {
    nir.Output: lambda _node, _dtype: _stateless({}, lambda _p, _zero, x: x),
    nir.Conv1d: _convolution,
    nir.Conv2d: _convolution,
    nir.Affine: _dense,
    nir.Linear: _dense,
    nir.Scale: _scale,
    nir.SumPool2d: _pool,
    nir.AvgPool2d: _pool,
    nir.Flatten: _flatten,
    nir.Threshold: _threshold,
}
