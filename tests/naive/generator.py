"""Random small NIR graphs of every kind, with inputs: what others might write, on dyadic numbers so that sums are exact.

Weights are multiples of 1/4, leaks powers of two, so float64 computes without rounding and thresholds are often hit exactly. A
graph is grown node by node; ``Case.features`` says what is in it, so that the tests can ask for coverage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import torch

Shape = tuple[int, ...]
STEPS, BATCH = 16, 16
NEURONS = ("LIF", "IF", "CubaLIF", "Threshold", "LI", "I", "CubaLI")
ANALOG = ("LI", "I", "CubaLI")
SHAPES: tuple[Shape, ...] = ((3,), (4,), (1,), (2, 4), (3, 3), (2, 4, 4), (1, 5, 3), (2, 3, 3), (3, 2, 3))
MOST = 48
"""Elements of a node."""
WORDS = (
    "s",
    "n",
    "w",
    "x",
    "block",
    "block.s",
    "block.n",
    "s.n",
    "s.w",
    "a",
    "a.s",
    "s.input",
    "s.output",
    "7",
    "n.delay",
)


@dataclass
class Case:
    """A graph and how to run it.

    Attributes:
        graph: NIR graph.
        x: (T, B, ...) per Input node.
        dt: to pass along; None where the metadata says it, or nothing needs it.
        delayed_edges: to pass along.
        features: what the graph contains.
        expected: ``runs``, or the kind of refusal: ``graph`` or ``input``.
    """

    graph: nir.NIRGraph
    x: dict[str, Any]
    dt: Any
    delayed_edges: list[tuple[str, str]] = field(default_factory=list)
    features: set[str] = field(default_factory=set)
    expected: str = "runs"


@dataclass
class Kit:
    """What all levels of a graph share."""

    rng: np.random.Generator
    dt: float
    features: set[str] = field(default_factory=set)
    delayed: list[tuple[str, str]] = field(default_factory=list)
    odd_types: bool = False

    def chance(self, probability: float) -> bool:
        """A coin."""
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return options[int(self.rng.integers(len(options)))]

    def quarters(self, low: float, high: float, shape: Shape = ()) -> Any:
        """Multiples of 1/4."""
        return self.rng.integers(round(low * 4), round(high * 4) + 1, shape) / 4

    # parameters

    def elements(self, values: Sequence[float], shape: Shape, *, exact: bool = True) -> Any:
        """A parameter with one number per element, in any form that broadcasts."""
        forms = [shape, shape, (), (1,), (1,) * len(shape)]
        if len(shape) > 1:
            forms += [(shape[0], *[1] * (len(shape) - 1)), (*[1] * (len(shape) - 1), shape[-1])]
        form = self.pick(forms)
        if form != shape:
            self.features.add("broadcast")
        if len(shape) > 1 and math.prod(form) not in {1, math.prod(shape)}:
            self.features.add("broadcast along axes")
        return self.dressed(self.rng.choice(np.array(values, float), form), exact=exact)

    def dressed(self, array: Any, *, exact: bool = True) -> Any:
        """The same numbers in another type, or layout, of an array."""
        array = np.asarray(array, np.float64)
        if not self.odd_types or self.chance(0.5):
            return array
        forms: list[Callable[[Any], Any]] = [
            lambda a: a.astype(">f8"),
            lambda a: torch.tensor(a, requires_grad=True),
            lambda a: a.astype(np.longdouble),
            np.asfortranarray,
            lambda a: np.broadcast_to(a.reshape(-1)[0], a.shape) if (a == a.reshape(-1)[0]).all() else a,
        ]
        if exact:  # small dyadic numbers, which every type holds
            forms += [
                lambda a: a.astype(np.float32),
                lambda a: a.astype(np.float16),
                lambda a: torch.tensor(a, dtype=torch.bfloat16),
                lambda a: a.astype(">f4"),
                lambda a: a.astype(np.int16) if (a == np.rint(a)).all() else a,
                lambda a: a.astype(np.uint8) if (a == np.abs(np.rint(a))).all() else a,
            ]
        self.features.add("number types")
        return self.pick(forms)(array)

    def weights(self, *shape: int, quiet: bool = False) -> Any:
        """Weights in quarters; ``quiet`` ones neither amplify nor add bits: one 1 or -1 per output."""
        if quiet:
            flat = np.zeros((shape[0], math.prod(shape[1:])))
            places = self.rng.integers(flat.shape[1], size=shape[0])
            flat[np.arange(shape[0]), places] = self.rng.choice([-1.0, 1.0], shape[0])
            return self.dressed(flat.reshape(shape))
        reach = 1.0 if math.prod(shape[1:]) < 6 else 0.75
        values = self.quarters(-reach, reach + 0.25, shape) * (self.rng.random(shape) < 0.8)
        return self.dressed(values)

    def neuron(self, kind: str, shape: Shape) -> nir.NIRNode:
        """A neuron of a kind; its parameters may have different shapes, so they are set one by one."""
        one = np.ones(())
        per_step = 1 / self.dt
        makers: dict[str, Callable[[], Any]] = {
            "LIF": lambda: nir.LIF(one, one, one, one),
            "IF": lambda: nir.IF(one, one),
            "LI": lambda: nir.LI(one, one, one),
            "I": lambda: nir.I(one),
            "CubaLIF": lambda: nir.CubaLIF(one, one, one, one, one),
            "CubaLI": lambda: nir.CubaLI(one, one, one, one),
            "Threshold": lambda: nir.Threshold(one),
        }
        node = makers[kind]()
        taus = [self.dt, 2 * self.dt, 2 * self.dt, 4 * self.dt]
        binary = float(np.log2(self.dt)).is_integer()
        gains = [0.5 * per_step, per_step] if kind in {"IF", "I"} else [0.5, 1.0, 1.0, 2.0, -1.0]
        choices: dict[str, tuple[list[float], bool]] = {
            "tau": (taus, binary), "tau_mem": (taus, binary), "tau_syn": (taus[:3], binary), "r": (gains, binary),
            "v_leak": ([0.0, 0.0, 0.25, -0.25], True), "v_threshold": ([0.25, 0.5, 1.0, 1.5], True),
            "v_reset": ([0.0, 0.0, -0.25, 0.25], True), "w_in": ([0.5, 1.0, 1.5], True),
            "threshold": ([0.25, 0.5, 1.0, 1.5], True),
        }  # fmt: skip
        for name, (values, exact) in choices.items():
            if hasattr(node, name):
                setattr(node, name, self.elements(values, shape, exact=exact))
        if hasattr(node, "v_reset") and self.chance(0.15):
            node.v_reset = None
        self.features.add(kind)
        return node


@dataclass
class Level:
    """A graph, or a subgraph, on its way."""

    kit: Kit
    path: str = ""
    depth: int = 0
    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[tuple[Any, Any]] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def name(self, kind: str) -> str:
        """A name that is not in use on this level, and may collide with one of another level."""
        word = str(self.kit.pick(WORDS)) if self.kit.chance(0.5) else kind.lower()
        if word in self.nodes:
            word = f"{kind}_{len(self.nodes)}"
        return word

    def add(self, node: nir.NIRNode, sources: Sequence[str], shape: Shape, name: str | None = None) -> str:
        """Add a node that reads some others."""
        name = name or self.name(type(node).__name__)
        self.nodes[name], self.shapes[name] = node, tuple(int(n) for n in shape)
        self.edges += [(source, name) for source in sources]
        self.kit.features.add(type(node).__name__)
        return name

    def readable(self, shape: Shape | None = None) -> list[str]:
        """Nodes that others may read."""
        return [n for n, s in self.shapes.items() if not isinstance(self.nodes[n], nir.Output) and shape in {None, s}]

    def sources(self, most: int = 3) -> list[str]:
        """Some nodes of one shape; one may come twice."""
        kit = self.kit
        names = self.readable()
        late = names[-4:] if kit.chance(0.7) else names
        first = str(kit.pick(late))
        same = [name for name in self.readable(self.shapes[first]) if name != first]
        count = int(kit.rng.integers(0, most)) if same else 0
        chosen = [first, *[str(n) for n in kit.rng.permutation(same)[:count]]]
        if kit.chance(0.08):
            chosen.append(first)
            kit.features.add("duplicate edges")
        return [chosen[i] for i in kit.rng.permutation(len(chosen))]

    def grow(self) -> None:
        """Add something."""
        sources = self.sources()
        shape = self.shapes[sources[0]]
        options: list[Callable[[list[str], Shape], Any]] = [self._neuron] * 4 + [self._dense] * 2
        options += [self._scale, self._delay, self._feedback, self._feedback, self._bank]
        if self.depth < 3:
            options += [self._subgraph] * (2 if self.depth else 3)
        if len(shape) > 1:
            options += [self._flatten, self._conv, self._conv, self._conv]
        if len(shape) == 3:
            options += [self._pool, self._pool]
        self.kit.pick(options)(sources, shape)

    # one method per kind of node

    def _neuron(self, sources: list[str], shape: Shape, kinds: Sequence[str] = NEURONS) -> str:
        return self.add(self.kit.neuron(str(self.kit.pick(kinds)), shape), sources, shape)

    def _bank(self, sources: list[str], shape: Shape) -> None:
        for level in range(int(self.kit.rng.integers(2, 5))):
            self.add(nir.Threshold(np.full(shape, level * 0.5 + 0.25)), sources, shape)

    def _scale(self, sources: list[str], shape: Shape) -> str:
        return self.add(nir.Scale(self.kit.elements([-1.0, 0.5, 1.0, 2.0], shape)), sources, shape)

    def _delay(self, sources: list[str], shape: Shape) -> str:
        steps = [self.kit.dt * n for n in (1, 2, 5)]
        delay = self.kit.elements(steps, shape, exact=float(np.log2(self.kit.dt)).is_integer())
        if math.prod(delay.shape) > 1:
            self.kit.features.add("delays per element")
        return self.add(nir.Delay(delay), sources, shape)

    def _dense(self, sources: list[str], shape: Shape, *, outputs: int | None = None, quiet: bool = False) -> str:
        kit = self.kit
        outputs = outputs or int(kit.rng.integers(1, 6))
        weight = kit.weights(outputs, shape[-1], quiet=quiet)
        if kit.chance(0.5):
            node: nir.NIRNode = nir.Linear(weight)
        else:
            node = nir.Affine(
                weight, kit.dressed(kit.quarters(-0.25, 0.5, kit.pick([(outputs,), (outputs,), (1,), ()])))
            )
        return self.add(node, sources, (*shape[:-1], outputs))

    def _flatten(self, sources: list[str], shape: Shape) -> str:
        kit = self.kit
        start = int(kit.rng.integers(len(shape)))
        end = int(kit.rng.integers(start, len(shape)))
        after = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
        start, end = (n - len(shape) if kit.chance(0.3) else n for n in (start, end))
        node = nir.Flatten({"input": kit.pick([None, np.array(shape)])}, start, end)
        return self.add(node, sources, after)

    def _pool(self, sources: list[str], shape: Shape) -> str:
        kit = self.kit
        kind = kit.pick([nir.SumPool2d, nir.AvgPool2d])
        kernel = kit.pick([(2, 2), (1, 2), (2, 1), (4, 2), (1, 1)] + ([(3, 3)] if kind is nir.SumPool2d else []))
        stride, padding = kit.pick([(1, 1), (2, 2), (2, 1), (3, 2)]), kit.pick([(0, 0), (1, 1), (0, 1), (2, 2)])
        after = self._fitted(shape[1:], kernel, stride, padding, (1, 1))
        if after is None or shape[0] * math.prod(after) > MOST:
            return sources[0]
        numbers = [np.array(n) for n in (kernel, stride, padding)]
        numbers = [
            n.reshape(-1)[:1].reshape(()) if len(set(n.tolist())) == 1 and kit.chance(0.5) else n for n in numbers
        ]
        return self.add(kind(*numbers), sources, (shape[0], *after))

    def _fitted(self, size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape | None:
        after = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
        ]
        return tuple(after) if min(after) > 0 else None

    def _conv(self, sources: list[str], shape: Shape, *, alike: bool = False, quiet: bool = False) -> str:
        """A convolution; ``alike`` keeps the shape."""
        kit, axes = self.kit, len(shape) - 1
        options: list[dict[str, Any]] = [
            {"k": (3,) * axes, "p": (1,) * axes}, {"k": (1,) * axes}, {"k": (3, 1)[:axes], "p": (1, 0)[:axes]},
            {"k": (2,) * axes, "p": "same"}, {"k": (3,) * axes, "p": "same", "d": (2, 1)[:axes]},
            {"k": (1,) * axes, "p": "same"},
        ]  # fmt: skip
        if not alike:
            options += [
                {"k": (3,) * axes, "s": (2,) * axes, "p": (1,) * axes}, {"k": (2,) * axes, "p": "valid", "s": (1, 2)[:axes]},
                {"k": (2, 3)[:axes], "p": (0, 2)[:axes]}, {"k": (2,) * axes, "d": (2,) * axes, "p": (1,) * axes},
            ]  # fmt: skip
        how: dict[str, Any] = {"s": (1,) * axes, "p": (0,) * axes, "d": (1,) * axes} | kit.pick(options)
        groups = shape[0] if shape[0] > 1 and kit.chance(0.3) else 1
        outputs = shape[0] if alike else groups * int(kit.rng.integers(1, 3))
        words = {"same": None, "valid": (0,) * axes}
        numbers: Any = words[how["p"]] if isinstance(how["p"], str) else how["p"]
        after = shape[1:] if numbers is None else self._fitted(shape[1:], how["k"], how["s"], numbers, how["d"])
        if after is None or outputs * math.prod(after) > MOST:
            return sources[0]
        bias = kit.dressed(kit.quarters(-0.25, 0.25, kit.pick([(outputs,), (outputs, *[1] * axes), (1,)])))
        parts = [
            self._axes(how["s"]),
            how["p"] if isinstance(how["p"], str) else self._axes(how["p"]),
            self._axes(how["d"]),
        ]
        weight = kit.weights(outputs, shape[0] // groups, *how["k"], quiet=quiet)
        node = (nir.Conv1d if axes == 1 else nir.Conv2d)(None, weight, *parts, groups, bias)
        node.input_shape = kit.pick([None, shape[1:] if axes > 1 else shape[1]])
        return self.add(node, sources, (outputs, *after))

    def _axes(self, values: Shape) -> Any:
        """One number per axis, in any form."""
        if len(set(values)) == 1 and self.kit.chance(0.4):
            return self.kit.pick([values[0], np.array(values[0]), np.int64(values[0])])
        return self.kit.pick([tuple(values), np.array(values), np.array(values, float), list(values)])

    def _alike(self, sources: list[str], shape: Shape, *, quiet: bool) -> str:
        """A stateless node that keeps the shape, for feedback."""
        if self.kit.chance(0.25):
            scale = self.kit.elements([-1.0, 1.0] if quiet else [-1.0, -0.5, 0.5], shape)
            self.kit.features.add("feedback through Scale")
            return self.add(nir.Scale(scale), sources, shape)
        if len(shape) > 1 and self.kit.chance(0.7):
            self.kit.features.add("feedback through Conv")
            return self._conv(sources, shape, alike=True, quiet=quiet)
        name = self._dense(sources, shape, outputs=shape[-1], quiet=quiet)
        self.kit.features.add(f"feedback through {type(self.nodes[name]).__name__}")
        return name

    # subgraphs

    def _subgraph(self, sources: list[str], shape: Shape) -> str:
        kit = self.kit
        name = self.name("block")
        inner = Level(kit, f"{self.path}{name}.", self.depth + 1)
        entry = inner.border("Input", shape)
        size = int(kit.pick([0, 1, 2, 3, 4]))
        for _ in range(size):
            inner.grow()
        if not size:
            kit.features.add("identity subgraph")
        return self._closed(inner, name, sources, [entry] if not size else inner.sources(2))

    def border(self, kind: str, shape: Shape) -> str:
        """The Input or Output of a subgraph, which may not state its shape."""
        name = str(self.kit.pick(["input", "in", "x"] if kind == "Input" else ["output", "out"]))
        if name in self.nodes:
            name = kind
        stated = self.kit.pick([None, np.array(shape), np.array(shape)])
        node = nir.Input({"input": stated}) if kind == "Input" else nir.Output({"output": stated})
        return self.add(node, [], shape, name)

    def _closed(self, inner: Level, name: str, sources: list[str], leaving: Sequence[str]) -> str:
        """Put a subgraph into this level."""
        shape = inner.shapes[leaving[0]]
        leave = inner.border("Output", shape)
        inner.edges += [(source, leave) for source in leaving]
        self.kit.features |= {"subgraph", f"depth {inner.depth}"}
        if len(sources) > 1:
            self.kit.features.add("several edges into a border")
        if len(leaving) > 1:
            self.kit.features.add("several edges out of a border")
        return self.add(inner.graph(), sources, shape, name)

    # feedback

    def _feedback(self, sources: list[str], shape: Shape) -> None:
        """A loop: of one neuron without a Delay, in any form, or of anything with one."""
        forms = [
            self._loop, self._loop, self._loop_into_layer, self._two_loops, self._self_loop, self._loop_around_block,
            self._loop_around_block, self._delayed_loop, self._named_loop, self._soft_reset, self._filter,
        ]  # fmt: skip
        self.kit.features.add("feedback")
        self.kit.pick(forms)(sources, shape)

    def _center(self, sources: list[str], shape: Shape) -> tuple[str, bool]:
        """The neuron of a loop, and whether it is analog."""
        analog = self.kit.chance(0.15)
        kinds = ANALOG if analog else ("LIF", "LIF", "IF", "CubaLIF", "Threshold")
        return self._neuron(sources, shape, kinds), analog

    def _loop(self, sources: list[str], shape: Shape) -> None:
        """n > w > n."""
        neuron, analog = self._center(sources, shape)
        back = self._alike([neuron], shape, quiet=analog)
        self.edges.append((back, neuron))

    def _loop_into_layer(self, sources: list[str], shape: Shape) -> None:
        """fc > n > fc."""
        layer = self._alike(sources, shape, quiet=False)
        neuron = self._neuron([layer], shape, ("LIF", "IF", "CubaLIF"))
        self.edges.append((neuron, layer))
        self.kit.features.add("feedback into a layer")

    def _two_loops(self, sources: list[str], shape: Shape) -> None:
        """n > w1 > n and n > w2 > n, and perhaps w1 > w2."""
        neuron, analog = self._center(sources, shape)
        first = self._alike([neuron], shape, quiet=analog)
        second = self._alike([neuron, first] if self.kit.chance(0.4) else [neuron], shape, quiet=analog)
        self.edges += [(first, neuron), (second, neuron)]
        self.kit.features.add("several cycles through one neuron")

    def _self_loop(self, sources: list[str], shape: Shape) -> None:
        neuron, _ = self._center(sources, shape)
        self.edges.append((neuron, neuron))
        self.kit.features.add("self-loop")

    def _loop_around_block(self, sources: list[str], shape: Shape) -> None:
        """s > w > s, where the neuron lies in the subgraph s."""
        kit = self.kit
        name = self.name("recurrent")
        inner = Level(kit, f"{self.path}{name}.", self.depth + 1)
        entry = inner.border("Input", shape)
        before = inner._alike([entry], shape, quiet=False) if kit.chance(0.3) else entry
        neuron = inner._neuron([before], shape, ("LIF", "IF", "CubaLIF"))
        leaving = [neuron]
        if kit.chance(0.4):
            leaving = [neuron, kit.pick([neuron, inner._alike([neuron], shape, quiet=False)])]
        block = self._closed(inner, name, sources, leaving)
        back = block if kit.chance(0.2) else self._alike([block], shape, quiet=False)
        if kit.chance(0.3):
            back = self._subgraph_alike([back], shape)
        self.edges.append((back, block))
        kit.features.add("feedback around a subgraph")
        if len(leaving) > 1:
            kit.features.add("feedback around a border that sums")

    def _subgraph_alike(self, sources: list[str], shape: Shape) -> str:
        """A stateless subgraph that keeps the shape."""
        name = self.name("back")
        inner = Level(self.kit, f"{self.path}{name}.", self.depth + 1)
        entry = inner.border("Input", shape)
        leaving = entry if self.kit.chance(0.3) else inner._alike([entry], shape, quiet=False)
        self.kit.features.add("feedback through a subgraph")
        return self._closed(inner, name, sources, [leaving])

    def _delayed_loop(self, sources: list[str], shape: Shape) -> None:
        """n1 > n2 > Delay > w > n1."""
        first = self._neuron(sources, shape, ("LIF", "IF", "CubaLIF"))
        second = self._neuron([first], shape, ("LIF", "IF", "CubaLIF", "Threshold"))
        delay = self._delay([second], shape)
        self.edges.append((self._alike([delay], shape, quiet=False), first))
        self.kit.features.add("feedback with a Delay")

    def _named_loop(self, sources: list[str], shape: Shape) -> None:
        """Two neurons in one cycle, whose late edge the caller names."""
        first = self._neuron(sources, shape, ("LIF", "IF", "CubaLIF"))
        middle = self._alike([first], shape, quiet=False)
        second = self._neuron([middle], shape, ("LIF", "IF", "CubaLIF", "Threshold"))
        self.edges.append((second, first))
        late = self.kit.pick([(second, first), (first, middle), (middle, second)])
        self.kit.delayed.append((self.path + late[0], self.path + late[1]))
        self.kit.features.add("delayed edges named")

    def _soft_reset(self, sources: list[str], shape: Shape) -> None:
        """The canonical loop of DESIGN.md section 3."""
        u = self.add(nir.Scale(np.ones(shape)), sources, shape)
        spikes = [self.add(nir.Threshold(np.full(shape, 0.5 + k)), [u], shape) for k in range(2)]
        resets = [self.add(nir.Scale(np.full(shape, -1.0)), [z], shape) for z in spikes]
        delay = self.add(nir.Delay(np.full(shape, self.kit.dt)), [u, *resets], shape)
        self.edges.append((self.add(nir.Scale(np.full(shape, 0.5)), [delay], shape), u))
        self.kit.features.add("soft reset")

    def _filter(self, sources: list[str], shape: Shape) -> None:
        """A cycle with a Delay and without a neuron."""
        u = self.add(nir.Scale(np.ones(shape)), sources, shape)
        delay = self._delay([u], shape)
        self.edges.append((self.add(nir.Scale(np.full(shape, -0.5)), [delay], shape), u))
        self.kit.features.add("filter")

    def graph(self) -> nir.NIRGraph:
        """The finished graph; the order of nodes and of edges may be anything, and so may the type of names in edges."""
        kit = self.kit
        edges, names = list(self.edges), list(self.nodes)
        if kit.chance(0.5):
            edges = [edges[i] for i in kit.rng.permutation(len(edges))]
        if kit.chance(0.3):
            names = [names[i] for i in kit.rng.permutation(len(names))]
        if kit.chance(0.15):
            edges = [(a.encode(), np.str_(b)) for a, b in edges]
        return nir.NIRGraph({name: self.nodes[name] for name in names}, edges, type_check=False)


def random_case(seed: int, *, size: int | None = None) -> Case:
    """A graph that has a meaning."""
    rng = np.random.default_rng(seed)
    dt = float(rng.choice([1.0, 1.0, 2.0**-10, 1e-3]))
    kit = Kit(rng, dt, odd_types=bool(rng.random() < 0.3))
    level = Level(kit)
    for index in range(int(kit.pick([1, 1, 1, 2]))):
        shape = tuple(kit.pick(SHAPES))
        level.add(nir.Input({"input": np.array(shape)}), [], shape, ("in", "input")[index])
    for _ in range(size or int(rng.integers(3, 10))):
        level.grow()
    if not any(type(node).__name__ in NEURONS for node in level.nodes.values()):
        first = level.sources()
        level._loop(first, level.shapes[first[0]])
    _dead_ends(level)
    for index in range(int(kit.pick([1, 1, 2, 3]))):
        sources = level.sources(2)
        shape = level.shapes[sources[0]]
        stated = kit.pick([None, np.array(shape), list(shape)])
        level.add(nir.Output({"output": stated}), sources, shape, ("out", "output", "s.out")[index])
    inputs = {name: node for name, node in level.nodes.items() if isinstance(node, nir.Input)}
    if len(inputs) > 1:
        kit.features.add("several inputs")
    if sum(isinstance(node, nir.Output) for node in level.nodes.values()) > 1:
        kit.features.add("several outputs")
    x = {name: kit.quarters(-1, 1.75, (STEPS, BATCH, *level.shapes[name])) for name in inputs}
    graph = level.graph()
    case = Case(graph, x, dt, kit.delayed, kit.features)
    _note(case, kit)
    return case


def _dead_ends(level: Level) -> None:
    """Nodes that nothing enters and no Output needs, and what reads them."""
    kit = level.kit
    if kit.chance(0.15):
        shape = level.shapes[level.readable()[-1]]
        lonely = level.add(kit.neuron("LIF", shape), [], shape)
        reader = level.add(kit.neuron("IF", shape), [lonely, level.readable(shape)[0]], shape)
        del level.shapes[lonely], level.shapes[reader]
        kit.features.add("dead nodes")


def _note(case: Case, kit: Kit) -> None:
    """dt as an argument, in the zoo's metadata, or in both; foreign metadata."""
    if kit.chance(0.3):
        case.graph.metadata["zoo"] = f'{{"format": 1, "dt": {case.dt!r}}}'
        case.dt = kit.pick([None, case.dt])
        kit.features.add("metadata")
    elif kit.chance(0.3):
        case.graph.metadata.update(kit.pick([{"zoo": np.arange(3)}, {"author": math.nan}, {"zoo": "animals"}]))
        case.dt = kit.pick([np.float32(case.dt) if case.dt != 1e-3 else case.dt, np.array(case.dt), case.dt])
        kit.features.add("foreign metadata")
