"""A second reading of the discrete-time contract, which shares no code with ``zoo.nir_graphs``.

It evaluates a graph in exact rational arithmetic, or in a float type with every sum in a random order and every equation in one
of the forms that simulators use. It is slow and works on numpy arrays whose elements are fractions or floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def fractions(values: Any) -> Array:
    """An array of floats as exact fractions."""
    array = np.asarray(values, np.float64)
    out = np.empty(array.shape, object)
    out.ravel()[:] = [Fraction(value) for value in array.ravel().tolist()] if array.ndim else Fraction(float(array))
    return out


NO_GRID = 2**4000
"""Units of a number that lies on no power-of-two grid."""


def significant(value: Fraction) -> int:
    """A fraction in units of its own last bit: what any grid that it lies on makes at least of it."""
    top, bottom = abs(value.numerator), value.denominator
    if bottom & (bottom - 1):
        return NO_GRID
    return top // (top & -top) if top else 0


@dataclass
class Evaluation:
    """What a run gives: by node, one array (B, ...) per step.

    Attributes:
        values: what a node gives out.
        potentials: what its threshold is compared with; of integrators, what they give out.
        thresholds: one per element.
        largest: the largest number met, each in units of its own last bit; of exact runs only.
    """

    values: dict[str, list[Array]] = field(default_factory=dict)
    potentials: dict[str, list[Array]] = field(default_factory=dict)
    thresholds: dict[str, Array] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)


class Evaluator:
    """Runs a graph.

    Args:
        graph: flat, with a Delay in every cycle.
        dt: length of a step.
        dtype: ``object`` for fractions, else a float type, to which constants are rounded.
        rng: of the orders of summation and the forms of the equations.
    """

    def __init__(self, graph: nir.NIRGraph, dt: float, dtype: Any, rng: np.random.Generator) -> None:
        self.nodes, self.dt, self.rng = graph.nodes, dt, rng
        self.dtype = np.dtype(dtype)
        self.sources = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
        self.order = self._ordered()
        self.memory: dict[str, dict[str, Any]] = {name: {} for name in graph.nodes}
        self.found = Evaluation()
        self.current = ""

    def run(self, inputs: Mapping[str, Array]) -> Evaluation:
        """Inputs are (T, B, ...) floats on their grids, by Input node."""
        for t in range(len(next(iter(inputs.values())))):
            values = {name: self.number(sequence[t]) for name, sequence in inputs.items()}
            for name in self.order:
                self.current = name
                self._node(name, values)
            for name in self.order:
                if isinstance(self.nodes[name], nir.Delay):
                    self.current = name
                    terms = [values[source] for source in self.sources[name]]
                    self.memory[name].setdefault("past", []).append(self.summed(terms))
        return self.found

    def _ordered(self) -> list[str]:
        """Each node after those that it reads in the same step."""
        order: list[str] = []
        waiting = dict(self.sources)
        while waiting:
            ready = [n for n, s in waiting.items() if isinstance(self.nodes[n], nir.Delay) or set(s) <= set(order)]
            order += ready
            waiting = {n: s for n, s in waiting.items() if n not in ready}
        return order

    def _node(self, name: str, values: dict[str, Array]) -> None:
        node = self.nodes[name]
        if isinstance(node, nir.Input):
            y = self.met(values[name])
        elif isinstance(node, nir.Delay):
            y = self._delayed(node, len(next(iter(values.values()))))
        else:
            y = OPERATIONS[type(node)](self, node, self.summed([values[source] for source in self.sources[name]]))
        values[name] = y
        self.found.values.setdefault(name, []).append(y)

    def number(self, values: Any) -> Array:
        """Constants and inputs in the type of the run."""
        return fractions(values) if self.dtype == object else np.asarray(values, np.float64).astype(self.dtype)

    def met(self, value: Array) -> Array:
        """Note what has been computed."""
        if self.dtype == object:
            here = max(significant(number) for number in value.ravel().tolist())
            self.found.largest[self.current] = max(self.found.largest.get(self.current, 0), here)
        return value

    def summed(self, terms: list[Array]) -> Array:
        """Two random partial sums are added until one is left."""
        terms = list(terms)
        if len(terms) == 1:
            return self.met(terms[0])
        while len(terms) > 1:
            first, second = (terms.pop(int(self.rng.integers(len(terms)))) for _ in range(2))
            terms.append(self.met(first + second))
        return terms[0]

    def chance(self) -> bool:
        """One of two forms."""
        return bool(self.rng.random() < 0.5)

    def parameter(self, node: Any, field_name: str, x: Array) -> Array:
        """One number per element of (..., \\*shape): given as one number, or with axes of length 1 that are repeated."""
        return self.broadcast(np.asarray(getattr(node, field_name), np.float64), x)

    def broadcast(self, array: Array, x: Array) -> Array:
        """The same of an array."""
        shape = x.shape[1:]
        spread = np.full(shape, array.ravel()[0]) if array.size == 1 else array * np.ones(shape)
        assert spread.shape == shape
        return self.number(spread)

    def zeros(self, x: Array) -> Array:
        """Zeros like x."""
        return self.number(np.zeros(x.shape))

    def _delayed(self, node: Any, batch: int) -> Array:
        """Element by element; the graphs of these tests say the shape of a Delay in its input_type."""
        past = self.memory[self.current].get("past", [])
        shape = tuple(int(n) for n in node.input_type["input"])
        y = self.number(np.zeros((batch, *shape)))
        steps = np.asarray(node.delay, np.float64) / self.dt
        steps = np.full(shape, float(steps.ravel()[0])) if steps.size == 1 else steps * np.ones(shape)
        for place in np.ndindex(shape):
            count = round(float(steps[place]))
            here: Any = (slice(None), *place)
            if len(past) >= count:
                y[here] = past[-count][here]
        return y


def same(_run: Evaluator, _node: Any, x: Array) -> Array:
    return x


def scale(run: Evaluator, node: Any, x: Array) -> Array:
    return run.met(run.parameter(node, "scale", x) * x)


def threshold(run: Evaluator, node: Any, x: Array) -> Array:
    run.found.potentials.setdefault(run.current, []).append(x)
    run.found.thresholds[run.current] = run.parameter(node, "threshold", x)
    return run.number(x > run.found.thresholds[run.current])


def dense(run: Evaluator, node: Any, x: Array) -> Array:
    weight = run.number(node.weight)
    columns = []
    for row, weights in enumerate(weight):
        terms = [run.met(weights[i] * x[..., i]) for i in range(len(weights))]
        if isinstance(node, nir.Affine):
            terms.append(run.number(np.full(terms[0].shape, np.asarray(node.bias).ravel()[row])))
        columns.append(run.summed(terms))
    return np.stack(columns, -1)


def convolution(run: Evaluator, node: Any, x: Array) -> Array:
    weight, axes = np.asarray(node.weight), np.asarray(node.weight).ndim - 2
    stride, dilation = (np.broadcast_to(getattr(node, n), axes).tolist() for n in ("stride", "dilation"))
    kernel = weight.shape[2:]
    if isinstance(node.padding, str):
        assert node.padding == "same"
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        sides = [(r // 2, r - r // 2) for r in reach]
    else:
        sides = [(int(p), int(p)) for p in np.broadcast_to(node.padding, axes)]
    padded = _padded(run, x, sides)
    size = [
        (n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(padded.shape[2:], dilation, kernel, stride, strict=True)
    ]
    per_group = weight.shape[0] // node.groups
    out = []
    for o in range(weight.shape[0]):
        first = (o // per_group) * weight.shape[1]
        terms = [run.number(np.full((x.shape[0], *size), np.asarray(node.bias).ravel()[o]))]
        for i, *tap in product(*map(range, weight.shape[1:])):
            window = tuple(
                slice(d * k, d * k + s * (n - 1) + 1, s) for d, k, s, n in zip(dilation, tap, stride, size, strict=True)
            )
            terms.append(run.met(run.number(weight[o, i, *tap]) * padded[:, first + i, *window]))
        out.append(run.summed(terms))
    return np.stack(out, 1)


def _padded(run: Evaluator, x: Array, sides: list[tuple[int, int]]) -> Array:
    out = run.number(np.zeros((*x.shape[:2], *(n + sum(s) for n, s in zip(x.shape[2:], sides, strict=True)))))
    out[:, :, *(slice(s[0], s[0] + n) for n, s in zip(x.shape[2:], sides, strict=True))] = x
    return out


def pool(run: Evaluator, node: Any, x: Array) -> Array:
    kernel, stride, padding = (
        np.broadcast_to(getattr(node, n), 2).tolist() for n in ("kernel_size", "stride", "padding")
    )
    padded = _padded(run, x, [(p, p) for p in padding])
    size = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], kernel, stride, strict=True)]
    terms = [
        padded[:, :, *(slice(k, k + s * (n - 1) + 1, s) for k, s, n in zip(tap, stride, size, strict=True))]
        for tap in product(*map(range, kernel))
    ]
    if isinstance(node, nir.SumPool2d):
        return run.summed(terms)
    count = run.number(np.asarray(float(len(terms))))
    if run.chance():
        return run.summed([run.met(term / count) for term in terms])
    return run.met(run.summed(terms) / count)


def flatten(_run: Evaluator, node: Any, x: Array) -> Array:
    rank = x.ndim - 1
    start, end = node.start_dim % rank + 1, node.end_dim % rank + 1
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def _leak(run: Evaluator, k: Array, leak: Array, gain: Array, x: Array, v: Array) -> Array:
    """v + k ((leak - v) + gain x), in one of four forms."""
    one = run.number(np.ones(()))
    current = run.met(gain * x)
    form = int(run.rng.integers(4))
    if form == 0:
        return run.summed([v, run.met(k * run.summed([run.met(leak - v), current]))])
    if form == 1:
        return run.summed([v, run.met(k * run.summed([leak + run.zeros(x), -v, current]))])
    kept = [run.met((one - k) * v)] if form == 2 else [v, run.met(-k * v)]
    return run.summed([*kept, run.met(k * leak + run.zeros(x)), run.met(k * current)])


def _constant_ratio(run: Evaluator, node: Any, name: str, x: Array) -> Array:
    """dt / tau: the contract computes it in float64."""
    return run.broadcast(np.float64(run.dt) / np.asarray(getattr(node, name), np.float64), x)


def neuron(run: Evaluator, node: Any, x: Array) -> Array:
    memory = run.memory[run.current]
    v = memory.get("v", run.zeros(x))
    zero = run.zeros(x)[0]
    if isinstance(node, nir.CubaLIF | nir.CubaLI):
        k = _constant_ratio(run, node, "tau_syn", x)
        current = memory.get("i", run.zeros(x))
        x = memory["i"] = _leak(run, k, zero, run.parameter(node, "w_in", x), x, current)
    if isinstance(node, nir.I | nir.IF):
        gain = run.broadcast(np.float64(run.dt) * np.asarray(node.r, np.float64), x)
        v = run.summed([v, run.met(gain * x)])
    else:
        k = _constant_ratio(run, node, "tau" if hasattr(node, "tau") else "tau_mem", x)
        v = _leak(run, k, run.parameter(node, "v_leak", x), run.parameter(node, "r", x), x, v)
    run.found.potentials.setdefault(run.current, []).append(v)
    memory["v"] = v
    if not hasattr(node, "v_threshold"):
        return v
    run.found.thresholds[run.current] = run.parameter(node, "v_threshold", x)
    fires = v > run.found.thresholds[run.current]
    memory["v"] = np.where(fires, run.parameter(node, "v_reset", x) + run.zeros(x), v)
    return run.number(fires)


OPERATIONS: dict[type, Callable[[Evaluator, Any, Array], Array]] = {
    nir.Input: same,
    nir.Output: same,
    nir.Scale: scale,
    nir.Threshold: threshold,
    nir.Affine: dense,
    nir.Linear: dense,
    nir.Conv1d: convolution,
    nir.Conv2d: convolution,
    nir.SumPool2d: pool,
    nir.AvgPool2d: pool,
    nir.Flatten: flatten,
    **dict.fromkeys((nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF), neuron),
}
