"""Small random graphs of every node type whose constants are mostly dyadic: about half of them can be certified.

Parameters come in every form that broadcasts, weights of both signs and of very different sizes, inputs on several grids; nodes
have memory, feedback, several in-edges and the same one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import nir
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from zoo.nir_graphs.certificate import InputGrid

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
BATCH = 4


class Choices(Protocol):
    """Where random decisions come from."""

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        ...


class Seeded:
    """Decisions of a generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """See :class:`Choices`."""
        return int(self.rng.integers(low, high + 1))


class Drawn:
    """Decisions of Hypothesis, which makes failing graphs smaller."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        """See :class:`Choices`."""
        return int(self.draw(st.integers(low, high)))


@dataclass
class Case:
    """A graph and what it is certified for.

    Attributes:
        graph: to be certified.
        grids: what its inputs are fed.
        dt, steps, dtype: for the certificate.
        forms: of the broadcasting that occurs: () or the axes' lengths, 1 for those that are repeated and n for the others.
        is_ambiguous: whether some parameter has fewer axes than its node, so that the graph has to be refused.
    """

    graph: nir.NIRGraph
    grids: dict[str, InputGrid]
    dt: float
    steps: int
    dtype: str
    forms: set[str] = field(default_factory=set)
    is_ambiguous: bool = False

    def inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        """Numbers on the grids, (T, B, ...): all the highest, all the lowest, some extremes, any."""
        found = {}
        for name, grid in self.grids.items():
            unit = 2.0**grid.exponent
            low, high = int(np.ceil(grid.low / unit)), int(np.floor(grid.high / unit))
            shape = (self.steps, BATCH, *(int(n) for n in self.graph.nodes[name].input_type["input"]))
            whole = rng.integers(low, high + 1, shape)
            ends = [low, high, *(n for n in (-1, 0, 1) if low <= n <= high)]
            whole[:, 0], whole[:, 1] = high, low
            whole[:, 2] = rng.choice(ends, shape[:1] + shape[2:])
            found[name] = whole * unit
        return found


class Builder:
    """Puts a graph together.

    Args:
        choices: every decision is taken from here.
    """

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, Shape] = {}
        self.grids: dict[str, InputGrid] = {}
        self.forms: set[str] = set()
        self.dt = self.pick([1.0, 1.0, 0.5, 2.0, 0.1, 1e-3])
        self.bits = self.pick([1, 3, 6, 10])
        self.spread = self.pick([0, 2, 6, 12])
        self.has_ambiguous, self.is_ambiguous = self.chance(10), False
        self.shift = self.pick([0] * 12 + [-40, -80, -140, 60, 110])

    def pick(self, values: Sequence[Any]) -> Any:
        """One of several."""
        return values[self.choices.integer(0, len(values) - 1)]

    def chance(self, one_in: int) -> bool:
        """Rarely true."""
        return self.choices.integer(1, one_in) == 1

    def integers(self, low: int, high: int, size: int) -> Array:
        """Whole numbers; one decision fixes all, so that there are few."""
        return np.random.default_rng(self.choices.integer(0, 2**16)).integers(low, high + 1, size)

    def numbers(self, shape: Shape, *, positive: bool = False) -> Array:
        """Dyadic numbers n * 2^e, some of them zero."""
        size = int(np.prod(shape))
        most = 2**self.bits
        whole = self.integers(1 if positive else -most, most, size)
        exponents = self.integers(-self.spread, 0, size) + self.pick([-4, -1, 0, 0, 2])
        return (whole * 2.0**exponents).reshape(shape)

    def form(self, shape: Shape) -> Shape:
        """A shape that broadcasts to another one."""
        kind = self.choices.integer(0, 4)
        if kind == 0:
            form: Shape = ()
        elif kind == 1:
            form = (1,) * self.pick([1, len(shape)])
        elif kind == 2:
            form = shape
        elif kind == 3 and self.has_ambiguous and len(shape) > 1 and shape[-1] > 1:
            form, self.is_ambiguous = shape[-1:], True
        else:
            form = tuple(self.pick([1, n]) for n in shape)
        self.forms.add("".join("1" if n == 1 else "n" for n in form) if form else "()")
        return form

    def element(self, shape: Shape, *, positive: bool = False) -> Array:
        """Numbers in a form that broadcasts."""
        return self.numbers(self.form(shape), positive=positive)

    def add(self, node: nir.NIRNode, sources: Sequence[str], shape: Shape) -> str:
        """Add a node."""
        name = f"{type(node).__name__.lower()}{len(self.nodes)}"
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        self.shapes[name] = tuple(shape)
        return name

    def input(self, shape: Shape) -> str:
        """An Input with a grid of its own."""
        name = self.add(nir.Input({"input": np.array(shape)}), [], shape)
        exponent = self.pick([0, 0, -2, -8, 3])
        low, high = self.pick([(0, 1), (0, 1), (-1, 1), (-3.3, 2.7), (0, 15), (2, 5), (-7, -2)])
        self.grids[name] = InputGrid(exponent, low * 2.0**exponent, high * 2.0**exponent)
        return name

    def sources(self, exactly: int = 0) -> list[str]:
        """One to three nodes of one shape, sometimes the same one twice."""
        known = [n for n in self.shapes if not exactly or len(self.shapes[n]) == exactly]
        known = known[-3:] if not self.chance(3) else known
        first = self.pick(known)
        alike = [n for n, shape in self.shapes.items() if shape == self.shapes[first]]
        return [first, *(self.pick(alike) for _ in range(self.pick([0, 0, 0, 1, 2])))]

    def layer(self) -> str:
        """Any node."""
        makers = [
            self.scale, self.threshold, self.dense, self.convolution, self.convolution, self.pool, self.flatten, self.delay,
            self.neuron, self.neuron, self.neuron, self.soft_reset,
        ]  # fmt: skip
        name = None
        while name is None:
            name = self.pick(makers)()
        return name

    def scale(self) -> str:
        """A Scale; now and then with numbers at the ends of the type's range."""
        sources = self.sources()
        shape = self.shapes[sources[0]]
        node = nir.Scale(np.ones(shape))
        node.scale = self.element(shape) * 2.0**self.shift
        return self.add(node, sources, shape)

    def threshold(self) -> str:
        """A Threshold, half a unit off the grid or not, or out of reach on either side."""
        sources = self.sources()
        shape = self.shapes[sources[0]]
        node = nir.Threshold(np.ones(shape))
        node.threshold = self.threshold_numbers(shape)
        return self.add(node, sources, shape)

    def threshold_numbers(self, shape: Shape) -> Array:
        """Thresholds."""
        return self.element(shape) + self.pick([0.0, 0.5, 0.25, 2.0**-12, -1000.0, 1000.0, 2.0**-30, -(2.0**-30)])

    def dense(self) -> str:
        """An Affine or Linear over the last axis."""
        sources = self.sources()
        shape = self.shapes[sources[0]]
        outputs = self.choices.integer(1, 3)
        weight = self.numbers((outputs, shape[-1]))
        if self.chance(2):
            return self.add(nir.Linear(weight), sources, (*shape[:-1], outputs))
        return self.add(nir.Affine(weight, self.numbers((outputs,))), sources, (*shape[:-1], outputs))

    def convolution(self) -> str | None:
        """A Conv1d or Conv2d."""
        axes = self.pick([1, 2])
        if not any(len(shape) == axes + 1 for shape in self.shapes.values()):
            return None
        sources = self.sources(axes + 1)
        shape = self.shapes[sources[0]]
        groups = self.pick([g for g in (1, 2) if shape[0] % g == 0])
        outputs = groups * self.choices.integer(1, 2)
        kernel = tuple(self.choices.integer(1, 2) for _ in range(axes))
        same = self.chance(4)
        stride = 1 if same else self.choices.integer(1, 2)
        padding: Any = "same" if same else self.choices.integer(0, 1)
        dilation = self.choices.integer(1, 2)
        side = 0 if same else 2 * padding
        reach = [dilation * (k - 1) for k in kernel]
        size = tuple(n if same else (n + side - r - 1) // stride + 1 for n, r in zip(shape[1:], reach, strict=True))
        if min(size) < 1:
            return None
        weight, bias = self.numbers((outputs, shape[0] // groups, *kernel)), self.numbers((outputs,))
        made: Any = nir.Conv1d if axes == 1 else nir.Conv2d
        return self.add(made(None, weight, stride, padding, dilation, groups, bias), sources, (outputs, *size))

    def pool(self) -> str | None:
        """A SumPool2d or AvgPool2d."""
        if not any(len(shape) == 3 for shape in self.shapes.values()):
            return None
        sources = self.sources(3)
        channels, *spatial = self.shapes[sources[0]]
        kernel = [self.pick([1, 2, 2, 3]) for _ in range(2)]
        stride, padding = self.choices.integer(1, 2), self.choices.integer(0, 1)
        size = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(spatial, kernel, strict=True))
        if min(size) < 1:
            return None
        made = self.pick([nir.SumPool2d, nir.AvgPool2d])
        return self.add(made(np.array(kernel), np.full(2, stride), np.full(2, padding)), sources, (channels, *size))

    def flatten(self) -> str:
        """A Flatten over any axes."""
        sources = self.sources()
        shape = self.shapes[sources[0]]
        start = self.choices.integer(0, len(shape) - 1)
        end = self.choices.integer(start, len(shape) - 1)
        out = (*shape[:start], int(np.prod(shape[start : end + 1])), *shape[end + 1 :])
        return self.add(nir.Flatten({"input": np.array(shape)}, start, end), sources, out)

    def delay(self) -> str:
        """A Delay, with different steps per element."""
        sources = self.sources()
        return self.delayed(sources, self.shapes[sources[0]], 3)

    def delayed(self, sources: Sequence[str], shape: Shape, most: int) -> str:
        """A Delay of at most so many steps."""
        node = nir.Delay(np.ones(shape))
        form = self.form(shape)
        node.delay = self.dt * self.integers(1, most, int(np.prod(form))).reshape(form)
        return self.add(node, sources, shape)

    def neuron(self) -> str:
        """Any neuron."""
        sources = self.sources()
        shape = self.shapes[sources[0]]
        kind = self.pick([nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF])
        fields = {nir.I: "r", nir.IF: "r v_threshold v_reset", nir.LI: "tau r v_leak"}
        fields |= {nir.LIF: "tau r v_leak v_threshold v_reset", nir.CubaLI: "tau_syn tau_mem r v_leak w_in"}
        fields |= {nir.CubaLIF: "tau_syn tau_mem r v_leak w_in v_threshold v_reset"}
        node = kind(**{name: np.ones(shape) for name in fields[kind].split()})
        for name in fields[kind].split():
            setattr(node, name, self.neuron_numbers(name, shape, leaks=kind not in {nir.I, nir.IF}))
        return self.add(node, sources, shape)

    def neuron_numbers(self, name: str, shape: Shape, *, leaks: bool) -> Array:
        """A parameter."""
        if name.startswith("tau"):
            # of the last, dt / tau is 0.75 only once it is rounded; of 3, it is no number of float32
            ratios = self.pick([[1, 2], [2], [1, 4], [0.5, 2], [1 / 0.75], [1 / 0.75, 1, 2], [3]])
            form = self.form(shape)
            chosen = self.integers(0, len(ratios) - 1, int(np.prod(form)))
            return self.dt * np.array(ratios, float)[chosen].reshape(form)
        if name == "v_threshold":
            return self.threshold_numbers(shape)
        if name == "r":
            return self.element(shape) / (1 if leaks or self.chance(3) else self.dt)
        if name in {"v_leak", "v_reset"} and self.chance(2):
            return np.zeros(self.form(shape))
        return self.element(shape)

    def soft_reset(self) -> str:
        """The canonical soft-reset loop."""
        sources = self.sources()
        shape = self.shapes[sources[0]]
        potential = self.add(nir.Scale(np.ones(shape)), sources, shape)
        spike = self.add(nir.Threshold(np.ones(shape)), [potential], shape)
        reset = self.add(nir.Scale(np.ones(shape)), [spike], shape)
        past = self.add(nir.Delay(np.full(shape, self.dt)), [potential, reset], shape)
        decay = self.add(nir.Scale(np.ones(shape)), [past], shape)
        self.nodes[spike].threshold = self.threshold_numbers(shape)
        self.nodes[reset].scale = -self.element(shape, positive=True)
        self.nodes[decay].scale = np.full(self.form(shape), self.pick([0.5, 0.25, 0.75, 1.0, -0.5]))
        self.edges.append((decay, potential))
        return spike

    def feedback(self) -> None:
        """What a node gives out comes back to it, or to one that it reads, later."""
        source = self.pick([n for n in self.shapes if not isinstance(self.nodes[n], nir.Input)])
        shape = self.shapes[source]
        ancestors = {source}
        for _ in self.nodes:
            ancestors |= {a for a, b in self.edges if b in ancestors}
        targets = [n for n in ancestors if not isinstance(self.nodes[n], nir.Input) and _takes(self, n) == shape]
        if targets:
            self.edges.append((self.delayed([source], shape, 2), self.pick(sorted(targets))))

    def output(self) -> None:
        """An Output of a sum."""
        sources = self.sources()
        shape = self.shapes[sources[0]]
        self.nodes[f"out{len(self.nodes)}"] = nir.Output({"output": np.array(shape)})
        self.edges += [(source, list(self.nodes)[-1]) for source in sources]

    def case(self) -> Case:
        """A graph."""
        shape = self.pick([(3,), (2, 3), (2, 2), (2, 2, 3), (2, 3, 2), (4, 2, 2)])
        for _ in range(self.pick([1, 1, 2, 3])):
            self.input(shape)
        for _ in range(self.choices.integer(1, 6)):
            self.layer()
        if self.chance(3):
            self.feedback()
        for _ in range(self.pick([1, 1, 2])):
            self.output()
        graph = nir.NIRGraph(self.nodes, self.edges, type_check=False)
        dtype = "float64" if self.chance(6) else "float32"
        return Case(graph, self.grids, self.dt, self.choices.integer(1, 4), dtype, self.forms, self.is_ambiguous)


def _takes(builder: Builder, name: str) -> Shape:
    """Shape of a node's input."""
    return builder.shapes[next(a for a, b in builder.edges if b == name)]


@st.composite
def cases(draw: Any) -> Case:
    """Graphs for Hypothesis."""
    return Builder(Drawn(draw)).case()


def seeded(seed: int) -> Case:
    """The same without Hypothesis."""
    return Builder(Seeded(seed)).case()
