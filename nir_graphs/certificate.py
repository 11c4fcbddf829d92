"""The exactness certificate: a proof that a graph gives the same bits everywhere.

If all constants and inputs lie on power-of-two grids and every possible partial sum stays within 2^24 grid units (float32; 2^53
for float64), no operation ever rounds. Then the order of summation, the number of threads, the library and the device do not
matter: potentials and spikes are bit-identical. This module proves it node by node, without running the graph.

The *margin* is the least distance between a threshold and any number that the potential can take, in grid units: at best half
a unit. With a margin, spikes are the same even where a library sums by Winograd's or the Fourier transform, whose errors are
not covered by any summation order; and no potential can tie with a threshold. Without one (a margin of 0), exact arithmetic
still decides every tie alike.

Comparisons take no bits of their own: the sign of a rounded difference is the sign of the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import nir
import numpy as np

from zoo.errors import InvalidInputError
from zoo.nir_graphs import bounds
from zoo.nir_graphs.bounds import FREE, ZERO, Bound
from zoo.nir_graphs.graph import FlatGraph, FlatNode
from zoo.nir_graphs.nodes import STATEFUL
from zoo.nir_graphs.normalise import Graph, normalise

LIMITS = {"float32": 24, "float64": 53}
"""Bits of the mantissa: whole numbers up to 2 to this power are exact."""
_LEAST = {"float32": -126, "float64": -1022}


@dataclass(frozen=True)
class InputGrid:
    """What may be fed into a graph: whole multiples of ``2 ** exponent`` in ``low..high``."""

    exponent: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= self.high):
            raise InvalidInputError(f"an input range must be finite and ascend, got {self.low}..{self.high}")

    @property
    def bound(self) -> Bound:
        """As a bound."""
        return Bound(np.array([self.exponent]), np.array([self.low]), np.array([self.high]))


PIXELS = InputGrid(-8, 0.0, 255 / 256)
"""Pictures of 8 bits, divided by 256."""
FLOAT_PIXELS = InputGrid(-31, 0.0, 1.0)
"""Pictures of 8 bits, divided by 255 and rounded to float32: the least that is not zero has its last bit at 2^-31."""
SPIKES = InputGrid(0, 0.0, 1.0)
"""Binary events."""


@dataclass(frozen=True)
class NodeCertificate:
    """What is known of one node.

    Attributes:
        kind: node type.
        grid: exponent of its output's (finest) grid; None where it is always zero.
        low, high: range of its output.
        bits: that its largest possible partial sum takes, in units of the grid there.
        margin: of its threshold, in grid units of the potential; None where it does not fire, or where no threshold is in
            reach.
        problem: why it is not exact; None where it is.
        potential_grid: exponents of the grid of the potential that its threshold is compared with, per channel or once for all.
    """

    kind: str
    grid: int | None
    low: float
    high: float
    bits: float
    margin: float | None
    problem: str | None
    potential_grid: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Certificate:
    """The result of :func:`certify`.

    Attributes:
        dtype: ``float32`` or ``float64``.
        time_steps: T that it holds for; None for any.
        inputs: what may be fed in, by Input node.
        nodes: by name, in the order of evaluation.
    """

    dtype: str
    time_steps: int | None
    inputs: Mapping[str, InputGrid]
    nodes: Mapping[str, NodeCertificate] = field(repr=False)

    @property
    def certified(self) -> bool:
        """Whether every operation is exact."""
        return not self.why

    @property
    def why(self) -> list[str]:
        """Why it is not certified: one sentence per node in the way."""
        return [f"node {name!r} ({n.kind}) {n.problem}" for name, n in self.nodes.items() if n.problem is not None]

    @property
    def bits(self) -> float:
        """Bits that the largest possible partial sum takes."""
        return max((node.bits for node in self.nodes.values()), default=0.0)

    @property
    def margin(self) -> float | None:
        """Least margin of all neurons, in grid units; None where nothing can fire."""
        return min((node.margin for node in self.nodes.values() if node.margin is not None), default=None)

    @property
    def tightest(self) -> str | None:
        """The node that takes the most bits."""
        return max(self.nodes, key=lambda name: self.nodes[name].bits, default=None)

    def summary(self) -> str:
        """One sentence."""
        limit = LIMITS[self.dtype]
        if not self.certified:
            return f"not certified for {self.dtype}: {len(self.why)} of {len(self.nodes)} nodes may round"
        margin = "nothing fires" if self.margin is None else f"margin {self.margin:g} grid units"
        return f"certified for {self.dtype}: at most {self.bits:.2f} of {limit} bits ({self.tightest}), {margin}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "certified": self.certified,
            "dtype": self.dtype,
            "time_steps": self.time_steps,
            "bits": self.bits,
            "margin": self.margin,
            "why": self.why,
            "inputs": {name: asdict(grid) for name, grid in self.inputs.items()},
            "nodes": {
                name: {key: value for key, value in asdict(node).items() if key != "potential_grid"}
                for name, node in self.nodes.items()
            },
        }


def certify(
    graph: Graph,
    *,
    dtype: str = "float32",
    inputs: InputGrid | Mapping[str, InputGrid] | None = None,
    time_steps: int | None = None,
    dt: float | None = None,
) -> Certificate:
    """Analyse a graph.

    Args:
        graph: a ``FlatGraph``; a NIR graph is normalised first.
        dtype: ``float32`` or ``float64``.
        inputs: what may be fed in; by default what the graph's metadata says.
        time_steps: T; by default what the metadata says. Needed where nodes have memory.
        dt: length of a step, for a NIR graph; see :func:`zoo.nir_graphs.normalise.normalise`.

    Raises:
        InvalidInputError: an unknown dtype; inputs, T or dt that neither arguments nor metadata tell.
        InvalidGraphError: the graph breaks the discrete-time contract.
    """
    if dtype not in LIMITS:
        raise InvalidInputError(f"a certificate is for {' or '.join(LIMITS)}, not for {dtype!r}")
    graph = normalise(graph, dt=dt)
    given = _inputs(inputs if inputs is not None else graph.info.input_grid, graph.inputs)
    has_memory = graph.has_memory
    steps = graph.info.time_steps if time_steps is None else time_steps
    if has_memory and (steps is None or steps < 1):
        raise InvalidInputError("nodes with memory lose bits with every step: say for how many steps, time_steps=...")
    analysis = _Analysis(graph, dtype, given, steps or 1)
    return Certificate(dtype, steps if has_memory else None, given, analysis.run())


def _inputs(
    given: InputGrid | Mapping[str, InputGrid] | list[float] | None, names: tuple[str, ...]
) -> dict[str, InputGrid]:
    if given is None:
        raise InvalidInputError(
            "what may be fed into this graph is unknown, so that nothing can be proved; say inputs=InputGrid(exponent, low, "
            "high). A detector is certified for pictures of 8 bits once it is quantised: zoo quantize"
        )
    if isinstance(given, list):
        given = InputGrid(int(given[0]), *given[1:])
    if isinstance(given, InputGrid):
        return dict.fromkeys(names, given)
    if set(given) != set(names):
        raise InvalidInputError(f"the graph has the inputs {', '.join(names)}, got {', '.join(given)}")
    return dict(given)


@dataclass
class _Work:
    """What one node has been seen to do."""

    dtype: str
    dt: float
    bits: float = 0.0
    margin: float = np.inf
    rounded: str | None = None
    fires: bool = False
    potential: Bound | None = None
    state: dict[str, Any] = field(default_factory=dict)

    def meets(self, magnitude: Any, grid: Any) -> None:
        """Note that numbers up to a magnitude occur on a grid."""
        some = np.asarray(grid) < FREE
        self.bits = max(self.bits, float(bounds.units(np.asarray(magnitude), np.asarray(grid)).max()))
        if some.any() and int(np.asarray(grid)[some].min()) < _LEAST[self.dtype]:
            self.rounded = (
                f"works on a grid of 2^{int(np.asarray(grid).min())}, below the normal numbers of {self.dtype}"
            )

    def sums(self, terms: list[Bound]) -> Bound:
        """The sum of terms in any order."""
        self.meets(*bounds.partial_sums(terms))
        return bounds.total(terms)

    def constant(self, values: Any, what: str) -> Bound:
        """A constant, which must be a number of the type."""
        array = np.asarray(values)
        array = array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
        if self.rounded is None and not np.array_equal(array.astype(self.dtype).astype(np.float64), array):
            self.rounded = f"has a {what} that is no number of {self.dtype}"
        return bounds.of_constant(array)

    def threshold(self, potential: Bound, values: Any) -> tuple[Bound, Bound]:
        """(thresholds, spikes) of a potential."""
        theta = self.constant(values, "threshold")
        self.fires = True
        self.potential = potential if self.potential is None else bounds.hull(self.potential, potential)
        self.margin = bounds.margin(self.potential, values)  # of all steps so far: the grid becomes finer
        return theta, bounds.spikes(potential.high > theta.low)


Rule = Callable[[FlatNode, Bound, _Work], Bound]


def _same(_node: FlatNode, x: Bound, _work: _Work) -> Bound:
    return x


def _scale(node: FlatNode, x: Bound, work: _Work) -> Bound:
    out = bounds.product(work.constant(node["scale"], "scale"), x)
    work.meets(out.magnitude, out.grid)
    return out


def _threshold(node: FlatNode, x: Bound, work: _Work) -> Bound:
    return work.threshold(x, node["threshold"])[1]


def _convolution(node: FlatNode, x: Bound, work: _Work) -> Bound:
    work.constant(node["weight"], "weight")
    weight = np.asarray(node["weight"], np.float64)
    groups = node["groups"]
    weight = weight.reshape(groups, -1, weight.shape[1], int(np.prod(weight.shape[2:])))
    shape = (groups, weight.shape[2])
    grid, low, high = (
        np.broadcast_to(part, groups * weight.shape[2]).reshape(shape) for part in (x.grid, x.low, x.high)
    )
    parts = [bounds.linear_map(weight[g], Bound(grid[g], low[g], high[g])) for g in range(groups)]
    out = Bound(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("grid", "low", "high")))
    return work.sums([out, work.constant(np.reshape(node["bias"], -1), "bias")])


def _dense(node: FlatNode, x: Bound, work: _Work) -> Bound:
    work.constant(node["weight"], "weight")
    weight = np.asarray(node["weight"], np.float64)
    if len(x.grid) != weight.shape[1]:  # features are not the first axis
        x = x.whole
    out = bounds.linear_map(weight[:, :, None], x)
    bias = node.values.get("bias")
    work.meets(out.magnitude, out.grid)
    return out if bias is None else work.sums([out, work.constant(bias, "bias")])


def _pool(node: FlatNode, x: Bound, work: _Work) -> Bound:
    count = int(np.prod(node["kernel_size"]))
    x = x.with_zero()
    out = Bound(x.grid, x.low * count, x.high * count)
    work.meets(out.magnitude, out.grid)
    if node.type is nir.SumPool2d:
        return out
    shift = count.bit_length() - 1
    if count != 1 << shift:
        work.rounded = f"divides by {count}, which is no power of two"
    return Bound(np.minimum(x.grid - shift, FREE), x.low, x.high)


def _flatten(node: FlatNode, x: Bound, work: _Work) -> Bound:
    del work
    if node["start_dim"] or len(x.grid) == 1:
        return x
    repeat = int(np.prod(node.input_shape[1 : node["end_dim"] + 1]))
    return Bound(np.repeat(x.grid, repeat), np.repeat(x.low, repeat), np.repeat(x.high, repeat))


def _leak(tau: Any, gain: Any, leak: Any, x: Bound, v: Bound, work: _Work) -> Bound:
    """v + k ((leak - v) + gain x), in that form or as (1 - k) v + k leak + k gain x."""
    k = work.dt / np.asarray(tau, np.float64)
    kept, rate = bounds.of_constant(1 - k), work.constant(k, "dt / tau")
    rest, r = work.constant(leak, "leak potential"), work.constant(gain, "gain")
    current = bounds.product(r, x)
    work.meets(current.magnitude, current.grid)
    inner, grid = bounds.partial_sums([rest, Bound(v.grid, -v.high, -v.low), current])
    # the largest sum: all terms of either form, with the same sign
    inner = np.maximum(inner, rest.magnitude + v.magnitude + current.magnitude)
    work.meets(inner, grid)
    scaled = np.minimum(np.minimum(grid + rate.grid, v.grid + kept.grid), v.grid)
    work.meets(v.magnitude + rate.magnitude * inner, scaled)
    out = bounds.total([bounds.product(kept, v), bounds.product(rate, bounds.total([rest, current]))])
    return Bound(np.minimum(out.grid, scaled), out.low, out.high)


def _gather(node: FlatNode, x: Bound, v: Bound, work: _Work) -> Bound:
    """v + dt r x."""
    current = bounds.product(work.constant(work.dt * np.asarray(node["r"], np.float64), "dt r"), x)
    work.meets(current.magnitude, current.grid)
    return work.sums([v, current])


def _fire(node: FlatNode, v: Bound, work: _Work) -> Bound:
    """Spikes; the state becomes the potential after the reset."""
    theta, out = work.threshold(v, node["v_threshold"])
    reset = work.constant(node["v_reset"], "reset potential")
    kept = Bound(v.grid, v.low, np.minimum(v.high, theta.high))
    after = bounds.hull(kept, reset)
    can = v.high > theta.low
    work.state["v"] = Bound(
        np.where(can, after.grid, v.grid), np.where(can, after.low, v.low), np.where(can, after.high, v.high)
    )
    return out


def _membrane(node: FlatNode, x: Bound, work: _Work) -> Bound:
    """One step of a neuron with one membrane."""
    v = work.state.get("v", ZERO)
    v = (
        _gather(node, x, v, work)
        if node.type in {nir.IF, nir.I}
        else _leak(node["tau"], node["r"], node["v_leak"], x, v, work)
    )
    if node.type in {nir.LIF, nir.IF}:
        return _fire(node, v, work)
    work.state["v"] = v
    return v


def _current_based(node: FlatNode, x: Bound, work: _Work) -> Bound:
    """One step of a neuron with a synapse in front of its membrane."""
    current = _leak(node["tau_syn"], node["w_in"], 0.0, x, work.state.get("i", ZERO), work)
    work.state["i"] = current
    v = _leak(node["tau_mem"], node["r"], node["v_leak"], current, work.state.get("v", ZERO), work)
    if node.type is nir.CubaLIF:
        return _fire(node, v, work)
    work.state["v"] = v
    return v


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
    **dict.fromkeys((nir.LIF, nir.IF, nir.LI, nir.I), _membrane),
    **dict.fromkeys((nir.CubaLIF, nir.CubaLI), _current_based),
}


class _Analysis:
    """Follows bounds through a graph: once through nodes without memory, T times through the others."""

    def __init__(self, graph: FlatGraph, dtype: str, inputs: Mapping[str, InputGrid], time_steps: int) -> None:
        self.graph, self.dtype, self.inputs, self.steps = graph, dtype, inputs, time_steps
        self.work = {name: _Work(dtype, graph.dt) for name in graph.nodes}
        self.values: dict[str, Bound] = {}

    def run(self) -> dict[str, NodeCertificate]:
        """All nodes, in the order of evaluation."""
        for component in self.graph.components:
            name = component[0]
            kind = self.graph.nodes[name].type
            if self.graph.is_cycle(component):
                self._loop([n for n in self.graph.order if n in set(component)])
            elif kind is nir.Input:
                self.values[name] = self.inputs[name].bound
            elif kind in STATEFUL:
                self._neuron(name)
            elif kind is nir.Delay:
                self.values[name] = self._sum(name).with_zero()
            else:
                self.values[name] = self._step(name)
        return {name: self._result(name) for name in self.graph.order}

    def _sum(self, name: str) -> Bound:
        return self.work[name].sums([self.values[source] for source in self.graph.sources[name]])

    def _step(self, name: str) -> Bound:
        node = self.graph.nodes[name]
        return RULES[node.type](node, self._sum(name), self.work[name])

    def _neuron(self, name: str) -> None:
        """T steps; fewer where another one changes nothing."""
        seen: list[Bound] = []
        before: Any = None
        for _ in range(self.steps):
            seen = [bounds.hull(*seen, self._step(name))]
            state = self.work[name].state
            after = [part.tolist() for bound in state.values() for part in (bound.grid, bound.low, bound.high)]
            if after == before:
                break
            before = after
        self.values[name] = seen[0]

    def _loop(self, names: list[str]) -> None:
        """T steps through a cycle; a Delay gives back what it got so many steps ago, nothing at first."""
        delays = {name: self.graph.nodes[name] for name in names if self.graph.nodes[name].type is nir.Delay}
        past: dict[str, list[Bound]] = {name: [] for name in delays}
        seen: dict[str, Bound] = {}
        for _ in range(self.steps):
            for name in names:
                self.values[name] = self._delayed(name, past[name]) if name in delays else self._step(name)
                seen[name] = bounds.hull(seen[name], self.values[name]) if name in seen else self.values[name]
            for name in delays:
                past[name].append(self._sum(name))
        self.values.update(seen)

    def _delayed(self, name: str, past: list[Bound]) -> Bound:
        counts = np.unique(self.graph.nodes[name]["steps"])
        return bounds.hull(*(past[-int(n)] if len(past) >= n else ZERO for n in counts))

    def _result(self, name: str) -> NodeCertificate:
        work, value, limit = self.work[name], self.values[name].whole, LIMITS[self.dtype]
        problem = work.rounded
        if problem is None and work.bits > limit:
            problem = f"may meet sums of {work.bits:.1f} bits, more than the {limit} of {self.dtype}"
        grid = int(value.grid[0])
        return NodeCertificate(
            kind=self.graph.nodes[name].kind,
            grid=None if grid >= FREE else grid,
            low=float(value.low[0]),
            high=float(value.high[0]),
            bits=work.bits,
            margin=work.margin if work.fires and np.isfinite(work.margin) else None,
            problem=problem,
            potential_grid=() if work.potential is None else tuple(work.potential.grid.tolist()),
        )
