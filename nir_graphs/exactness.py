"""What values can occur in a graph: bounds followed from node to node, and whether a float type holds them all.

A rule per node type says which numbers occur while the node computes, in every form of its equation that a backend uses and in
every order of summation. Numbers that are whole multiples of 2^g, at most 2^24 of them (2^53 for float64), normal, and within
the type's range are held exactly; where all are, nothing rounds.

Constants are what the discrete-time contract says they are: dt / tau and dt r are computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from zoo.nir_graphs import bounds
from zoo.nir_graphs.bounds import FREE, ZERO, Bound, Reals
from zoo.nir_graphs.fields import Array, distinct
from zoo.nir_graphs.graph import FlatGraph, FlatNode
from zoo.nir_graphs.nodes import STATEFUL

LIMITS = {"float32": 24, "float64": 53}
"""Bits of the mantissa: whole numbers up to 2 to this power are exact."""
_LEAST = {"float32": -126, "float64": -1022}
_ONE = bounds.of_constant(1.0)
_MOST_PRODUCTS = 1 << 24
"""Weights times rows that are told apart in one linear node."""


@dataclass
class Work:
    """What one node has been seen to do.

    Attributes:
        dtype, dt: of the computation.
        bits: that the largest number takes, in units of the grid that it lies on.
        problem: why the node is not exact; None where it is.
        margin: of its thresholds; infinite where none is in reach.
        fires: whether it has thresholds.
        potential: what is compared with them.
        state: what it remembers.
        verb: what it does with numbers, for messages.
    """

    dtype: str
    dt: float
    verb: str = "meet sums"
    bits: float = 0.0
    problem: str | None = None
    margin: float = np.inf
    fires: bool = False
    potential: Bound | None = None
    state: dict[str, Bound] = field(default_factory=dict)
    _too_long: float = 0.0

    def meets(self, bound: Bound) -> None:
        """Note that such numbers occur."""
        units = float(bounds.in_units(bound.magnitude, bound.grid).max())
        self.bits = max(self.bits, float(bounds.bits(np.asarray(units))))
        if not units <= 2.0 ** LIMITS[self.dtype]:
            self._too_long = max(self._too_long, self.bits)
        lowest = int(bound.grid.min())
        largest = float(bound.magnitude.max())
        if lowest < _LEAST[self.dtype]:
            self.refuse(f"works on a grid of 2^{lowest}, below the normal numbers of {self.dtype}")
        if not largest <= float(np.finfo(self.dtype).max):
            self.refuse(f"may meet numbers up to {largest:.3g}, beyond the largest of {self.dtype}")

    def refuse(self, reason: str) -> None:
        """Note why the node is not exact; the first reason counts."""
        self.problem = self.problem or reason

    def sums(self, terms: Sequence[Bound]) -> Bound:
        """The sum of terms in any order."""
        self.meets(bounds.partial_sums(terms))
        return bounds.total(terms)

    def product(self, first: Bound, second: Bound) -> Bound:
        """The product."""
        out = bounds.product(first, second)
        self.meets(out)
        return out

    def constant(self, values: Any, what: str) -> Bound:
        """A constant, which must be a normal number of the type, down to its last bit."""
        array = distinct(np.asarray(values, np.float64))
        with np.errstate(over="ignore", under="ignore"):
            held = array.astype(self.dtype).astype(np.float64)
        if not np.array_equal(held, array):
            self.refuse(f"has a {what} that is no number of {self.dtype}")
        bound = bounds.of_constant(array)
        lowest = int(bound.grid.min(initial=FREE))
        if lowest < _LEAST[self.dtype]:
            self.refuse(
                f"has a {what} whose last bit is 2^{lowest}, below the normal numbers of {self.dtype}, which some "
                "processors take for zero"
            )
        return bound

    def fire(self, potential: Bound, values: Array) -> tuple[Bound, Bound]:
        """(thresholds, spikes) of a potential."""
        theta = self.constant(values, "threshold")
        self.fires = True
        self.potential = potential if self.potential is None else bounds.hull(self.potential, potential)
        self.margin = bounds.margin(self.potential, values)  # of all steps so far: the grid becomes finer
        return theta, bounds.spikes(potential.high > theta.low, potential.low > theta.high)

    @property
    def reason(self) -> str | None:
        """Why the node is not exact, in one sentence."""
        if self.problem is None and self._too_long:
            return f"may {self.verb} of {self._too_long:.1f} bits, more than the {LIMITS[self.dtype]} of {self.dtype}"
        return self.problem


Rule = Callable[[FlatNode, Bound, Work], Bound]


def _same(_node: FlatNode, x: Bound, _work: Work) -> Bound:
    return x


def _scale(node: FlatNode, x: Bound, work: Work) -> Bound:
    return work.product(work.constant(node["scale"], "scale"), x)


def _threshold(node: FlatNode, x: Bound, work: Work) -> Bound:
    return work.fire(x, node["threshold"])[1]


def _convolution(node: FlatNode, x: Bound, work: Work) -> Bound:
    work.constant(node["weight"], "weight")
    groups, inputs = node["groups"], node["weight"].shape[1]
    axes = len(node.shape) - 1
    weight = np.asarray(node["weight"], np.float64).reshape(groups, -1, inputs, int(np.prod(node["weight"].shape[2:])))
    channels = x.over(tuple(range(1, axes + 1))).reshaped(
        lambda part: np.broadcast_to(part.ravel(), (groups * inputs,)).reshape(groups, inputs)
    )
    out = bounds.linear_map(weight, channels).reshaped(lambda part: part.reshape(-1, *[1] * axes))
    work.meets(out)
    return work.sums([out, work.constant(node["bias"].reshape(-1, *[1] * axes), "bias")])


def _dense(node: FlatNode, x: Bound, work: Work) -> Bound:
    """Over the last axis; each index of the axes before is a case of its own, unless there are too many."""
    work.constant(node["weight"], "weight")
    weight = np.asarray(node["weight"], np.float64)[..., None]
    if not x.grid.ndim:
        x = x.reshaped(lambda part: part.reshape([1] * len(node.shape)))
    if weight.size * x.grid.size // x.grid.shape[-1] > _MOST_PRODUCTS:
        x = x.over(tuple(range(x.grid.ndim - 1)))
    out = bounds.linear_map(weight, x)
    work.meets(out)
    return work.sums([out, work.constant(node["bias"], "bias")]) if "bias" in node.values else out


def _pool(node: FlatNode, x: Bound, work: Work) -> Bound:
    count = int(np.prod(node["kernel_size"]))
    x = x.over((1, 2)).with_zero()
    out = bounds.product(x, Bound(np.zeros((), np.int64), np.asarray(count), np.asarray(count)))
    work.meets(out)
    if node.type is nir.SumPool2d:
        return out
    shift = count.bit_length() - 1
    if count != 1 << shift:
        work.refuse(f"divides by {count}, which is no power of two")
    mean = Bound(np.minimum(x.grid - shift, FREE), x.low, x.high)
    work.meets(mean)
    return mean


def _flatten(node: FlatNode, x: Bound, _work: Work) -> Bound:
    start, end = node["start_dim"], node["end_dim"] + 1
    merged = node.input_shape[start:end]

    def change(part: Array) -> Array:
        if not part.ndim:
            return part
        before, after = part.shape[:start], part.shape[end:]
        if any(n > 1 for n in part.shape[start:end]):
            part = np.broadcast_to(part, (*before, *merged, *after))
        return part.reshape(*before, -1, *after)

    return x.reshaped(change)


def _leak(k: Bound, gain: Bound, rest: Bound, x: Bound, v: Bound, work: Work) -> Bound:
    """v + k ((rest - v) + gain x), in that form or as (1 - k) v + k rest + k gain x, summed in any order.

    Backends use both: cells of their own, and integrate-and-fire cells whose current brings the leak.
    """
    current = work.product(gain, x)
    # the largest sum: all terms of either form, with the same sign
    inner = bounds.total([_symmetric(rest), _symmetric(v), _symmetric(current)])
    work.meets(inner)
    every = bounds.total([_symmetric(v), bounds.product(_symmetric(k), inner)])
    work.meets(every)
    kept = bounds.total([_ONE, -k])
    out = bounds.total([bounds.product(kept, v), bounds.product(k, bounds.total([rest, current]))])
    return Bound(every.grid, out.low, out.high)


def _symmetric(bound: Bound) -> Bound:
    return Bound(bound.grid, -bound.magnitude, bound.magnitude)


def _after(v: Bound, theta: Bound, reset: Bound) -> Bound:
    """The potential once it has been reset wherever it exceeded the threshold."""
    limit = bounds.on_grid(v.grid, v.low, np.minimum(v.high, theta.high)).high
    kept = Bound(v.grid, v.low, np.where(v.high > theta.low, limit, v.high))
    fired = bounds.where(v.low > theta.high, reset, bounds.hull(kept, reset))
    return bounds.where(v.high > theta.low, fired, v)


def _neuron(node: FlatNode, x: Bound, work: Work) -> Bound:
    """One step: a synapse, if there is one, then the membrane."""
    state, dt = work.state, work.dt
    v = state.get("v", ZERO)
    if node.type in {nir.CubaLIF, nir.CubaLI}:
        rate = work.constant(_ratio(dt, node["tau_syn"]), "dt / tau_syn")
        gain = work.constant(node["w_in"], "w_in")
        x = state["i"] = _leak(rate, gain, ZERO, x, state.get("i", ZERO), work)
    if node.type in {nir.I, nir.IF}:
        with np.errstate(over="ignore", under="ignore"):
            gain = work.constant(dt * np.asarray(node["r"], np.float64), "dt r")
        v = work.sums([v, work.product(gain, x)])
    else:
        name = "tau" if "tau" in node.values else "tau_mem"
        rate = work.constant(_ratio(dt, node[name]), f"dt / {name}")
        rest = work.constant(node["v_leak"], "leak potential")
        v = _leak(rate, work.constant(node["r"], "gain"), rest, x, v, work)
    state["v"] = v
    if "v_threshold" not in node.values:
        return v
    theta, out = work.fire(v, node["v_threshold"])
    state["v"] = _after(v, theta, work.constant(node["v_reset"], "reset potential"))
    return out


def _ratio(dt: float, tau: Any) -> Reals:
    with np.errstate(over="ignore", under="ignore"):
        return dt / np.asarray(tau, np.float64)


def _unknown(node: FlatNode, x: Bound, work: Work) -> Bound:
    """A type without a rule; what comes behind it does not matter, since the graph is not certified."""
    work.refuse(f"is a {node.kind}, for which there is no rule of exact arithmetic")
    return x


RULES: dict[type, Rule] = {
    nir.Output: _same,
    nir.Scale: _scale,
    nir.Threshold: _threshold,
    nir.Conv1d: _convolution,
    nir.Conv2d: _convolution,
    nir.Affine: _dense,
    nir.Linear: _dense,
    nir.SumPool2d: _pool,
    nir.AvgPool2d: _pool,
    nir.Flatten: _flatten,
    **dict.fromkeys((nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF), _neuron),
}
"""Node types that can be certified; any other one is not, and says so."""


class Analysis:
    """Follows bounds through a graph: once through nodes without memory, T times through the others.

    Args:
        graph: what is analysed.
        dtype: ``float32`` or ``float64``.
        inputs: what each Input node is fed.
        time_steps: T.

    Attributes:
        work: what each node does.
        values: what each node gives out, at any step.
    """

    def __init__(self, graph: FlatGraph, dtype: str, inputs: Mapping[str, Bound], time_steps: int) -> None:
        self.graph, self.inputs, self.steps = graph, inputs, time_steps
        self.work = {name: Work(dtype, graph.dt) for name in graph.nodes}
        self.values: dict[str, Bound] = {}

    def run(self) -> None:
        """Fill ``work`` and ``values``."""
        for component in self.graph.components:
            name = component[0]
            kind = self.graph.nodes[name].type
            if self.graph.is_cycle(component):
                members = set(component)
                self._loop([n for n in self.graph.order if n in members])
            elif kind is nir.Input:
                self.values[name] = self.inputs[name]
                self.work[name].verb = "be fed numbers"
                self.work[name].meets(self.inputs[name])
            elif kind in STATEFUL:
                self._steps(name)
            elif kind is nir.Delay:
                self.values[name] = self._sum(name).with_zero()
            else:
                self.values[name] = self._step(name)

    def _sum(self, name: str) -> Bound:
        return self.work[name].sums([self.values[source] for source in self.graph.sources[name]])

    def _step(self, name: str) -> Bound:
        node = self.graph.nodes[name]
        return RULES.get(node.type, _unknown)(node, self._sum(name), self.work[name])

    def _steps(self, name: str) -> None:
        """T steps of a neuron; fewer where another one changes nothing."""
        seen: list[Bound] = []
        for _ in range(self.steps):
            before = dict(self.work[name].state)
            seen = [bounds.hull(*seen, self._step(name))]
            if _same_bounds(before, self.work[name].state):
                break
        self.values[name] = seen[0]

    def _loop(self, names: list[str]) -> None:
        """T steps through a cycle; a Delay gives back what it got so many steps ago, nothing at first.

        Fewer, where nothing has changed for as long as the longest Delay remembers.
        """
        delays = {name: self.graph.nodes[name] for name in names if self.graph.nodes[name].type is nir.Delay}
        longest = max(int(node["steps"].max()) for node in delays.values())
        past: dict[str, list[Bound]] = {name: [] for name in delays}
        seen: dict[str, Bound] = {}
        unchanged = 0
        for _ in range(self.steps):
            before = self._snapshot(names)
            for name in names:
                self.values[name] = _delayed(delays[name], past[name]) if name in delays else self._step(name)
                seen[name] = bounds.hull(seen[name], self.values[name]) if name in seen else self.values[name]
            for name in delays:
                past[name].append(self._sum(name))
            unchanged = unchanged + 1 if _same_bounds(before, self._snapshot(names)) else 0
            if unchanged > longest:
                break
        self.values.update(seen)

    def _snapshot(self, names: Sequence[str]) -> dict[str, Bound]:
        """Values and states of some nodes."""
        found = {name: self.values[name] for name in names if name in self.values}
        for name in names:
            found |= {f"{key} of {name}": bound for key, bound in self.work[name].state.items()}
        return found


def _same_bounds(one: Mapping[str, Bound], other: Mapping[str, Bound]) -> bool:
    return one.keys() == other.keys() and all(bound.same_as(other[name]) for name, bound in one.items())


def _delayed(node: FlatNode, past: Sequence[Bound]) -> Bound:
    """What a Delay gives out, element by element, given its inputs so far."""
    steps = np.asarray(node["steps"])
    out = ZERO
    for count in np.unique(steps):
        out = bounds.where(steps == count, past[-int(count)] if len(past) >= count else ZERO, out)
    return out
