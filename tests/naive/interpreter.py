"""A second, deliberately naive interpreter of NIR graphs.

It was written from DESIGN.md sections 3 and 3b and from NIR's own documentation, and shares no code with ``nir_graphs``: not
its flattening (borders of subgraphs stay here, and are looked through), not its feedback rule (nothing is inserted: a reader in
the same cycle simply asks for the step before), not its broadcasting, its padding or its order of sums. Values are a vector
over the batch per element, computed by the equation of the node, element by element, step by step.

    run(graph, x, dt=..., delayed_edges=[...]) -> Result        # or BadGraph, or BadInput
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

Index = tuple[int, ...]
Vector = Any  # numpy array over the batch
Values = dict[Index, Vector]


class BadGraph(Exception):  # noqa: N818 - the two outcomes of the contract that are not results
    """The graph has no meaning."""


class BadInput(Exception):  # noqa: N818
    """The graph may have a meaning, but not with these arguments."""


NEURONS = ("LIF", "IF", "LI", "I", "CubaLIF", "CubaLI", "Threshold")
FIRING = ("LIF", "IF", "CubaLIF", "Threshold")
OTHERS = (
    "Input",
    "Output",
    "Affine",
    "Linear",
    "Scale",
    "Conv1d",
    "Conv2d",
    "SumPool2d",
    "AvgPool2d",
    "Flatten",
    "Delay",
)
TIMES = {
    "LIF": ["tau"],
    "LI": ["tau"],
    "CubaLIF": ["tau_syn", "tau_mem"],
    "CubaLI": ["tau_syn", "tau_mem"],
    "Delay": ["delay"],
}


@dataclass
class Result:
    """What a run gives: arrays (T, B, ...) by name."""

    outputs: dict[str, Any]
    spikes: dict[str, Any]
    potentials: dict[str, Any]


@dataclass(eq=False)
class Cell:
    """One node of the graph or of a subgraph; the Input and Output of a subgraph are ``borders``."""

    name: str
    kind: str
    node: Any
    border: bool = False
    sources: list[tuple[Cell, tuple[str, str]]] = field(default_factory=list)
    shape_in: Index | None = None
    shape_out: Index | None = None
    get: dict[str, Callable[[Index], float]] = field(default_factory=dict)
    steps: dict[Index, int] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)


def run(
    graph: nir.NIRGraph,
    x: Any,
    *,
    dt: Any = None,
    delayed_edges: Sequence[tuple[str, str]] = (),
    number: Any = np.float64,
) -> Result:
    """Run a graph from rest.

    Args:
        graph: any NIR graph.
        x: (T, B, ...), or one per Input node.
        dt: length of a step; None where the graph's own metadata says it.
        delayed_edges: edges that act one step later.
        number: numpy type to compute in.
    """
    cells = _collect(graph)
    if dt is not None:
        _positive_step(dt)
    cells = _without_dead(cells)
    step = _step_length(graph, cells, dt)
    late = _cut(cells, delayed_edges)
    cycle_of = _cycles(cells, late)
    _shapes(cells)
    for cell in cells:
        _read(cell, step)
    return _Run(cells, late, cycle_of, step, number).run(x)


# reading the graph


def _collect(graph: nir.NIRGraph) -> list[Cell]:
    if not isinstance(graph, nir.NIRGraph):
        raise BadInput("no graph")
    cells: list[Cell] = []
    _gather(graph, "", set(graph.nodes), cells)
    for kind in ("Input", "Output"):
        if not any(cell.kind == kind and not cell.border for cell in cells):
            raise BadGraph(f"no {kind}")
    for cell in cells:
        if cell.kind not in NEURONS + OTHERS:
            raise BadGraph(f"{cell.name}: unknown type {cell.kind}")
    return cells


def _gather(graph: nir.NIRGraph, path: str, taken: set[str], cells: list[Cell]) -> dict[str, tuple[Cell, Cell]]:
    """All cells of a graph, and for each of its names the cells at which edges enter and leave."""
    doors: dict[str, tuple[Cell, Cell]] = {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            kinds = [type(inner).__name__ for inner in node.nodes.values()]
            if kinds.count("Input") != 1 or kinds.count("Output") != 1:
                raise BadGraph(f"{path}{name}: a subgraph needs one Input and one Output")
            inner = _gather(node, f"{path}{name}.", taken, cells)
            ways = {type(n).__name__: inner[key] for key, n in node.nodes.items() if not isinstance(n, nir.NIRGraph)}
            doors[name] = (ways["Input"][0], ways["Output"][1])
            continue
        label = path + name
        if path:
            while label in taken:
                label += "_"
            taken.add(label)
        cell = Cell(label, type(node).__name__, node)
        cell.border = bool(path) and cell.kind in {"Input", "Output"}
        cells.append(cell)
        doors[name] = (cell, cell)
    for edge in graph.edges:
        if isinstance(edge, str) or not isinstance(edge, Sequence) or len(edge) != 2:
            raise BadGraph(f"the edge {edge} is no pair")
        source, target = (end.decode() if isinstance(end, bytes) else end for end in edge)
        if source not in doors or target not in doors:
            raise BadGraph(f"the edge {edge} names a node that is not there")
        if isinstance(graph.nodes[target], nir.Input) or isinstance(graph.nodes[source], nir.Output):
            raise BadGraph(f"the edge {edge} enters an Input or leaves an Output")
        doors[target][0].sources.append((doors[source][1], (path + source, path + target)))
    return doors


def _reachable(starts: list[Cell], forward: Mapping[Cell, list[Cell]]) -> set[Cell]:
    seen: set[Cell] = set()
    todo = list(starts)
    while todo:
        cell = todo.pop()
        if cell not in seen:
            seen.add(cell)
            todo += forward[cell]
    return seen


def _forward(cells: list[Cell]) -> dict[Cell, list[Cell]]:
    forward: dict[Cell, list[Cell]] = {cell: [] for cell in cells}
    for cell in cells:
        for source, _ in cell.sources:
            forward[source].append(cell)
    return forward


def _without_dead(cells: list[Cell]) -> list[Cell]:
    silent = [cell for cell in cells if not cell.sources and (cell.border or cell.kind != "Input")]
    dead = _reachable(silent, _forward(cells))
    if any(cell.kind == "Output" and not cell.border for cell in dead):
        raise BadGraph("an Output depends on a node that nothing enters")
    return [cell for cell in cells if cell not in dead]


def _positive_step(dt: Any) -> float:
    try:
        value = float(dt)
    except (TypeError, ValueError):
        raise BadInput(f"dt {dt!r}") from None
    if not (0 < value < math.inf):
        raise BadInput(f"dt {dt!r}")
    return value


def _step_length(graph: nir.NIRGraph, cells: list[Cell], dt: Any) -> float:
    if dt is not None:
        return _positive_step(dt)
    note = graph.metadata.get("zoo")
    if isinstance(note, str) and '"dt": ' in note:
        return float(note.split('"dt": ')[1].split(",")[0].rstrip("}"))
    for cell in cells:
        for name in TIMES.get(cell.kind, ()):
            _, values = _numbers(cell, name)
            if not all(value > 0 for value in values):
                raise BadGraph(f"{cell.name}: {name} must be positive")
            raise BadInput("times, but no dt")
    return 1.0


# cycles


def _cut(cells: list[Cell], said: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges that the caller says are late, which must exist and lie on a cycle."""
    forward = _within_step(cells, set())
    for pair in said:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise BadInput(f"{pair} is no edge")
        ends = [(source, cell) for cell in cells for source, label in cell.sources if label == tuple(pair)]
        if not ends:
            raise BadInput(f"no edge {pair}")
        if not any(source in _reachable([cell], forward) and cell.kind != "Delay" for source, cell in ends):
            raise BadInput(f"{pair} is on no cycle")
    return {(source, target) for source, target in said}


def _within_step(cells: list[Cell], late: set[tuple[str, str]]) -> dict[Cell, list[Cell]]:
    """Who needs whose value in the same step: nobody through a Delay."""
    forward: dict[Cell, list[Cell]] = {cell: [] for cell in cells}
    for cell in cells:
        if cell.kind != "Delay":
            for source, label in cell.sources:
                if label not in late:
                    forward[source].append(cell)
    return forward


def _cycles(cells: list[Cell], late: set[tuple[str, str]]) -> dict[Cell, frozenset[Cell]]:
    """For each cell in a cycle all those that it shares cycles with, among which there is exactly one neuron."""
    forward = _within_step(cells, late)
    after = {cell: _reachable(forward[cell], forward) for cell in cells}
    cycle_of = {}
    for cell in cells:
        if cell not in after[cell]:
            continue
        members = frozenset(other for other in after[cell] if cell in after[other])
        neurons = [other for other in members if other.kind in NEURONS]
        if len(neurons) != 1:
            raise BadGraph(f"a cycle through {len(neurons)} neurons: {sorted(other.name for other in members)}")
        rest = {other: [n for n in forward[other] if n is not neurons[0]] for other in members}
        for other in members - {neurons[0]}:
            if other in _reachable([n for n in rest[other] if n in members], {**forward, **rest, neurons[0]: []}):
                raise BadGraph(f"{other.name} is in a cycle without a neuron")
        cycle_of[cell] = members
    return cycle_of


# shapes and numbers


def _stated(cell: Cell) -> Index | None:
    types = cell.node.input_type if cell.kind == "Input" else cell.node.output_type
    given = None if types is None else next(iter(types.values()))
    if given is None:
        return None
    shape = tuple(given.tolist() if hasattr(given, "tolist") else given)
    if any(isinstance(n, str) or n != int(n) or n < 1 for n in shape):
        raise BadGraph(f"{cell.name}: shape {shape}")
    return tuple(int(n) for n in shape)


def _shapes(cells: list[Cell]) -> None:
    """Give every cell its shapes: from what it reads, or, where a ring reads nothing from outside, from its own numbers."""
    for cell in cells:
        if cell.kind == "Input" and not cell.border:
            stated = _stated(cell)
            if stated is None:
                raise BadGraph(f"{cell.name}: no shape")
            cell.shape_in = cell.shape_out = stated
    while any(cell.shape_in is None for cell in cells):
        moved = False
        for cell in cells:
            known = [source.shape_out for source, _ in cell.sources if source.shape_out is not None]
            if cell.shape_in is None and known:
                cell.shape_in = known[0]
                cell.shape_out = _shape_after(cell)
                moved = True
        if not moved:
            _start_ring([cell for cell in cells if cell.shape_in is None])
    for cell in cells:
        if any(source.shape_out != cell.shape_in for source, _ in cell.sources):
            raise BadGraph(f"{cell.name}: reads different shapes")
        if cell.kind == "Output" or cell.border:
            stated = _stated(cell)
            if stated is not None and stated != cell.shape_in:
                raise BadGraph(f"{cell.name}: states {stated}, gets {cell.shape_in}")


def _start_ring(cells: list[Cell]) -> None:
    for cell in cells:
        if cell.kind in NEURONS:
            names = [n for n in ("tau", "tau_mem", "r", "threshold") if hasattr(cell.node, n)]
            shape, _ = _numbers(cell, names[0])
            if shape:
                cell.shape_in = cell.shape_out = shape
                return
    raise BadGraph("a ring that does not say its shapes")


def _numbers(cell: Cell, name: str, default: float | None = None) -> tuple[Index, list[float]]:
    """(shape, all numbers) of a field."""
    raw = getattr(cell.node, name, None)
    if raw is None:
        if default is None:
            raise BadGraph(f"{cell.name}: no {name}")
        return (), [default]
    nested = raw.tolist() if hasattr(raw, "tolist") else raw
    shape: list[int] = []
    level = nested
    while isinstance(level, list | tuple):
        shape.append(len(level))
        if not level:
            break
        level = level[0]
    flat = [nested]
    for _ in shape:
        flat = [value for part in flat for value in part]
    numbers = []
    for value in flat:
        if isinstance(value, str | bytes | complex) or value is None:
            raise BadGraph(f"{cell.name}: {name} is no number")
        number = float(value)
        if isinstance(value, int) and number != value:
            raise BadGraph(f"{cell.name}: {name} is no float64")
        if not math.isfinite(number):
            raise BadGraph(f"{cell.name}: {name} is not finite")
        numbers.append(number)
    return tuple(shape), numbers


def _elements(cell: Cell, name: str, default: float | None = None) -> Callable[[Index], float]:
    """A parameter with one number per element: one number, or all axes, each of its length or of length 1."""
    shape, numbers = _numbers(cell, name, default)
    if len(numbers) == 1:
        return lambda _: numbers[0]
    assert cell.shape_in is not None
    if len(shape) != len(cell.shape_in) or any(n not in {1, m} for n, m in zip(shape, cell.shape_in, strict=True)):
        raise BadGraph(f"{cell.name}: {name} of shape {shape} on {cell.shape_in}")

    def at(index: Index) -> float:
        place = 0
        for n, i in zip(shape, index, strict=True):
            place = place * n + (0 if n == 1 else i)
        return numbers[place]

    return at


def _integers(cell: Cell, name: str, count: int, least: int) -> list[int]:
    shape, numbers = _numbers(cell, name)
    if math.prod(shape) not in {1, count}:
        raise BadGraph(f"{cell.name}: {name} has {math.prod(shape)} values")
    if any(value != int(value) or value < least or value >= 2**31 for value in numbers):
        raise BadGraph(f"{cell.name}: {name} {numbers}")
    whole = [int(value) for value in numbers]
    return whole if len(whole) == count else whole * count


def _shape_after(cell: Cell) -> Index:
    """The output shape; geometry is kept in ``sizes``."""
    shape = cell.shape_in
    assert shape is not None
    if cell.kind in {"Linear", "Affine"}:
        dims, _ = _numbers(cell, "weight")
        if len(dims) != 2 or 0 in dims:
            raise BadGraph(f"{cell.name}: weight {dims}")
        if not shape or shape[-1] != dims[1]:
            raise BadGraph(f"{cell.name}: {dims[1]} inputs, gets {shape}")
        return (*shape[:-1], dims[0])
    if cell.kind in {"Conv1d", "Conv2d"}:
        return _convolved(cell, shape)
    if cell.kind in {"SumPool2d", "AvgPool2d"}:
        if len(shape) != 3:
            raise BadGraph(f"{cell.name}: pools {shape}")
        kernel, stride = _integers(cell, "kernel_size", 2, 1), _integers(cell, "stride", 2, 1)
        padding = [(n, n) for n in _integers(cell, "padding", 2, 0)]
        cell.sizes = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": [1, 1]}
        return (shape[0], *_windows(cell, shape[1:]))
    if cell.kind == "Flatten":
        return _flattened(cell, shape)
    return shape


def _flattened(cell: Cell, shape: Index) -> Index:
    (start,), (end,) = _integers(cell, "start_dim", 1, -len(shape)), _integers(cell, "end_dim", 1, -len(shape))
    if start >= len(shape) or end >= len(shape):
        raise BadGraph(f"{cell.name}: axes {start}, {end} of {shape}")
    start, end = (n + len(shape) if n < 0 else n for n in (start, end))
    if start > end:
        raise BadGraph(f"{cell.name}: axes {start} to {end}")
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def _convolved(cell: Cell, shape: Index) -> Index:
    axes = 1 if cell.kind == "Conv1d" else 2
    dims, _ = _numbers(cell, "weight")
    if len(dims) != axes + 2 or 0 in dims or len(shape) != axes + 1:
        raise BadGraph(f"{cell.name}: weight {dims} on {shape}")
    (groups,) = _integers(cell, "groups", 1, 1)
    if dims[0] % groups or shape[0] != dims[1] * groups:
        raise BadGraph(f"{cell.name}: groups")
    stride, dilation = _integers(cell, "stride", axes, 1), _integers(cell, "dilation", axes, 1)
    word = cell.node.padding
    if isinstance(word, str | bytes):
        word = word.decode() if isinstance(word, bytes) else word
        if word == "same":
            spans = [d * (k - 1) for d, k in zip(dilation, dims[2:], strict=True)]
            if any(spans) and any(s != 1 for s in stride):
                raise BadGraph(f"{cell.name}: 'same' with a stride")
            padding = [(span // 2, span - span // 2) for span in spans]
        elif word == "valid":
            padding = [(0, 0)] * axes
        else:
            raise BadGraph(f"{cell.name}: padding {word}")
    else:
        padding = [(n, n) for n in _integers(cell, "padding", axes, 0)]
    cell.sizes = {
        "kernel": list(dims[2:]), "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "dims": dims,
    }  # fmt: skip
    return (dims[0], *_windows(cell, shape[1:]))


def _windows(cell: Cell, spatial: Index) -> list[int]:
    """How many windows fit along each axis: counted, not computed."""
    counts = []
    for n, k, s, (before, after), d in zip(
        spatial,
        cell.sizes["kernel"],
        cell.sizes["stride"],
        cell.sizes["padding"],
        cell.sizes["dilation"],
        strict=True,
    ):
        span, start, count = d * (k - 1), -before, 0
        while start + span < n + after:
            count, start = count + 1, start + s
        if count == 0:
            raise BadGraph(f"{cell.name}: the window does not fit")
        counts.append(count)
    return counts


def _read(cell: Cell, dt: float) -> None:
    """All numbers of a cell."""
    if cell.border:
        return
    parameters: dict[str, tuple[str, ...]] = {
        "Scale": ("scale",), "Threshold": ("threshold",), "I": ("r",), "IF": ("r", "v_threshold"),
        "LI": ("tau", "r", "v_leak"), "LIF": ("tau", "r", "v_leak", "v_threshold"),
        "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak"),
        "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"),
        "Delay": ("delay",),
    }  # fmt: skip
    for name in parameters.get(cell.kind, ()):
        cell.get[name] = _elements(cell, name)
    if cell.kind in {"LIF", "IF", "CubaLIF"}:
        cell.get["v_reset"] = _elements(cell, "v_reset", 0.0)
    if cell.kind in {"CubaLI", "CubaLIF"}:
        cell.get["w_in"] = _elements(cell, "w_in", 1.0)
    for name in TIMES.get(cell.kind, ()):
        if not all(value > 0 for value in _numbers(cell, name)[1]):
            raise BadGraph(f"{cell.name}: {name} must be positive")
    if cell.kind == "Delay":
        _read_delay(cell, dt)
    if cell.kind in {"Linear", "Affine", "Conv1d", "Conv2d"}:
        cell.sizes["weights"] = _numbers(cell, "weight")[1]
    if cell.kind in {"Affine", "Conv1d", "Conv2d"}:
        _read_bias(cell)


def _read_delay(cell: Cell, dt: float) -> None:
    for index in _places(cell.shape_in):
        steps = cell.get["delay"](index) / dt
        if steps > 2**31 or round(steps) < 1 or abs(steps - round(steps)) > 1e-6 * steps:
            raise BadGraph(f"{cell.name}: {steps} steps")
        cell.steps[index] = round(steps)


def _read_bias(cell: Cell) -> None:
    assert cell.shape_out is not None
    shape, numbers = _numbers(cell, "bias")
    dense = cell.kind == "Affine"
    outputs = cell.shape_out[-1] if dense else cell.shape_out[0]
    ones = len(cell.shape_out) - 1 if not dense else int(len(cell.shape_out) == 1)
    if len(numbers) == 1:
        numbers = numbers * outputs
    elif not (shape[:1] == (outputs,) and set(shape[1:]) <= {1} and len(shape) - 1 <= ones):
        raise BadGraph(f"{cell.name}: bias {shape}")
    cell.sizes["bias"] = numbers


def _places(shape: Index | None) -> Iterator[Index]:
    assert shape is not None
    return itertools.product(*(range(n) for n in shape))


# running


class _Run:
    """Values are computed when somebody asks for them, and remembered: ``value(cell, t)``."""

    def __init__(
        self,
        cells: list[Cell],
        late: set[tuple[str, str]],
        cycle_of: dict[Cell, frozenset[Cell]],
        dt: float,
        number: Any,
    ) -> None:
        self.cells, self.late, self.cycle_of, self.dt, self.number = cells, late, cycle_of, dt, number
        self.batch = 0
        self.known: dict[tuple[Cell, int], Values] = {}
        self.sums: dict[tuple[Cell, int], Values] = {}
        self.state: dict[tuple[Cell, int, str], Values] = {}
        self.potential: dict[tuple[Cell, int], Values] = {}
        self.given: dict[Cell, Any] = {}

    def run(self, x: Any) -> Result:
        steps = self._inputs(x)
        for t in range(steps):
            for cell in self.cells:
                if not cell.border:
                    self.value(cell, t)
        outputs, spikes, potentials = {}, {}, {}
        for cell in self.cells:
            if cell.kind == "Output" and not cell.border:
                outputs[cell.name] = self._array(cell, self.known, steps)
            if cell.kind in FIRING:
                spikes[cell.name] = self._array(cell, self.known, steps)
            if cell.kind in NEURONS:
                potentials[cell.name] = self._array(cell, self.potential, steps)
        return Result(outputs, spikes, potentials)

    def _inputs(self, x: Any) -> int:
        doors = {cell.name: cell for cell in self.cells if cell.kind == "Input" and not cell.border}
        given = x if isinstance(x, Mapping) else {next(iter(doors)): x}
        if set(given) != set(doors):
            raise BadInput("other inputs")
        sizes = set()
        for name, values in given.items():
            array = np.asarray(values)
            if array.ndim < 2 or array.shape[2:] != doors[name].shape_out or 0 in array.shape:
                raise BadInput(f"{name}: {array.shape}")
            if not all(math.isfinite(value) for value in array.ravel().tolist()):
                raise BadInput(f"{name}: NaN")
            sizes.add(array.shape[:2])
            self.given[doors[name]] = array.astype(self.number)
        if len(sizes) != 1:
            raise BadInput("inputs of different lengths")
        ((steps, self.batch),) = sizes
        return int(steps)

    def _array(self, cell: Cell, values: Mapping[tuple[Cell, int], Values], steps: int) -> Any:
        out: Any = np.zeros((steps, self.batch, *(cell.shape_out or ())), self.number)
        for t in range(steps):
            for index, vector in values[cell, t].items():
                out[(t, slice(None), *index)] = vector
        return out

    def _zeros(self, shape: Index | None) -> Values:
        return {index: np.zeros(self.batch, self.number) for index in _places(shape)}

    def value(self, cell: Cell, t: int) -> Values:
        """What a cell gives out in step t."""
        if t < 0:
            return self._zeros(cell.shape_out)
        if (cell, t) not in self.known:
            if cell.kind == "Input":
                made = {index: self.given[cell][(t, slice(None), *index)] for index in _places(cell.shape_out)}
            elif cell.kind == "Delay":
                made = {index: self._input(cell, t - cell.steps[index])[index] for index in _places(cell.shape_in)}
            else:
                made = getattr(self, "_" + cell.kind.lower())(cell, self._input(cell, t), t)
            self.known[cell, t] = made
        return self.known[cell, t]

    def _input(self, cell: Cell, t: int) -> Values:
        """The sum of a cell's in-edges in step t."""
        if t < 0:
            return self._zeros(cell.shape_in)
        if (cell, t) not in self.sums:
            self.sums[cell, t] = self._sum(cell, cell, t)
        return self.sums[cell, t]

    def _sum(self, cell: Cell, reader: Cell | None, t: int) -> Values:
        """Left to right, late ones last, as ``reader`` sees them; the borders of subgraphs are looked through."""
        now: list[Values] = []
        before: list[Values] = []
        for source, label in cell.sources:
            if label in self.late:
                before.append(self._seen(source, None, t - 1))
            elif source.kind in NEURONS and reader in self.cycle_of.get(source, ()):
                before.append(self.value(source, t - 1))
            else:
                now.append(self._seen(source, reader, t))
        total = dict((now + before)[0])
        for other in (now + before)[1:]:
            total = {index: total[index] + other[index] for index in total}
        return total

    def _seen(self, source: Cell, reader: Cell | None, t: int) -> Values:
        """What a reader gets from a source: through a border that source's own sources."""
        if not source.border:
            return self.value(source, t)
        return self._zeros(source.shape_out) if t < 0 else self._sum(source, reader, t)

    # one method per node type

    def _output(self, _cell: Cell, x: Values, _t: int) -> Values:
        return x

    def _scale(self, cell: Cell, x: Values, _t: int) -> Values:
        return {index: self.number(cell.get["scale"](index)) * vector for index, vector in x.items()}

    def _threshold(self, cell: Cell, x: Values, t: int) -> Values:
        self.potential[cell, t] = x
        return {index: self._one_if(vector > cell.get["threshold"](index)) for index, vector in x.items()}

    def _one_if(self, condition: Any) -> Vector:
        return np.array([1 if each else 0 for each in condition], self.number)

    def _before(self, cell: Cell, t: int, name: str) -> Values:
        return self.state[cell, t - 1, name] if t > 0 else self._zeros(cell.shape_in)

    def _fire(self, cell: Cell, v: Values, t: int) -> Values:
        spikes, after = {}, {}
        for index, vector in v.items():
            spikes[index] = self._one_if(vector > cell.get["v_threshold"](index))
            reset = self.number(cell.get["v_reset"](index))
            after[index] = np.array(
                [reset if z else u for z, u in zip(spikes[index], vector, strict=True)], self.number
            )
        self.potential[cell, t], self.state[cell, t, "v"] = v, after
        return spikes

    def _integrated(self, cell: Cell, v: Values, t: int) -> Values:
        self.potential[cell, t] = self.state[cell, t, "v"] = v
        return v

    def _leaky(self, cell: Cell, x: Values, t: int, tau: str) -> Values:
        v, made = self._before(cell, t, "v"), {}
        for index, vector in x.items():
            k = self.number(self.dt / cell.get[tau](index))
            drive = (self.number(cell.get["v_leak"](index)) - v[index]) + self.number(cell.get["r"](index)) * vector
            made[index] = v[index] + k * drive
        return made

    def _plain(self, cell: Cell, x: Values, t: int) -> Values:
        v = self._before(cell, t, "v")
        return {index: v[index] + self.number(self.dt * cell.get["r"](index)) * vector for index, vector in x.items()}

    def _current(self, cell: Cell, x: Values, t: int) -> Values:
        before, made = self._before(cell, t, "i"), {}
        for index, vector in x.items():
            k = self.number(self.dt / cell.get["tau_syn"](index))
            made[index] = before[index] + k * (self.number(cell.get["w_in"](index)) * vector - before[index])
        self.state[cell, t, "i"] = made
        return made

    def _lif(self, cell: Cell, x: Values, t: int) -> Values:
        return self._fire(cell, self._leaky(cell, x, t, "tau"), t)

    def _li(self, cell: Cell, x: Values, t: int) -> Values:
        return self._integrated(cell, self._leaky(cell, x, t, "tau"), t)

    def _if(self, cell: Cell, x: Values, t: int) -> Values:
        return self._fire(cell, self._plain(cell, x, t), t)

    def _i(self, cell: Cell, x: Values, t: int) -> Values:
        return self._integrated(cell, self._plain(cell, x, t), t)

    def _cubalif(self, cell: Cell, x: Values, t: int) -> Values:
        return self._fire(cell, self._leaky(cell, self._current(cell, x, t), t, "tau_mem"), t)

    def _cubali(self, cell: Cell, x: Values, t: int) -> Values:
        return self._integrated(cell, self._leaky(cell, self._current(cell, x, t), t, "tau_mem"), t)

    def _linear(self, cell: Cell, x: Values, _t: int) -> Values:
        assert cell.shape_in is not None
        columns, weights = cell.shape_in[-1], cell.sizes["weights"]
        made = {}
        for *rest, row in _places(cell.shape_out):
            total = np.zeros(self.batch, self.number)
            for column in reversed(range(columns)):
                total = total + self.number(weights[row * columns + column]) * x[*rest, column]
            made[*rest, row] = total
        return made

    def _affine(self, cell: Cell, x: Values, t: int) -> Values:
        return {
            index: vector + self.number(cell.sizes["bias"][index[-1]])
            for index, vector in self._linear(cell, x, t).items()
        }

    def _conv1d(self, cell: Cell, x: Values, _t: int) -> Values:
        outputs, inputs, *kernel = cell.sizes["dims"]
        weights, made = cell.sizes["weights"], {}
        per_group = outputs // cell.sizes["groups"]
        for channel, *place in _places(cell.shape_out):
            total = np.full(self.batch, cell.sizes["bias"][channel], self.number)
            for number, (which, *tap) in enumerate(_places((inputs, *kernel))):
                source = channel // per_group * inputs + which
                at = (source, *self._tapped(cell, place, tap))
                if at in x:  # outside there are zeros
                    total = total + self.number(weights[channel * inputs * math.prod(kernel) + number]) * x[at]
            made[channel, *place] = total
        return made

    _conv2d = _conv1d

    def _tapped(self, cell: Cell, place: list[int], tap: list[int]) -> list[int]:
        sizes = cell.sizes
        return [
            p * s + k * d - before
            for p, s, k, d, (before, _) in zip(
                place, sizes["stride"], tap, sizes["dilation"], sizes["padding"], strict=True
            )
        ]

    def _sumpool2d(self, cell: Cell, x: Values, _t: int) -> Values:
        made = {}
        for channel, *place in _places(cell.shape_out):
            total = np.zeros(self.batch, self.number)
            for tap in _places(tuple(cell.sizes["kernel"])):
                at = (channel, *self._tapped(cell, place, list(tap)))
                if at in x:
                    total = total + x[at]
            made[channel, *place] = total
        return made

    def _avgpool2d(self, cell: Cell, x: Values, t: int) -> Values:
        count = self.number(math.prod(cell.sizes["kernel"]))
        return {index: vector / count for index, vector in self._sumpool2d(cell, x, t).items()}

    def _flatten(self, cell: Cell, x: Values, _t: int) -> Values:
        return dict(zip(_places(cell.shape_out), (x[index] for index in _places(cell.shape_in)), strict=True))
