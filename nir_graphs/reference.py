"""The discrete-time contract as an interpreter: numpy float64, no torch, no cleverness.

It is the judge in every equivalence test. One short function per node type, its equation in the docstring. In all of them x
is the sum of the in-edges, left to right in the order of the edge list, v the membrane potential (0 before the first step),
z the spikes, and [.] is 1 where the condition holds and 0 elsewhere. Nodes are those of a ``FlatGraph``, whose fields are
checked. The judge does its own arithmetic: it shares no helper with the backends that it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from zoo.errors import InvalidInputError
from zoo.nir_graphs.graph import FlatGraph, FlatNode
from zoo.nir_graphs.nodes import NEURONS, SPIKING
from zoo.nir_graphs.normalise import Graph, normalise

Array = npt.NDArray[np.float64]
State = dict[str, Any]
Step = Callable[[FlatNode, Array, State, float], Array]
Record = str | Collection[str]


@dataclass(frozen=True)
class Trace:
    """What a run gives back; every array is (T, B, ...).

    Attributes:
        outputs: per Output node.
        spikes: per recorded neuron node, 0 or 1.
        potentials: per recorded node: what is compared with the threshold (after integration, before reset); for a
            Threshold its input; for LI, I and CubaLI the output.
    """

    outputs: dict[str, Array]
    spikes: dict[str, Array] = field(default_factory=dict)
    potentials: dict[str, Array] = field(default_factory=dict)


def _fire(v: Array, node: FlatNode, state: State) -> Array:
    """z = [v > v_threshold]; v <- v_reset where z."""
    z = v > node["v_threshold"]
    state["potential"] = v
    state["v"] = np.where(z, node["v_reset"], v)
    return z.astype(np.float64)


def _rest(x: Array, state: State, name: str = "v") -> Array:
    return state[name] if name in state else np.zeros_like(x)


def lif(node: FlatNode, x: Array, state: State, dt: float) -> Array:
    """v <- v + (dt / tau) ((v_leak - v) + r x); z = [v > v_threshold]; v <- v_reset where z."""
    v = _rest(x, state)
    v = v + (dt / _f64(node["tau"])) * ((node["v_leak"] - v) + node["r"] * x)
    return _fire(v, node, state)


def integrate_and_fire(node: FlatNode, x: Array, state: State, dt: float) -> Array:
    """v <- v + dt r x; z = [v > v_threshold]; v <- v_reset where z."""
    return _fire(_rest(x, state) + dt * _f64(node["r"]) * x, node, state)


def leaky_integrator(node: FlatNode, x: Array, state: State, dt: float) -> Array:
    """v <- v + (dt / tau) ((v_leak - v) + r x); the output is v."""
    v = _rest(x, state)
    state["v"] = state["potential"] = v + (dt / _f64(node["tau"])) * ((node["v_leak"] - v) + node["r"] * x)
    return state["v"]


def integrator(node: FlatNode, x: Array, state: State, dt: float) -> Array:
    """v <- v + dt r x; the output is v."""
    state["v"] = state["potential"] = _rest(x, state) + dt * _f64(node["r"]) * x
    return state["v"]


def _cuba_potential(node: FlatNode, x: Array, state: State, dt: float) -> Array:
    """i <- i + (dt / tau_syn) (w_in x - i); v + (dt / tau_mem) ((v_leak - v) + r i), with the new i."""
    i, v = _rest(x, state, "i"), _rest(x, state)
    state["i"] = i + (dt / _f64(node["tau_syn"])) * (node["w_in"] * x - i)
    return v + (dt / _f64(node["tau_mem"])) * ((node["v_leak"] - v) + node["r"] * state["i"])


def cuba_lif(node: FlatNode, x: Array, state: State, dt: float) -> Array:
    """i <- i + (dt / tau_syn) (w_in x - i); v <- v + (dt / tau_mem) ((v_leak - v) + r i); fire and reset as LIF."""
    return _fire(_cuba_potential(node, x, state, dt), node, state)


def cuba_li(node: FlatNode, x: Array, state: State, dt: float) -> Array:
    """i <- i + (dt / tau_syn) (w_in x - i); v <- v + (dt / tau_mem) ((v_leak - v) + r i); the output is v."""
    state["v"] = state["potential"] = _cuba_potential(node, x, state, dt)
    return state["v"]


def threshold(node: FlatNode, x: Array, state: State, _dt: float) -> Array:
    """z = [x > threshold]."""
    state["potential"] = x
    return (x > node["threshold"]).astype(np.float64)


def scale(node: FlatNode, x: Array, _state: State, _dt: float) -> Array:
    """y = scale * x, element by element."""
    return node["scale"] * x


def affine(node: FlatNode, x: Array, _state: State, _dt: float) -> Array:
    """y = W x + b over the last axis."""
    return x @ _f64(node["weight"]).T + node["bias"]


def linear(node: FlatNode, x: Array, _state: State, _dt: float) -> Array:
    """y = W x over the last axis."""
    return x @ _f64(node["weight"]).T


def convolution(node: FlatNode, x: Array, _state: State, _dt: float) -> Array:
    """y[o, p] = b[o] + sum over i, k of W[o, i, k] x[i, stride p + dilation k - padding]; i runs over o's group."""
    weight = _f64(node["weight"])
    kernel, stride, dilation = weight.shape[2:], node["stride"], node["dilation"]
    x = np.pad(x, [(0, 0), (0, 0), *node["padding"]])
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    batch, groups = len(x), node["groups"]
    blocks = weight.reshape(groups, -1, weight.shape[1], *kernel)
    y = np.zeros((batch, groups, blocks.shape[1], int(np.prod(size))))
    for tap in np.ndindex(*kernel):
        here: Any = (..., *tap)
        if not blocks[here].any():
            continue
        window: Any = (
            ...,
            *(slice(d * k, d * k + s * (n - 1) + 1, s) for d, k, s, n in zip(dilation, tap, stride, size, strict=True)),
        )
        y += blocks[here] @ x[window].reshape(batch, groups, -1, y.shape[-1])
    bias = _f64(node["bias"]).reshape(-1, *[1] * len(size))
    return y.reshape(batch, -1, *size) + bias


def sum_pool(node: FlatNode, x: Array, _state: State, _dt: float) -> Array:
    """y[c, p] = sum over k of x[c, stride p + k - padding]."""
    kernel, stride = node["kernel_size"], node["stride"]
    x = np.pad(x, [(0, 0), (0, 0), *node["padding"]])
    windows: Array = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))  # type: ignore[call-overload]
    return windows[:, :, :: stride[0], :: stride[1]].sum((-2, -1))


def average_pool(node: FlatNode, x: Array, state: State, dt: float) -> Array:
    """y = SumPool2d(x) / (kernel height * kernel width); padding counts."""
    return sum_pool(node, x, state, dt) / np.prod(node["kernel_size"])


def flatten(node: FlatNode, x: Array, _state: State, _dt: float) -> Array:
    """Axes start_dim..end_dim (not counting the batch) become one."""
    start, end = node["start_dim"] + 1, node["end_dim"] + 1
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def identity(_node: FlatNode, x: Array, _state: State, _dt: float) -> Array:
    """y = x."""
    return x


STEPS: dict[type, Step] = {
    nir.Input: identity,
    nir.Output: identity,
    nir.LIF: lif,
    nir.IF: integrate_and_fire,
    nir.LI: leaky_integrator,
    nir.I: integrator,
    nir.CubaLIF: cuba_lif,
    nir.CubaLI: cuba_li,
    nir.Threshold: threshold,
    nir.Scale: scale,
    nir.Affine: affine,
    nir.Linear: linear,
    nir.Conv1d: convolution,
    nir.Conv2d: convolution,
    nir.SumPool2d: sum_pool,
    nir.AvgPool2d: average_pool,
    nir.Flatten: flatten,
}


def _f64(value: Any) -> Array:
    return np.asarray(value, np.float64)


def _delayed(node: FlatNode, state: State, batch: int) -> Array:
    """y_t = x_{t - delay}; zero before the first input."""
    past: list[Array] = state.setdefault("past", [])
    y = np.zeros((batch, *node.shape))
    for count in np.unique(node["steps"]):
        if len(past) >= count:
            y = np.where(node["steps"] == count, past[-count], y)
    return y


def _remember(node: FlatNode, state: State, x: Array) -> None:
    past = state["past"]
    past.append(x)
    del past[: -int(node["steps"].max())]


def recorded_nodes(graph: FlatGraph, record: Record) -> set[str]:
    """Names of the nodes that ``record`` asks for."""
    if isinstance(record, str):
        if record not in {"none", "neurons", "all"}:
            raise InvalidInputError(f"record must be 'none', 'neurons', 'all' or a list of nodes, not {record!r}")
        kinds: frozenset[type] = {"none": frozenset[type](), "neurons": SPIKING, "all": NEURONS}[record]
        return set(graph.names(*kinds))
    unknown = set(record) - set(graph.nodes)
    if unknown:
        raise InvalidInputError(f"there is no node {min(unknown)!r} to record")
    return set(record)


def run(
    graph: Graph,
    x: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    *,
    dt: float | None = None,
    record: Record = "none",
    observe: Callable[[int, Mapping[str, Array]], None] | None = None,
) -> Trace:
    """Run a graph from rest.

    Args:
        graph: a ``FlatGraph``; a NIR graph is normalised first.
        x: input (T, B, ...), or one per Input node.
        dt: length of a step, for a NIR graph; see :func:`zoo.nir_graphs.normalise.normalise`.
        record: ``none``, ``neurons`` (everything that spikes), ``all`` (integrators too) or node names.
        observe: called after each step with its number and what every node gives out.

    Raises:
        InvalidGraphError: the graph breaks the discrete-time contract.
        InvalidInputError: inputs that do not fit the Input nodes, or that are not finite.
    """
    graph = normalise(graph, dt=dt)
    inputs = _inputs(graph, x)
    wanted = recorded_nodes(graph, record)
    states: dict[str, State] = {name: {} for name in graph.nodes}
    history: dict[str, dict[str, list[Array]]] = {"out": {}, "spikes": {}, "potentials": {}}
    for t in range(len(next(iter(inputs.values())))):
        values = _step(graph, {name: sequence[t] for name, sequence in inputs.items()}, states)
        if observe is not None:
            observe(t, values)
        for name in graph.outputs:
            history["out"].setdefault(name, []).append(values[name])
        for name in wanted:
            if graph.nodes[name].type in SPIKING:
                history["spikes"].setdefault(name, []).append(values[name])
            history["potentials"].setdefault(name, []).append(states[name].get("potential", values[name]))
    stacked = {kind: {name: np.stack(steps) for name, steps in part.items()} for kind, part in history.items()}
    return Trace(stacked["out"], stacked["spikes"], stacked["potentials"])


def _inputs(graph: FlatGraph, x: Any) -> dict[str, Array]:
    names = graph.inputs
    given = {name: _f64(value) for name, value in x.items()} if isinstance(x, Mapping) else {names[0]: _f64(x)}
    if set(given) != set(names):
        raise InvalidInputError(f"the graph has the inputs {', '.join(names)}, got {', '.join(given)}")
    for name, value in given.items():
        expected = graph.nodes[name].shape
        if value.shape[2:] != expected or value.size == 0:
            sizes = ", ".join(str(n) for n in ("T", "B", *expected))
            raise InvalidInputError(f"input {name!r} must have the shape ({sizes}), got {value.shape}")
    if len({value.shape[:2] for value in given.values()}) > 1:
        raise InvalidInputError("all inputs must have the same number of time steps and the same batch size")
    if not all(np.isfinite(value).all() for value in given.values()):
        raise InvalidInputError("the input contains NaN or infinity")
    return given


def _step(graph: FlatGraph, inputs: dict[str, Array], states: dict[str, State]) -> dict[str, Array]:
    """All node values of one time step."""
    values = dict(inputs)
    batch = len(next(iter(inputs.values())))
    for name in graph.order:
        node = graph.nodes[name]
        if node.type is nir.Delay:
            values[name] = _delayed(node, states[name], batch)
        elif name not in inputs:
            values[name] = STEPS[node.type](node, _summed(graph, name, values), states[name], graph.dt)
    for name in graph.order:
        if graph.nodes[name].type is nir.Delay:
            _remember(graph.nodes[name], states[name], _summed(graph, name, values))
    return values


def _summed(graph: FlatGraph, name: str, values: dict[str, Array]) -> Array:
    """Sum of the in-edges, left to right."""
    first, *others = graph.sources[name]
    total = values[first]
    for source in others:
        total = total + values[source]
    return total
