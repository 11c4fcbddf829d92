"""The judge, against numbers worked out by hand; and that it stands on its own.

Every test says in its comments how its numbers come about. Potentials are compared exactly: all numbers are dyadic.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import zoo.adapters
import zoo.nir_graphs.reference
from zoo.errors import InvalidInputError
from zoo.nir_graphs import reference
from zoo.nir_graphs.reference import STEPS, Trace

Steps = list[Any]


def graph_of(node: nir.NIRNode, shape: tuple[int, ...], out: tuple[int, ...] | None = None) -> nir.NIRGraph:
    """Input -> node -> Output."""
    nodes = {
        "input": nir.Input({"input": np.array(shape)}),
        "node": node,
        "out": nir.Output({"output": np.array(out or shape)}),
    }
    return nir.NIRGraph(nodes, [("input", "node"), ("node", "out")], type_check=False)


def run(node: nir.NIRNode, steps: Steps, *, dt: float = 1.0) -> Trace:
    """Run one node on a sample, given as a list over time, and on one that is all zeros."""
    x = np.asarray(steps, float)[:, None]
    x = np.concatenate([x, np.zeros_like(x)], 1)
    graph = graph_of(node, x.shape[2:])
    graph.nodes["out"].output_type = {"output": None}
    return reference.run(graph, x, dt=dt, record=["node"])


def require(trace: Trace, potentials: Steps | None = None, outputs: Steps | None = None) -> None:
    """Exact values of the node and its potential over time, of the first sample of two."""
    for array in (*trace.potentials.values(), *trace.outputs.values()):
        assert array.shape[:2] == (len(potentials or outputs or []), 2)
    if potentials is not None:
        assert trace.potentials["node"][:, 0].tolist() == potentials
    if outputs is not None:
        assert trace.outputs["out"][:, 0].tolist() == outputs


def numbers(*values: float) -> Any:
    return np.array(values, float)


def test_lif_fires_strictly_above_its_threshold() -> None:
    node = nir.LIF(tau=numbers(2), r=numbers(1), v_leak=numbers(0), v_threshold=numbers(1), v_reset=numbers(0))
    # 0 + (2 - 0)/2 = 1: a tie, no spike; 1 + (1 - 1)/2 = 1: again; 1 + (2 - 1)/2 = 1.5: a spike, back to 0; 0 + 1/2 = 0.5
    require(run(node, [[2], [1], [2], [1]]), [[1], [1], [1.5], [0.5]], [[0], [0], [1], [0]])


def test_lif_with_gain_leak_potential_and_reset_potential() -> None:
    node = nir.LIF(tau=numbers(4), r=numbers(2), v_leak=numbers(-1), v_threshold=numbers(0.5), v_reset=numbers(-0.25))
    # 0 + ((-1 - 0) + 6)/4 = 1.25: a spike, to -0.25; -0.25 + ((-1 + 0.25) + 0)/4 = -0.4375;
    # -0.4375 + ((-1 + 0.4375) + 4)/4 = -0.4375 + 0.859375 = 0.421875
    require(run(node, [[3], [0], [2]]), [[1.25], [-0.4375], [0.421875]], [[1], [0], [0]])


def test_lif_takes_k_from_dt_over_tau() -> None:
    node = nir.LIF(
        tau=numbers(1, 0.5), r=numbers(1, 1), v_leak=numbers(0, 0), v_threshold=numbers(9, 9), v_reset=numbers(0, 0)
    )
    # dt = 0.5: k = 0.5 and 1; of 4 and 4: 2 and 4; of 0 and 1: 2 - 1 = 1, and 4 + (1 - 4) = 1
    require(run(node, [[4, 4], [0, 1]], dt=0.5), [[2, 4], [1, 1]], [[0, 0], [0, 0]])


def test_if_integrates_dt_r_x() -> None:
    node = nir.IF(r=numbers(2), v_threshold=numbers(2), v_reset=numbers(0.5))
    # dt r = 1: 2, a tie; 2 + 1 = 3, a spike, to 0.5; 0.5 - 1 = -0.5; -0.5 + 3 = 2.5, a spike
    require(run(node, [[2], [1], [-1], [3]], dt=0.5), [[2], [3], [-0.5], [2.5]], [[0], [1], [0], [1]])


def test_a_neuron_resets_to_above_its_threshold_too() -> None:
    node = nir.IF(r=numbers(1), v_threshold=numbers(-1), v_reset=numbers(2))
    # 0 > -1: a spike, to 2; 2 - 4 = -2: none; -2 + 1 = -1: a tie, none
    require(run(node, [[0], [-4], [1]]), [[0], [-2], [-1]], [[1], [0], [0]])


def test_li_gives_out_its_potential() -> None:
    node = nir.LI(tau=numbers(2), r=numbers(3), v_leak=numbers(1))
    # 0 + ((1 - 0) + 3)/2 = 2; 2 + ((1 - 2) + 0)/2 = 1.5; 1.5 + ((1 - 1.5) - 3)/2 = -0.25
    found = [[2], [1.5], [-0.25]]
    require(run(node, [[1], [0], [-1]]), found, found)


def test_i_never_leaks() -> None:
    # dt r = 2: 2; 2 - 6 = -4; -4
    found = [[2], [-4], [-4]]
    require(run(nir.I(r=numbers(4)), [[1], [-3], [0]], dt=0.5), found, found)


def test_cuba_lif_uses_the_new_current() -> None:
    node = nir.CubaLIF(
        tau_syn=numbers(2), tau_mem=numbers(4), r=numbers(2), v_leak=numbers(0), v_threshold=numbers(0.5),
        v_reset=numbers(-1), w_in=numbers(2),
    )  # fmt: skip
    # i = 0 + (2 - 0)/2 = 1, v = 0 + (0 + 2)/4 = 0.5: a tie; i = 1 - 1/2 = 0.5, v = 0.5 + (-0.5 + 1)/4 = 0.625: a spike, to -1;
    # i = 0.5 + (8 - 0.5)/2 = 4.25, v = -1 + (1 + 8.5)/4 = 1.375: a spike
    require(run(node, [[1], [0], [4]]), [[0.5], [0.625], [1.375]], [[0], [1], [1]])


def test_cuba_li_leaks_to_its_leak_potential() -> None:
    node = nir.CubaLI(tau_syn=numbers(1), tau_mem=numbers(2), r=numbers(1), v_leak=numbers(-2), w_in=numbers(0.5))
    # i = 2, v = 0 + ((-2 - 0) + 2)/2 = 0; i = 0, v = 0 + (-2 + 0)/2 = -1; i = 1, v = -1 + ((-2 + 1) + 1)/2 = -1
    found = [[0], [-1], [-1]]
    require(run(node, [[4], [0], [2]]), found, found)


def test_threshold_compares_strictly() -> None:
    above = float(np.nextafter(0.5, 1))
    require(run(nir.Threshold(numbers(0.5, -1)), [[0.5, -1], [above, 0]]), [[0.5, -1], [above, 0]], [[0, 0], [1, 1]])


def test_scale_multiplies_element_by_element() -> None:
    require(run(nir.Scale(numbers(2, -0.5)), [[3, 4], [0, -1]]), outputs=[[6, -2], [0, 0.5]])


WEIGHT = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 0.5]])


def test_affine_works_on_the_last_axis() -> None:
    node = nir.Affine(WEIGHT, numbers(0.5, 0, -1))
    # of (2, -1): 2 - 2 + 0.5, 6 + 1 + 0, -0.5 - 1; of (0, 1): 2 + 0.5, -1 + 0, 0.5 - 1
    require(run(node, [[2, -1]]), outputs=[[0.5, 7, -1.5]])
    require(run(node, [[[2, -1], [0, 1]]]), outputs=[[[0.5, 7, -1.5], [2.5, -1, -0.5]]])


def test_linear_has_no_bias() -> None:
    require(run(nir.Linear(WEIGHT), [[2, -1]]), outputs=[[0, 7, -0.5]])
    require(run(nir.Linear(WEIGHT), [[[2, -1], [0, 1]]]), outputs=[[[0, 7, -0.5], [2, -1, 0.5]]])


def conv1d(weight: Any, bias: Any, **options: Any) -> nir.Conv1d:
    settings = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **options}
    return nir.Conv1d(None, np.array(weight, float), bias=np.array(bias, float), **settings)


def conv2d(weight: Any, bias: Any, **options: Any) -> nir.Conv2d:
    settings = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **options}
    return nir.Conv2d(None, np.array(weight, float), bias=np.array(bias, float), **settings)


def test_conv1d_with_stride_padding_and_dilation() -> None:
    node = conv1d([[[1, -2]]], [10], stride=2, padding=1, dilation=2)
    # padded 0 1 2 3 4 5 0: 0 - 2*2, 2 - 2*4, 4 - 2*0, and 10 more each
    require(run(node, [[[1, 2, 3, 4, 5]]]), outputs=[[[6, 4, 14]]])


def test_conv1d_same_puts_the_odd_zero_at_the_end() -> None:
    # 1 + 20, 2 + 30, 3 + 0
    require(run(conv1d([[[1, 10]]], [0], padding="same"), [[[1, 2, 3]]]), outputs=[[[21, 32, 3]]])
    # three taps: 0 + 10 + 200, 1 + 20 + 300, 2 + 30 + 0
    require(run(conv1d([[[1, 10, 100]]], [0], padding="same"), [[[1, 2, 3]]]), outputs=[[[210, 321, 32]]])
    require(run(conv1d([[[1, 10]]], [0], padding="valid"), [[[1, 2, 3]]]), outputs=[[[21, 32]]])


def test_conv2d_sums_over_its_inputs_and_is_no_flipped_convolution() -> None:
    node = conv2d([[[[1, 2]], [[3, 4]]]], [0.5], dilation=(1, 2))
    # 1*1 + 2*3 of the first channel, 3*1 + 4*(-1) of the second
    require(run(node, [[[[1, 2, 3]], [[1, 0, -1]]]]), outputs=[[[[6.5]]]])


def test_conv2d_with_groups_stride_and_padding_per_axis() -> None:
    node = conv2d([[[[1], [10]]], [[[2], [-1]]]], [0.5, -1], stride=(1, 2), padding=(1, 0), groups=2)
    x = [[[[1, 2, 3], [4, 5, 6]], [[1, 0, 1], [0, 1, 0]]]]
    # columns 0 and 2 only. First channel: 10*(1, 3); (1, 3) + 10*(4, 6); (4, 6). Second: -(1, 1); 2*(1, 1) - (0, 0); 2*(0, 0)
    expected = [[[10.5, 30.5], [41.5, 63.5], [4.5, 6.5]], [[-2, -2], [1, 1], [-1, -1]]]
    require(run(node, x), outputs=[expected])


def test_the_outputs_of_a_group_follow_each_other() -> None:
    node = conv2d([[[[1]]], [[[2]]], [[[3]]], [[[4]]]], [0, 0, 0, 0], groups=2)
    require(run(node, [[[[5]], [[7]]]]), outputs=[[[[5]], [[10]], [[21]], [[28]]]])


def pool(kind: Any, kernel: Any, stride: Any, padding: Any) -> nir.NIRNode:
    made: nir.NIRNode = kind(np.array(kernel), np.array(stride), np.array(padding))
    return made


def test_sum_pool_with_padding() -> None:
    node = pool(nir.SumPool2d, [2, 2], [1, 1], [1, 1])
    require(run(node, [[[[1, 2], [3, 4]]]]), outputs=[[[[1, 3, 2], [4, 10, 6], [3, 7, 4]]]])


def test_sum_pool_per_axis() -> None:
    node = pool(nir.SumPool2d, [2, 1], [2, 1], [0, 1])
    # rows 1 and 2, 3 and 4; a zero on either side of them
    x = [[[[1, 2], [3, 4], [5, 6], [7, 8]]]]
    require(run(node, x), outputs=[[[[0, 4, 6, 0], [0, 12, 14, 0]]]])


def test_average_pool_counts_its_padding() -> None:
    node = pool(nir.AvgPool2d, [1, 2], [1, 2], [0, 1])
    # half of 0 + 1, of 2 + 3, of 4 + 0
    require(run(node, [[[[1, 2, 3, 4]]]]), outputs=[[[[0.5, 2.5, 2]]]])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (1, 2, [[1, 2, 3, 4], [5, 6, 7, 8]]),
        (0, 1, [[1, 2], [3, 4], [5, 6], [7, 8]]),
        (0, -1, [1, 2, 3, 4, 5, 6, 7, 8]),
        (-1, 2, [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
    ],
)
def test_flatten_does_not_count_the_batch(start: int, end: int, expected: Any) -> None:
    x = np.arange(1.0, 9.0).reshape(1, 2, 2, 2)
    node = nir.Flatten({"input": np.array([2, 2, 2])}, start, end)
    require(run(node, x.tolist()), outputs=[expected])


def test_each_element_has_its_own_delay() -> None:
    require(run(nir.Delay(numbers(1, 2)), [[1, 10], [2, 20], [3, 30]]), outputs=[[0, 0], [1, 0], [2, 10]])
    # in units of time: dt = 0.5
    require(run(nir.Delay(numbers(1, 0.5)), [[1, 10], [2, 20], [3, 30]], dt=0.5), outputs=[[0, 0], [0, 10], [1, 20]])


def test_one_delay_for_a_whole_tensor() -> None:
    x = [[[1, 2]], [[3, 4]], [[5, 6]]]
    require(run(nir.Delay(np.array(2.0)), x), outputs=[[[0, 0]], [[0, 0]], [[1, 2]]])


def wired(nodes: Mapping[str, nir.NIRNode], edges: list[tuple[str, str]], shape: tuple[int, ...]) -> nir.NIRGraph:
    """Inputs a, b, c of one shape, further nodes, and an Output."""
    borders = {name: nir.Input({"input": np.array(shape)}) for name in {a for a, _ in edges} & {"a", "b", "c"}}
    all_nodes = {**dict(sorted(borders.items())), **nodes, "out": nir.Output({"output": None})}
    return nir.NIRGraph(all_nodes, edges, type_check=False)


def of(graph: nir.NIRGraph, **inputs: Steps) -> list[Any]:
    """Outputs over time of one sample."""
    given = {name: np.asarray(steps, float)[:, None] for name, steps in inputs.items()}
    return reference.run(graph, given, dt=1).outputs["out"][:, 0].tolist()


def test_in_edges_are_summed_in_the_order_of_the_edges() -> None:
    big = 2.0**53
    inputs: dict[str, Steps] = {"a": [[big]], "b": [[1.0]], "c": [[-big]]}
    # in float64 2^53 + 1 is 2^53, while 1 - 2^53 is exact
    for order, expected in (("abc", 0.0), ("acb", 1.0), ("bca", 1.0), ("cab", 1.0)):
        graph = wired({}, [(name, "out") for name in order], (1,))
        assert of(graph, **inputs) == [[expected]], order


def test_an_edge_that_is_there_twice_counts_twice() -> None:
    graph = wired({"s": nir.Scale(numbers(3))}, [("a", "s"), ("b", "s"), ("a", "s"), ("s", "out")], (1,))
    assert of(graph, a=[[1], [0]], b=[[4], [1]]) == [[18], [3]]  # 3 (1 + 4 + 1), 3 (0 + 1 + 0)


def test_the_sum_comes_before_the_weights() -> None:
    graph = wired({"s": nir.Scale(numbers(3))}, [("a", "s"), ("b", "s"), ("s", "out")], (1,))
    a, b = 0.4, 0.3
    assert 3 * (a + b) != 3 * a + 3 * b
    assert of(graph, a=[[a]], b=[[b]]) == [[3 * (a + b)]]


def test_soft_reset_through_a_delay() -> None:
    """u = x + 0.5 (u - z of the step before), z = [u > 1]."""
    nodes = {
        "u": nir.Scale(numbers(1)), "z": nir.Threshold(numbers(1)), "reset": nir.Scale(numbers(-1)),
        "delay": nir.Delay(numbers(1)), "decay": nir.Scale(numbers(0.5)),
    }  # fmt: skip
    edges = [
        ("a", "u"), ("decay", "u"), ("u", "z"), ("z", "reset"), ("u", "delay"), ("reset", "delay"), ("delay", "decay"),
        ("z", "out"),
    ]  # fmt: skip
    graph = wired(nodes, edges, (1,))
    found = reference.run(graph, np.array([1.5, 1.0, 0.875, 0.0, 1.0]).reshape(5, 1, 1), dt=1, record=["u", "z"])
    # 1.5: spike; 1 + 0.25 = 1.25: spike; 0.875 + 0.125 = 1: a tie; 0 + 0.5; 1 + 0.25 = 1.25: spike
    assert found.potentials["u"].ravel().tolist() == [1.5, 1.25, 1, 0.5, 1.25]
    assert found.potentials["z"].ravel().tolist() == [1.5, 1.25, 1, 0.5, 1.25]
    assert found.spikes["z"].ravel().tolist() == [1, 1, 0, 0, 1]
    assert found.outputs["out"].ravel().tolist() == [1, 1, 0, 0, 1]
    assert set(found.spikes) == {"z"}


def test_feedback_of_a_neuron_acts_one_step_later_and_its_bias_at_once() -> None:
    """z_t = [v > 1] with v <- v + x_t + W z_(t-1) + b, reset to 0; W = 2, b = 0.25."""
    nodes = {
        "n": nir.IF(r=numbers(1), v_threshold=numbers(1), v_reset=numbers(0)),
        "w": nir.Affine(np.array([[2.0]]), numbers(0.25)),
    }
    graph = wired(nodes, [("a", "n"), ("n", "w"), ("w", "n"), ("n", "out")], (1,))
    found = reference.run(graph, np.array([1.0, 0.0, 0.0, -3.0]).reshape(4, 1, 1), record=["n"])
    # 1 + 0.25: a spike; 0 + 2 + 0.25: a spike; 2.25: a spike; -3 + 2.25 = -0.75
    assert found.potentials["n"].ravel().tolist() == [1.25, 2.25, 2.25, -0.75]
    assert found.outputs["out"].ravel().tolist() == [1, 1, 1, 0]


def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    node = nir.IF(r=numbers(1), v_threshold=numbers(1), v_reset=numbers(0))
    x = np.array([[[0.75], [2.0]], [[0.75], [0.5]]])  # (T, B, 1)
    found = reference.run(graph_of(node, (1,)), x, record="all")
    assert found.potentials["node"].tolist() == [[[0.75], [2.0]], [[1.5], [0.5]]]
    assert found.spikes["node"].tolist() == [[[0], [1]], [[1], [0]]]


def test_every_run_starts_from_rest() -> None:
    graph = graph_of(nir.I(r=numbers(1)), (1,))
    for _ in range(2):
        assert reference.run(graph, np.ones((2, 1, 1))).outputs["out"].ravel().tolist() == [1, 2]


def test_what_is_recorded() -> None:
    nodes = {
        "i": nir.I(r=numbers(1)), "z": nir.Threshold(numbers(1)), "s": nir.Scale(numbers(2)),
    }  # fmt: skip
    graph = wired(nodes, [("a", "i"), ("i", "z"), ("z", "s"), ("s", "out")], (1,))
    x = np.ones((2, 1, 1))
    expected = {"none": set(), "neurons": {"z"}, "all": {"i", "z"}}
    for record, names in expected.items():
        found = reference.run(graph, x, dt=1, record=record)
        assert set(found.potentials) == names
        assert set(found.spikes) == names - {"i"}
    assert reference.run(graph, x, dt=1, record=["s", "a"]).potentials["s"].ravel().tolist() == [0, 2]
    seen: list[tuple[int, float]] = []
    reference.run(graph, x, dt=1, observe=lambda t, values: seen.append((t, float(values["s"].item()))))
    assert seen == [(0, 0.0), (1, 2.0)]


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones((2, 1, 3)), {}, r"input 'input' must have the shape \(T, B, 1\), got \(2, 1, 3\)"),
        (np.ones((0, 1, 1)), {}, "must have the shape"),
        (np.full((2, 1, 1), np.nan), {}, "NaN or infinity"),
        (
            {"input": np.ones((2, 1, 1)), "more": np.ones((2, 1, 1))},
            {},
            "the graph has the inputs input, got input, more",
        ),
        (np.ones((2, 1, 1)), {"record": "everything"}, "record must be"),
        (np.ones((2, 1, 1)), {"record": ["nowhere"]}, "no node 'nowhere'"),
    ],
)
def test_bad_runs(x: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        reference.run(graph_of(nir.I(r=numbers(1)), (1,)), x, **options)


def test_inputs_of_different_lengths_are_refused() -> None:
    graph = wired({}, [("a", "out"), ("b", "out")], (1,))
    with pytest.raises(InvalidInputError, match="same number of time steps and the same batch size"):
        reference.run(graph, {"a": np.ones((2, 1, 1)), "b": np.ones((3, 1, 1))})


def test_inputs_may_differ_in_shape() -> None:
    nodes = {
        "a": nir.Input({"input": np.array([2])}), "b": nir.Input({"input": np.array([3])}),
        "w": nir.Linear(np.array([[1.0, 10.0, 100.0], [0.0, 1.0, 0.0]])), "out": nir.Output({"output": None}),
    }  # fmt: skip
    graph = nir.NIRGraph(nodes, [("b", "w"), ("w", "out"), ("a", "out")], type_check=False)
    # 1 + 20 + 300 + 7 and 2 + 8
    assert of(graph, a=[[7, 8]], b=[[1, 2, 3]]) == [[328, 10]]


def test_every_equation_has_a_case_here() -> None:
    """So that a new node type cannot be judged by an equation that nobody has checked."""
    tested = Path(__file__).read_text(encoding="utf8")
    for kind in STEPS:
        assert f"nir.{kind.__name__}" in tested, kind


def imported(path: Path) -> dict[str, set[str]]:
    """For each module that a file imports from, the names that it takes."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom):
            found.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update({alias.name: set() for alias in node.names})
    return found


JUDGE = Path(zoo.nir_graphs.reference.__file__)
BACKENDS = [path for path in Path(str(zoo.adapters.__path__[0])).glob("*.py") if path.name != "reference.py"]
DATA = {
    "zoo.errors": {"InvalidInputError"},
    "zoo.nir_graphs.graph": {"FlatGraph", "FlatNode"},
    "zoo.nir_graphs.nodes": {"NEURONS", "SPIKING"},
    "zoo.nir_graphs.normalise": {"Graph", "normalise"},
}
"""What the judge may take from the zoo: the graph's form and how to get it, no arithmetic."""


def test_the_judge_shares_no_arithmetic_with_what_it_judges() -> None:
    own = {module: names for module, names in imported(JUDGE).items() if module.startswith("zoo")}
    assert own == DATA
    outside = {module.partition(".")[0] for module in imported(JUDGE)} - {"zoo"}
    assert outside == {"__future__", "collections", "dataclasses", "typing", "nir", "numpy"}


def test_backends_take_no_arithmetic_from_the_judge() -> None:
    assert len(BACKENDS) > 8
    for path in BACKENDS:
        found = imported(path)
        taken = found.get("zoo.nir_graphs.reference", set())
        assert taken <= {"Record", "Trace", "recorded_nodes"}, path.name
        assert "reference" not in found.get("zoo.nir_graphs", set()), path.name
