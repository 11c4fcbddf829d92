"""Faults put into graphs that have a meaning, one at a time, each with the kind of error that has to come of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import nir
import numpy as np
import torch

from tests.naive.generator import Case, random_case

Place = tuple[nir.NIRGraph, str, Any]
ELEMENTS = (
    "tau", "tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in", "threshold", "scale", "delay",
)  # fmt: skip
TIMES = ("tau", "tau_syn", "tau_mem", "delay")
NUMBERS: dict[str, Any] = {
    "NaN": math.nan, "infinite": math.inf, "minus infinite": -math.inf, "text": "0.5", "complex": 0.5j, "object": None,
    "no numbers": (), "integers beyond float64": np.array(2**63 + 1, np.uint64), "beyond float64": np.longdouble("1e4000"),
}  # fmt: skip
"""What no field of real numbers can be."""
WHOLE: dict[str, Any] = {
    "of three values": [1, 1, 1], "four-sided": [1, 1, 1, 1], "not whole": 1.5, "negative": -1, "NaN": math.nan,
    "infinite": math.inf, "text": "two", "enormous": 2**40, "none": None, "no values": [], "complex": 1j,
}  # fmt: skip
"""What no stride, padding, kernel, dilation or number of groups can be."""


def number_like(value: Any, like: Any) -> Any:
    """A bad number in an array of the shape of another, at its end."""
    if value is None:
        return np.array([None], object)
    if isinstance(value, tuple):
        return np.zeros((0,))
    shape = tuple(like.shape)
    if isinstance(value, np.ndarray | np.longdouble):
        return np.full(shape, value)
    if isinstance(value, str):
        return np.full(shape, value)
    array = np.ones(shape, complex if isinstance(value, complex) else float)
    array.reshape(-1)[-1] = value
    return array


def places(graph: nir.NIRGraph) -> Iterator[Place]:
    """All nodes, those of subgraphs too."""
    for name, node in graph.nodes.items():
        yield graph, name, node
        if isinstance(node, nir.NIRGraph):
            yield from places(node)


class Unfit(Exception):  # noqa: N818
    """The graph has nothing that this fault could go into."""


class Spoiler:
    """Puts one fault into a case."""

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        self.case, self.rng = case, rng
        self.places = list(places(case.graph))

    def pick(self, options: Any) -> Any:
        """One of them."""
        options = list(options)
        if not options:
            raise Unfit
        return options[int(self.rng.integers(len(options)))]

    def node(self, *kinds: type, having: str = "") -> Any:
        """A node of some type, or with some field."""
        return self.pick(
            node
            for _, _, node in self.places
            if (not kinds or isinstance(node, kinds)) and (not having or hasattr(node, having))
        )

    def element(self) -> tuple[Any, str]:
        """A node and one of its parameters with one number per element."""
        return self.pick(
            (node, name)
            for _, _, node in self.places
            for name in ELEMENTS
            if getattr(node, name, None) is not None and not isinstance(node, nir.NIRGraph)
        )

    def spatial(self) -> Any:
        """A convolution or a pool."""
        return self.node(nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d)

    # numbers

    def bad_element(self) -> str:
        node, name = self.element()
        kind = self.pick(NUMBERS)
        setattr(node, name, number_like(NUMBERS[kind], getattr(node, name)))
        return f"{name} {kind}"

    def missing_element(self) -> str:
        node, name = self.element()
        if name in {"v_reset", "w_in"}:
            raise Unfit
        setattr(node, name, None)
        return f"no {name}"

    def time_not_positive(self) -> str:
        node, name = self.pick((node, name) for node, name in [self.element() for _ in range(40)] if name in TIMES)
        value = self.pick([0.0, -1.0, -math.ulp(0)])
        setattr(node, name, np.full(tuple(getattr(node, name).shape), value))
        return f"{name} {value}"

    def delay_between_steps(self) -> str:
        node = self.node(nir.Delay)
        value = self.pick([0.5, 1.5, 2.25, 1e12, 1e-9, 1e300])
        node.delay = np.full(tuple(node.delay.shape), value)
        self.case.dt = 1.0
        return f"delay {value}"

    def shape_of_element(self) -> str:
        """More numbers than elements, or along an axis that nobody names."""
        node, name = self.element()
        shape = self.pick([(19,), (7, 1), (2, 2, 2, 2), (1, 13), (11, 1, 1)])
        setattr(node, name, np.ones(shape))
        return f"{name} of shape {shape}"

    def bad_weight(self) -> str:
        node = self.node(nir.Linear, nir.Affine, nir.Conv1d, nir.Conv2d)
        kind = self.pick([*NUMBERS, "another rank", "one axis less", "empty axis", "another width", "none"])
        shape = tuple(node.weight.shape)
        if kind in NUMBERS:
            node.weight = number_like(NUMBERS[kind], node.weight)
        elif kind == "none":
            node.weight = None
        else:
            shapes = {
                "another rank": (2, *shape), "one axis less": shape[:-1], "empty axis": (0, *shape[1:]),
                "another width": (shape[0], shape[1] + 1, *shape[2:]),
            }  # fmt: skip
            node.weight = np.ones(shapes[kind])
        return f"weight {kind}"

    def bad_bias(self) -> str:
        node = self.node(nir.Affine, nir.Conv1d, nir.Conv2d)
        kind = self.pick([*NUMBERS, "too long", "a row", "none"])
        count = int(node.weight.shape[0])
        if kind in NUMBERS:
            node.bias = number_like(NUMBERS[kind], node.bias)
        else:
            node.bias = {"too long": np.ones(count + 1), "a row": np.ones((1, count + 1)), "none": None}[kind]
        return f"bias {kind}"

    def bad_whole(self) -> str:
        node = self.spatial()
        names = ["stride", "padding"] + (["kernel_size"] if hasattr(node, "kernel_size") else ["dilation", "groups"])
        name, kind = self.pick(names), self.pick(WHOLE)
        value = WHOLE[kind]
        setattr(node, name, np.array(value) if isinstance(value, list) and self.rng.random() < 0.5 else value)
        return f"{name} {kind}"

    def zero(self) -> str:
        node = self.spatial()
        name = self.pick(
            ["stride", "kernel_size"] if hasattr(node, "kernel_size") else ["stride", "dilation", "groups"]
        )
        setattr(node, name, 0)
        return f"{name} 0"

    def padding_word(self) -> str:
        node = self.node(nir.Conv1d, nir.Conv2d)
        node.padding = self.pick(["reflect", "", b"full", np.array("causal")])
        return "padding text"

    def pool_padding_word(self) -> str:
        self.node(nir.SumPool2d, nir.AvgPool2d).padding = self.pick(["same", "valid"])
        return "pool padding text"

    def same_with_stride(self) -> str:
        node = self.pick(
            n for _, _, n in self.places if isinstance(n, nir.Conv1d | nir.Conv2d) and n.weight.shape[2] > 1
        )
        node.padding, node.stride = "same", 2
        return "same with a stride"

    def window_too_large(self) -> str:
        self.node(nir.SumPool2d, nir.AvgPool2d).kernel_size = np.array([40, 1])
        return "window too large"

    def groups_that_do_not_divide(self) -> str:
        node = self.node(nir.Conv1d, nir.Conv2d)
        node.groups = int(node.weight.shape[0]) + 1
        return "groups"

    def bad_flatten(self) -> str:
        node = self.node(nir.Flatten)
        kind = self.pick(["start_dim", "end_dim"])
        value = self.pick([5, 3, -4, 0.5, math.inf, None, "all", [0, 1]])
        setattr(node, kind, value)
        return f"{kind} {value}"

    def flatten_backwards(self) -> str:
        node = self.node(nir.Flatten)
        node.start_dim, node.end_dim = 1, 0
        return "flatten backwards"

    def bad_input_shape(self) -> str:
        shape = self.pick([None, np.array([0]), np.array([-2, 3]), np.array([1.5]), np.array(["x"]), torch.tensor([0])])
        inputs = [n for n in self.case.graph.nodes.values() if isinstance(n, nir.Input)]
        self.pick(inputs).input_type = {"input": shape}
        return "input shape"

    def another_shape_stated(self) -> str:
        graph, _, node = self.pick(p for p in self.places if isinstance(p[2], nir.Output | nir.Input))
        if isinstance(node, nir.Input) and graph is self.case.graph:
            raise Unfit
        stated = self.pick([np.array([13]), np.array([0]), np.array([2, 2, 2, 2])])
        node.input_type, node.output_type = {"input": stated}, {"output": stated}
        return "stated shape"

    # structure

    def edge_to_nowhere(self) -> str:
        graph = self.pick([self.case.graph, *(n for _, _, n in self.places if isinstance(n, nir.NIRGraph))])
        name = self.pick(graph.nodes)
        graph.edges.append(self.pick([(name, "nowhere"), ("nowhere", name), (name, 3), (None, name)]))
        return "edge to nowhere"

    def edge_that_is_none(self) -> str:
        name = self.pick(self.case.graph.nodes)
        self.case.graph.edges.append(self.pick([(name,), (name, name, name), "ab", 5, None]))
        return "no edge"

    def edge_into_input(self) -> str:
        graph, name, _ = self.pick(p for p in self.places if isinstance(p[2], nir.Input))
        graph.edges.append((self.pick(n for n, node in graph.nodes.items() if not isinstance(node, nir.Output)), name))
        return "edge into an Input"

    def edge_out_of_output(self) -> str:
        graph, name, _ = self.pick(p for p in self.places if isinstance(p[2], nir.Output))
        graph.edges.append((name, self.pick(n for n, node in graph.nodes.items() if not isinstance(node, nir.Input))))
        return "edge out of an Output"

    def no_source(self) -> str:
        """A node without input that an Output reads."""
        graph = self.case.graph
        output = self.pick(n for n, node in graph.nodes.items() if isinstance(node, nir.Output))
        graph.nodes["lonely"] = nir.Scale(np.ones(()))
        graph.edges.append(("lonely", output))
        return "sourceless node"

    def no_source_for_output(self) -> str:
        self.case.graph.nodes["unread"] = nir.Output({"output": np.array([2])})
        return "sourceless Output"

    def border_missing(self) -> str:
        kind = self.pick([nir.Input, nir.Output])
        graph = self.pick([self.case.graph, *(n for _, _, n in self.places if isinstance(n, nir.NIRGraph))])
        gone = {name for name, node in graph.nodes.items() if isinstance(node, kind)}
        graph.nodes = {name: node for name, node in graph.nodes.items() if name not in gone}
        graph.edges = [
            e for e in graph.edges if not gone & {end.decode() if isinstance(end, bytes) else end for end in e}
        ]
        return f"no {kind.__name__}"

    def two_borders(self) -> str:
        graph = self.pick(n for _, _, n in self.places if isinstance(n, nir.NIRGraph))
        graph.nodes["second"] = nir.Input({"input": np.array([2])})
        return "subgraph with two Inputs"

    def unknown_type(self) -> str:
        class Resonator(nir.NIRNode):
            def __init__(self) -> None:
                self.input_type, self.output_type = dict[str, Any](), dict[str, Any]()

        graph, name, _ = self.pick(
            p for p in self.places if not isinstance(p[2], nir.Input | nir.Output | nir.NIRGraph)
        )
        graph.nodes[name] = self.pick([Resonator(), Resonator(), None, 3, "LIF", nir.NIRNode])
        return "unknown type"

    def shapes_that_differ(self) -> str:
        graph = self.case.graph
        target = self.pick(n for n, node in graph.nodes.items() if not isinstance(node, nir.Input))
        graph.nodes["wide"] = nir.Input({"input": np.array([17, 1])})
        graph.edges.append(("wide", target))
        self.case.x["wide"] = np.zeros((*next(iter(self.case.x.values())).shape[:2], 17, 1))
        return "shapes that differ"

    def two_neurons_in_a_cycle(self) -> str:
        graph, shape = self._ring()
        graph.nodes |= {"ring.1": nir.Threshold(np.full(shape, 0.25)), "ring.2": nir.Threshold(np.full(shape, 0.25))}
        graph.edges += [("ring.1", "ring.2"), ("ring.2", "ring.1")]
        return "two neurons in a cycle"

    def no_neuron_in_a_cycle(self) -> str:
        graph, shape = self._ring()
        graph.nodes |= {"ring.1": nir.Scale(np.ones(shape)), "ring.2": nir.Scale(np.ones(shape))}
        graph.edges += [("ring.1", "ring.2"), ("ring.2", "ring.1")]
        if self.rng.random() < 0.5:  # beside one with a neuron
            graph.nodes["ring.3"] = nir.Threshold(np.full(shape, 0.25))
            graph.edges += [("ring.1", "ring.3"), ("ring.3", "ring.1")]
        return "no neuron in a cycle"

    def _ring(self) -> tuple[nir.NIRGraph, tuple[int, ...]]:
        graph = self.case.graph
        name = self.pick(n for n, node in graph.nodes.items() if isinstance(node, nir.Input))
        graph.edges.append((name, "ring.1"))
        return graph, tuple(int(n) for n in graph.nodes[name].input_type["input"])

    # arguments

    def bad_dt(self) -> str:
        self.case.dt = self.pick([0, -1.0, math.nan, math.inf, "fast", [1.0, 2.0], np.array([]), 1j])
        return "dt"

    def no_dt(self) -> str:
        times = [n for _, _, n in self.places if isinstance(n, nir.LIF | nir.LI | nir.CubaLIF | nir.CubaLI | nir.Delay)]
        self.pick(times)
        self.case.dt = None
        self.case.graph.metadata.pop("zoo", None)
        return "no dt"

    def bad_delayed_edges(self) -> str:
        name = self.pick(self.case.graph.nodes)
        wrong: Any = self.pick([("nowhere", name), (name, "nowhere"), "ab", (name,), (1, 2), 5])
        self.case.delayed_edges.append(wrong)
        return "delayed edges"

    def delayed_edge_without_cycle(self) -> str:
        source, target = self.pick(
            (a, b)
            for a, b in self.case.graph.edges
            if isinstance(a, str) and isinstance(self.case.graph.nodes[a], nir.Input)
        )
        self.case.delayed_edges.append((source, str(target)))
        return "delayed edge on no cycle"

    def bad_input(self) -> str:
        x = self.case.x
        name = self.pick(x)
        kind = self.pick(
            ["NaN", "infinite", "another shape", "no batch", "no time", "missing", "unknown", "another length"]
        )
        if kind in {"NaN", "infinite"}:
            x[name] = x[name].copy()
            x[name].reshape(-1)[-1] = math.nan if kind == "NaN" else -math.inf
        elif kind == "another length":
            if len(x) < 2:
                raise Unfit
            x[name] = x[name][:, :-1] if self.rng.random() < 0.5 else x[name][:-1]
        elif kind == "missing":
            x["other"] = x.pop(name)
        elif kind == "unknown":
            x["other"] = x[name]
        else:
            x[name] = {"another shape": x[name][..., None], "no batch": x[name][:, 0], "no time": x[name][:0]}[kind]
        return f"input {kind}"


INPUT_FAULTS = ("bad_dt", "no_dt", "bad_delayed_edges", "delayed_edge_without_cycle", "bad_input")
FAULTS = tuple(
    name for name, value in vars(Spoiler).items()
    if not name.startswith("_") and isinstance(value, Callable) and name not in {"pick", "node", "element", "spatial"}  # type: ignore[arg-type]
)  # fmt: skip


def malformed_case(seed: int, fault: str | None = None) -> tuple[Case, str]:
    """(a graph with one fault, what it is); graphs are drawn until the fault fits."""
    rng = np.random.default_rng([seed, 1])
    wanted = fault or FAULTS[seed % len(FAULTS)]
    for attempt in range(1000):
        case = random_case(1_000_000 + seed * 1000 + attempt, size=int(rng.integers(2, 8)))
        if "dead nodes" in case.features:
            continue
        try:
            what = getattr(Spoiler(case, rng), wanted)()
        except Unfit:
            continue
        case.expected = "input" if wanted in INPUT_FAULTS else "graph"
        return case, what
    raise AssertionError(f"no graph for the fault {wanted}")
