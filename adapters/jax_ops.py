"""NIR nodes as JAX functions. Equations as in ``zoo.nir_graphs.reference``.

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
from zoo.nir_graphs.graph import FlatNode

Value = jax.Array
Values = dict[str, Any]
"""Parameters of one node by name."""
State = tuple[Value, ...]
"""Potentials of the membranes of one node."""
Apply = Callable[[Values, Value, Value], Value]
"""(parameters, zero, input (N, ...)) -> output (N, ...)."""
Step = Callable[[Values, Value, Value, State], tuple[Value, State, Value]]
"""(parameters, zero, input (B, ...), state) -> (output, state, what is compared with the threshold or else the output)."""
_SURROGATE = spyx.axn.superspike()


@dataclass(frozen=True)
class Layer:
    """What a node without memory does.

    Attributes:
        parameters: numpy arrays in the type of the computation.
        apply: the function.
    """

    parameters: Values
    apply: Apply


@dataclass(frozen=True)
class Neuron:
    """What a node with membranes does.

    Attributes:
        parameters: numpy arrays in the type of the computation.
        step: one time step.
        membranes: how many it has.
        spyx_cells: how many of them run on Spyx's own cells.
    """

    parameters: Values
    step: Step
    membranes: int
    spyx_cells: int


Operation = Layer | Neuron


@jax.custom_vjp
def fire(potential: Value, threshold: Value) -> Value:
    """[potential > threshold]; the gradient is Spyx's SuperSpike."""
    return (potential > threshold).astype(potential.dtype)


def _fire_forward(potential: Value, threshold: Value) -> tuple[Value, tuple[Value, Value]]:
    return fire(potential, threshold), (potential, threshold)


def _fire_backward(saved: tuple[Value, Value], gradient: Value) -> Any:
    _, pull = jax.vjp(lambda potential, threshold: _SURROGATE(potential - threshold), *saved)
    return pull(gradient)


fire.defvjp(_fire_forward, _fire_backward)


def _convolution(node: FlatNode, dtype: Any) -> Layer:
    stride, sides, dilation, groups = (node[name] for name in ("stride", "padding", "dilation", "groups"))

    def apply(p: Values, _zero: Value, x: Value) -> Value:
        y = lax.conv_general_dilated(
            x, p["weight"], stride, sides, rhs_dilation=dilation, feature_group_count=groups,
            precision=lax.Precision.HIGHEST,
        )  # fmt: skip
        return y + p["bias"].reshape(-1, *[1] * len(stride))

    return Layer({name: node[name].astype(dtype) for name in ("weight", "bias")}, apply)


def _dense(node: FlatNode, dtype: Any) -> Layer:
    def apply(p: Values, _zero: Value, x: Value) -> Value:
        y = jnp.matmul(x, p["weight"].T, precision=lax.Precision.HIGHEST)
        return y + p["bias"] if "bias" in p else y

    return Layer({name: node[name].astype(dtype) for name in node.values}, apply)


def _scale(node: FlatNode, dtype: Any) -> Layer:
    return Layer({"scale": node["scale"].astype(dtype)}, lambda p, zero, x: p["scale"] * x + zero)


def _pool(node: FlatNode, dtype: Any) -> Layer:
    kernel, stride = (1, 1, *node["kernel_size"]), (1, 1, *node["stride"])
    padding = ((0, 0), (0, 0), *node["padding"])
    divisor = dtype(np.prod(kernel)) if node.type is nir.AvgPool2d else None

    def apply(_p: Values, _zero: Value, x: Value) -> Value:
        summed = lax.reduce_window(x, np.zeros((), dtype), lax.add, kernel, stride, padding)
        return summed if divisor is None else summed / (divisor + summed * 0)

    return Layer({}, apply)


def _flatten(node: FlatNode, _dtype: Any) -> Layer:
    return Layer({}, lambda _p, _zero, x: x.reshape(x.shape[0], *node.shape))


def _threshold(node: FlatNode, dtype: Any) -> Layer:
    return Layer({"threshold": node["threshold"].astype(dtype)}, lambda p, _zero, x: fire(x, p["threshold"]))


def _neuron(node: FlatNode, dtype: Any, dt: float) -> Neuron:
    parts = [_membrane(membrane, dtype) for membrane in membranes(node, dt)]

    def step(p: Values, zero: Value, x: Value, state: State) -> tuple[Value, State, Value]:
        after: State = ()
        potential = x
        for index, part in enumerate(parts):
            x, left, potential = part.step(p[str(index)], zero, x, state[index : index + 1])
            after += left
        return x, after, potential

    parameters = {str(index): part.parameters for index, part in enumerate(parts)}
    return Neuron(parameters, step, len(parts), sum(part.spyx_cells for part in parts))


def _membrane(membrane: Membrane, dtype: Any) -> Neuron:
    """One membrane; without a threshold it runs on ``spyx.nn.LI``, its leak in its current.

    Spyx's firing neurons compare the potential of the step before and subtract, which is not the contract: they are computed
    in plain JAX.
    """
    given = {"k": membrane.k, "r": membrane.r, "v_leak": membrane.v_leak, "threshold": membrane.threshold}
    parameters = {key: np.asarray(value).astype(dtype) for key, value in given.items() if value is not None}
    leaks, fires = membrane.k is not None, membrane.threshold is not None
    parameters["reset"] = np.asarray(membrane.reset).astype(dtype)
    cell = None if fires else spyx.nn.LI((), beta=1.0, rngs=nnx.Rngs(0))

    def step(p: Values, zero: Value, x: Value, state: State) -> tuple[Value, State, Value]:
        (v,) = state
        current = p["r"] * x + zero
        if leaks:
            current = p["k"] * ((p["v_leak"] - v) + current) + zero
        if cell is not None:
            out, after = cell(current, v)
            return out, (after,), out
        u = v + current
        z = fire(u, p["threshold"])
        return z, (jnp.where(z > 0, p["reset"], u),), u

    return Neuron(parameters, step, 1, int(cell is not None))


def operation(node: FlatNode, dtype: Any, dt: float) -> Operation:
    """What a node other than Input and Delay does."""
    return LAYERS[node.type](node, dtype) if node.type in LAYERS else _neuron(node, dtype, dt)


LAYERS: dict[type, Callable[[FlatNode, Any], Layer]] = {
    nir.Output: lambda _node, _dtype: Layer({}, lambda _p, _zero, x: x),
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
"""Node types without memory."""


class Delay:
    """``nir.Delay``: whole steps, possibly different ones per element; zero before the first input.

    Args:
        node: the Delay.
        length: steps of the run; what is delayed by more never arrives.
    """

    def __init__(self, node: FlatNode, length: int) -> None:
        self.shape, self.length = node.shape, length
        self.steps = np.minimum(node["steps"], length).astype(np.int32)
        self.depth = int(self.steps.max())

    def whole(self, x: Value) -> Value:
        """A whole sequence (T, B, ...), delayed."""
        if self.steps.ndim == 0:
            return jnp.concatenate([jnp.zeros_like(x[: self.depth]), x[: self.length - self.depth]])
        now = np.arange(self.length, dtype=np.int32).reshape(-1, *[1] * (x.ndim - 1))
        then = now - self.steps
        return jnp.where(then >= 0, jnp.take_along_axis(x, np.maximum(then, 0), 0), 0)

    def rest(self, batch: int, dtype: Any) -> Value:
        """The ring of remembered inputs (depth, B, ...) before the first step."""
        return jnp.zeros((self.depth, batch, *self.shape), dtype)

    def read(self, ring: Value, now: Value) -> Value:
        """Value (B, ...) in step ``now``. Places of the ring that were not written yet hold zeros."""
        if self.steps.ndim == 0:
            return ring[0] if self.depth == 1 else lax.dynamic_index_in_dim(ring, now % self.depth, keepdims=False)
        then = jnp.expand_dims((now - self.steps) % self.depth, (0, 1))
        return jnp.take_along_axis(ring, then, 0)[0]

    def write(self, ring: Value, now: Value, x: Value) -> Value:
        """The ring after step ``now``, whose input was ``x``."""
        return lax.dynamic_update_index_in_dim(ring, x, now % self.depth, 0)
