"""The discrete-time contract as an interpreter: numpy float64, no torch, no cleverness.

It is the judge in every equivalence test. One short function per node type, its equation in the docstring. In all of them x
is the sum of the in-edges, left to right in the order of the edge list, v the membrane potential (0 before the first step),
z the spikes, and [.] is 1 where the condition holds and 0 elsewhere. Fields and their shapes are those of ``nir``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs import metadata
from zoo.nir_graphs.structure import evaluation_order, predecessors

Array = npt.NDArray[np.float64]
State = dict[str, Any]
Step = Callable[[Any, Array, State, float], Array]
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


def _fire(v: Array, node: Any, state: State) -> Array:
    """z = [v > v_threshold]; v <- v_reset where z."""
    z = v > node.v_threshold
    state["potential"] = v
    state["v"] = np.where(z, np.float64(0.0) if node.v_reset is None else node.v_reset, v)
    return z.astype(np.float64)


def _rest(x: Array, state: State, name: str = "v") -> Array:
    return state[name] if name in state else np.zeros_like(x)


def lif(node: nir.LIF, x: Array, state: State, dt: float) -> Array:
    """v <- v + (dt / tau) ((v_leak - v) + r x); z = [v > v_threshold]; v <- v_reset where z."""
    v = _rest(x, state)
    v = v + (dt / _f64(node.tau)) * ((node.v_leak - v) + node.r * x)
    return _fire(v, node, state)


def integrate_and_fire(node: nir.IF, x: Array, state: State, dt: float) -> Array:
    """v <- v + dt r x; z = [v > v_threshold]; v <- v_reset where z."""
    return _fire(_rest(x, state) + dt * _f64(node.r) * x, node, state)


def leaky_integrator(node: nir.LI, x: Array, state: State, dt: float) -> Array:
    """v <- v + (dt / tau) ((v_leak - v) + r x); the output is v."""
    v = _rest(x, state)
    state["v"] = state["potential"] = v + (dt / _f64(node.tau)) * ((node.v_leak - v) + node.r * x)
    return state["v"]


def integrator(node: nir.I, x: Array, state: State, dt: float) -> Array:
    """v <- v + dt r x; the output is v."""
    state["v"] = state["potential"] = _rest(x, state) + dt * _f64(node.r) * x
    return state["v"]


def _cuba_potential(node: Any, x: Array, state: State, dt: float) -> Array:
    """i <- i + (dt / tau_syn) (w_in x - i); v + (dt / tau_mem) ((v_leak - v) + r i), with the new i."""
    i, v = _rest(x, state, "i"), _rest(x, state)
    state["i"] = i + (dt / _f64(node.tau_syn)) * (node.w_in * x - i)
    return v + (dt / _f64(node.tau_mem)) * ((node.v_leak - v) + node.r * state["i"])


def cuba_lif(node: nir.CubaLIF, x: Array, state: State, dt: float) -> Array:
    """i <- i + (dt / tau_syn) (w_in x - i); v <- v + (dt / tau_mem) ((v_leak - v) + r i); fire and reset as LIF."""
    return _fire(_cuba_potential(node, x, state, dt), node, state)


def cuba_li(node: nir.CubaLI, x: Array, state: State, dt: float) -> Array:
    """i <- i + (dt / tau_syn) (w_in x - i); v <- v + (dt / tau_mem) ((v_leak - v) + r i); the output is v."""
    state["v"] = state["potential"] = _cuba_potential(node, x, state, dt)
    return state["v"]


def threshold(node: nir.Threshold, x: Array, state: State, _dt: float) -> Array:
    """z = [x > threshold]."""
    state["potential"] = x
    return (x > node.threshold).astype(np.float64)


def scale(node: nir.Scale, x: Array, _state: State, _dt: float) -> Array:
    """y = scale * x, element by element."""
    return node.scale * x


def affine(node: nir.Affine, x: Array, _state: State, _dt: float) -> Array:
    """y = W x + b over the last axis."""
    return x @ _f64(node.weight).T + node.bias


def linear(node: nir.Linear, x: Array, _state: State, _dt: float) -> Array:
    """y = W x over the last axis."""
    return x @ _f64(node.weight).T


def convolution(node: nir.Conv1d | nir.Conv2d, x: Array, _state: State, _dt: float) -> Array:
    """y[o, p] = b[o] + sum over i, k of W[o, i, k] x[i, stride p + dilation k - padding]; i runs over o's group."""
    weight = _f64(node.weight)
    kernel = weight.shape[2:]
    stride, dilation = _per_axis(node.stride, len(kernel)), _per_axis(node.dilation, len(kernel))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *conv_padding(node.padding, reach)])
    size = [(n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    batch, groups = len(x), int(node.groups)
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
    bias = _f64(node.bias).reshape(-1, *[1] * len(size))
    return y.reshape(batch, -1, *size) + bias


def sum_pool(node: nir.SumPool2d, x: Array, _state: State, _dt: float) -> Array:
    """y[c, p] = sum over k of x[c, stride p + k - padding]."""
    kernel, stride, padding = (_per_axis(p, 2) for p in (node.kernel_size, node.stride, node.padding))
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    windows: Array = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))  # type: ignore[call-overload]
    return windows[:, :, :: stride[0], :: stride[1]].sum((-2, -1))


def average_pool(node: nir.AvgPool2d, x: Array, state: State, dt: float) -> Array:
    """y = SumPool2d(x) / (kernel height * kernel width); padding counts."""
    return sum_pool(node, x, state, dt) / np.prod(_per_axis(node.kernel_size, 2))


def flatten(node: nir.Flatten, x: Array, _state: State, _dt: float) -> Array:
    """Axes start_dim..end_dim (not counting the batch) become one."""
    rank = x.ndim - 1
    start, end = int(node.start_dim) % rank + 1, int(node.end_dim) % rank + 1
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def identity(_node: Any, x: Array, _state: State, _dt: float) -> Array:
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
SPIKING = (nir.LIF, nir.IF, nir.CubaLIF, nir.Threshold)
NEURONS = (*SPIKING, nir.LI, nir.I, nir.CubaLI)


def _f64(value: Any) -> Array:
    return np.asarray(value, np.float64)


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    values = [int(one) for one in np.atleast_1d(value)]
    return tuple(values * axes if len(values) == 1 else values)


def conv_padding(padding: Any, reach: list[int]) -> list[tuple[int, int]]:
    """Zeros before and after each axis. 'same' keeps the size at stride 1, the odd zero at the end, as torch does."""
    text = padding.decode() if isinstance(padding, bytes) else padding
    if isinstance(text, str):
        if text not in {"same", "valid"}:
            raise InvalidGraphError(f"padding must be numbers, 'same' or 'valid', not {text!r}")
        return [(r // 2, r - r // 2) if text == "same" else (0, 0) for r in reach]
    return [(p, p) for p in _per_axis(padding, len(reach))]


def delay_steps(node: nir.Delay, dt: float) -> npt.NDArray[np.int64]:
    """Delay in whole steps, same shape as ``node.delay``.

    Raises:
        InvalidGraphError: a delay that is not a positive multiple of dt.
    """
    steps = _f64(node.delay) / dt
    whole = np.rint(steps)
    if (whole < 1).any() or (np.abs(steps - whole) > 1e-6 * whole).any():
        raise InvalidGraphError(f"a Delay must be a positive multiple of dt = {dt}, got {np.unique(node.delay)[:4]}")
    return whole.astype(np.int64)


def _delayed(node: nir.Delay, state: State, dt: float, like: Array) -> Array:
    """y_t = x_{t - delay}; zero before the first input."""
    steps = state.setdefault("steps", delay_steps(node, dt))
    past: list[Array] = state.setdefault("past", [])
    y = np.zeros_like(like)
    for count in np.unique(steps):
        if len(past) >= count:
            y = np.where(steps == count, past[-count], y)
    return y


def _remember(state: State, x: Array) -> None:
    past = state["past"]
    past.append(x)
    del past[: -int(state["steps"].max())]


def recorded_nodes(graph: nir.NIRGraph, record: Record) -> set[str]:
    """Names of the nodes that ``record`` asks for."""
    if isinstance(record, str):
        if record not in {"none", "neurons", "all"}:
            raise InvalidInputError(f"record must be 'none', 'neurons', 'all' or a list of nodes, not {record!r}")
        kinds: tuple[type, ...] = {"none": (), "neurons": SPIKING, "all": NEURONS}[record]
        return {name for name, node in graph.nodes.items() if isinstance(node, kinds)}
    unknown = set(record) - set(graph.nodes)
    if unknown:
        raise InvalidInputError(f"there is no node {min(unknown)!r} to record")
    return set(record)


def _require_known(graph: nir.NIRGraph) -> None:
    for name, node in graph.nodes.items():
        if type(node) not in STEPS and not isinstance(node, nir.Delay):
            raise InvalidGraphError(
                f"the node {name!r} is a {type(node).__name__}, which has no discrete-time meaning here; import foreign "
                "graphs and subgraphs with zoo.import_nir"
            )


def run(
    graph: nir.NIRGraph,
    x: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    *,
    dt: float | None = None,
    record: Record = "none",
    observe: Callable[[int, Mapping[str, Array]], None] | None = None,
) -> Trace:
    """Run a graph from rest.

    Args:
        graph: flat NIR graph.
        x: input (T, B, ...), or one per Input node.
        dt: length of a step; by default what the graph's metadata says, else 1.
        record: ``none``, ``neurons`` (everything that spikes), ``all`` (integrators too) or node names.
        observe: called after each step with its number and what every node gives out.

    Raises:
        InvalidGraphError: a cycle without Delay, an unknown node type, a delay that is no multiple of dt.
        InvalidInputError: inputs that do not fit the Input nodes.
    """
    _require_known(graph)
    order, sources = evaluation_order(graph), predecessors(graph)
    dt = metadata.get(graph).dt if dt is None else dt
    inputs = _inputs(graph, x)
    wanted = recorded_nodes(graph, record)
    outputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
    states: dict[str, State] = {name: {} for name in graph.nodes}
    history: dict[str, dict[str, list[Array]]] = {"out": {}, "spikes": {}, "potentials": {}}
    like = next(iter(inputs.values()))
    for t in range(len(like)):
        values = _step(graph, order, sources, {name: x_t[t] for name, x_t in inputs.items()}, states, dt)
        if observe is not None:
            observe(t, values)
        for name in outputs:
            history["out"].setdefault(name, []).append(values[name])
        for name in wanted:
            if isinstance(graph.nodes[name], SPIKING):
                history["spikes"].setdefault(name, []).append(values[name])
            history["potentials"].setdefault(name, []).append(states[name].get("potential", values[name]))
    stacked = {kind: {name: np.stack(steps) for name, steps in part.items()} for kind, part in history.items()}
    return Trace(stacked["out"], stacked["spikes"], stacked["potentials"])


def _inputs(graph: nir.NIRGraph, x: Any) -> dict[str, Array]:
    names = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    given = {name: _f64(value) for name, value in x.items()} if isinstance(x, Mapping) else {names[0]: _f64(x)}
    if set(given) != set(names):
        raise InvalidInputError(f"the graph has the inputs {', '.join(names)}, got {', '.join(given)}")
    for name, value in given.items():
        expected = tuple(int(n) for n in graph.nodes[name].input_type["input"])
        if value.shape[2:] != expected or 0 in value.shape:
            raise InvalidInputError(f"input {name!r} must have the shape (T, B, {expected}), got {value.shape}")
    return given


def _step(
    graph: nir.NIRGraph,
    order: list[str],
    sources: dict[str, list[str]],
    inputs: dict[str, Array],
    states: dict[str, State],
    dt: float,
) -> dict[str, Array]:
    """All node values of one time step."""
    values = dict(inputs)
    batch = len(next(iter(inputs.values())))
    for name in order:
        node = graph.nodes[name]
        if isinstance(node, nir.Delay):
            values[name] = _delayed(node, states[name], dt, np.zeros((batch, *np.shape(node.delay))))
        elif name not in inputs:
            values[name] = STEPS[type(node)](node, _summed(name, sources, values), states[name], dt)
    for name in order:
        if isinstance(graph.nodes[name], nir.Delay):
            _remember(states[name], _summed(name, sources, values))
    return values


def _summed(name: str, sources: dict[str, list[str]], values: dict[str, Array]) -> Array:
    """Sum of the in-edges, left to right."""
    if not sources[name]:
        raise InvalidGraphError(f"the node {name!r} has no input")
    total = values[sources[name][0]]
    for source in sources[name][1:]:
        total = total + values[source]
    return total
