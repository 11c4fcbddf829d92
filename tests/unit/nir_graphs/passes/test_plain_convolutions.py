"""Dense, square convolutions: equal to the bit, read by stock nir with right types; the rest is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.errors import ExportError
from zoo.nir_graphs import reference
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import normalise
from zoo.nir_graphs.passes import plain_convolutions as module
from zoo.nir_graphs.passes.plain_convolutions import plain_convolutions
from zoo.nir_graphs.passes.windows import Axis, square

Make = Callable[..., FlatGraph]


def convolution(
    kernel: tuple[int, ...],
    size: tuple[int, ...],
    *,
    channels: int = 4,
    outputs: int = 4,
    groups: int = 1,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    seed: int = 0,
) -> FlatGraph:
    """input -> convolution with small whole weights -> IF -> output."""
    random = np.random.default_rng(seed)
    weight = random.integers(-3, 4, (outputs, channels // groups, *kernel)).astype(np.float32)
    bias = random.integers(-2, 3, outputs).astype(np.float32)
    kind = nir.Conv1d if len(kernel) == 1 else nir.Conv2d
    node = kind(None, weight, stride, padding, dilation, groups, bias)
    draft = {"input": nir.Input(np.array([channels, *size])), "conv": node}
    # the door finds the shape of the convolution
    probe = {**draft, "output": nir.Output(None)}
    edges = [("input", "conv"), ("conv", "output")]
    shape = normalise(nir.NIRGraph(probe, edges, type_check=False)).shapes["conv"]
    fire = nir.IF(np.ones(shape), np.full(shape, 8.5), np.zeros(shape))
    nodes = {**draft, "fire": fire, "output": nir.Output(np.array(shape))}
    return normalise(nir.NIRGraph(nodes, [("input", "conv"), ("conv", "fire"), ("fire", "output")], type_check=False))


EXACT: dict[str, dict[str, Any]] = {
    "depthwise": {"kernel": (3, 3), "size": (6, 7), "groups": 4, "padding": 1},
    "groups": {"kernel": (3, 3), "size": (7, 6), "groups": 2, "padding": 1, "stride": 2},
    "groups, same, even": {"kernel": (4, 4), "size": (6, 6), "groups": 2, "padding": "same"},
    "odd sides": {"kernel": (3, 5), "size": (6, 7), "padding": (0, 2)},
    "odd sides, stride, dilation": {"kernel": (5, 1), "size": (9, 7), "stride": (1, 2), "dilation": (2, 3), "padding": (1, 0)},
    "even sides": {"kernel": (2, 4), "size": (6, 7), "padding": (1, 0)},
    "same, even and odd": {"kernel": (4, 3), "size": (6, 7), "padding": "same"},
    "same, even and one": {"kernel": (1, 2), "size": (5, 6), "padding": "same", "dilation": (1, 3)},
    "even side at even dilation": {"kernel": (2, 1), "size": (8, 3), "dilation": (4, 1)},
    "even side, one row of output": {"kernel": (6, 1), "size": (6, 5)},
    "even side, the stride leaves room": {"kernel": (2, 3), "size": (7, 6), "stride": (3, 1), "padding": (0, 1)},
    "one row becomes an even number": {"kernel": (4, 1), "size": (1, 5), "padding": (3, 0)},
    "one column becomes an even number": {"kernel": (3, 2), "size": (5, 1), "padding": (1, 1)},
    "one pixel becomes an even map": {"kernel": (4, 2), "size": (1, 1), "padding": (3, 1), "groups": 4},
    "one row, padding that crops": {"kernel": (4, 1), "size": (1, 4), "padding": (2, 0), "groups": 2},
    "even and odd": {"kernel": (2, 3), "size": (6, 7)},
    "odd and even": {"kernel": (3, 2), "size": (6, 7), "padding": (1, 0)},
    "even and one": {"kernel": (4, 1), "size": (6, 5), "padding": (1, 0), "groups": 4},
    "one and even, odd dilation": {"kernel": (1, 2), "size": (4, 6), "dilation": (1, 3)},
    "even and odd, even dilation": {"kernel": (2, 3), "size": (8, 12), "dilation": (3, 4)},
    "even and odd, strides": {"kernel": (4, 3), "size": (11, 12), "stride": (2, 3), "dilation": (1, 3), "padding": (1, 4)},
    "one axis": {"kernel": (3,), "size": (9,), "groups": 2, "padding": 1, "stride": 2},
    "one axis, same, even": {"kernel": (4,), "size": (9,), "groups": 4, "padding": "same"},
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_equal_to_the_bit_and_read_by_stock_nir(name: str, equal: Any, stock_read: Any) -> None:
    graph = convolution(**EXACT[name])
    after, notes = plain_convolutions(graph)
    assert [note.kind for note in notes] == ["convolution"]
    trace = equal(graph, after)
    assert 0.05 < trace.spikes["fire"].mean() < 0.6
    equal(graph, stock_read(after))


@pytest.mark.parametrize("name", [name for name in EXACT if "same" not in name])
def test_stock_nir_does_not_read_them_before(name: str, stock_read: Any) -> None:
    """The negative control. Of 'same' nir knows that the size stays."""
    with pytest.raises((ValueError, AssertionError)):
        stock_read(convolution(**EXACT[name]))


def test_zeros_around_the_kernel_without_other_padding_would_be_wrong() -> None:
    graph = convolution((3, 5), (6, 7), padding=(0, 2))
    after, _ = plain_convolutions(graph)
    assert after.nodes["conv"]["padding"] == ((1, 1), (2, 2))
    naive = after.to_nir()
    naive.nodes["conv"].padding = (0, 2)
    with pytest.raises(Exception, match=r"\(4, 2, 7\)"):
        normalise(naive)


def test_more_weights_than_fit_into_memory_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = convolution((3, 3), (6, 7), groups=4, padding=1)
    monkeypatch.setattr(module, "MAX_WEIGHTS", 4 * 4 * 9)
    plain_convolutions(graph)
    monkeypatch.setattr(module, "MAX_WEIGHTS", 4 * 4 * 9 - 1)
    with pytest.raises(ExportError, match=r"needs 144 weights, .* limit is 143.* the node 'conv' \(Conv2d\) 144"):
        plain_convolutions(graph)


def test_names_of_new_nodes_do_not_collide(make: Make, equal: Any) -> None:
    """A wide map that is picked from gets a name of its own; the old name stays with what it named."""
    graph = convolution((4, 1), (1, 5), padding=(3, 0))
    nodes = {**graph.to_nir().nodes, "conv.wide": nir.Scale(np.full((4, 4, 5), 2.0))}
    edges = [("input", "conv"), ("conv", "conv.wide"), ("conv.wide", "fire"), ("fire", "output")]
    graph = make(nodes, edges)
    after, _ = plain_convolutions(graph)
    assert "conv.wide_" in after.nodes
    equal(graph, after)


def test_a_recurrent_convolution(make: Make, equal: Any, stock_read: Any) -> None:
    """A wide map inside a feedback loop, whose in-edges keep their order."""
    weight = np.random.default_rng(3).integers(-2, 3, (2, 1, 2, 1)).astype(np.float32)
    size = np.array([2, 2, 3])
    nodes = {
        "input": nir.Input(np.array([2, 1, 3])),
        "rows": nir.Conv2d(None, weight, (1, 1), (1, 0), (1, 1), 2, np.ones(2, np.float32)),
        "fire": nir.LIF(*(np.full(size, n) for n in (2.0, 1.0, 0.0, 1.0, 0.0))),
        "late": nir.Delay(np.ones(size)),
        "back": nir.Conv2d(None, np.ones((2, 1, 2, 1), np.float32), (1, 1), (0, 0), (1, 1), 2, np.zeros(2, np.float32)),
        "output": nir.Output(size),
    }
    edges = [
        ("input", "rows"),
        ("back", "rows"),
        ("rows", "fire"),
        ("fire", "late"),
        ("late", "back"),
        ("fire", "output"),
    ]
    graph = make(nodes, edges, dt=1)
    after, _ = plain_convolutions(graph)
    assert after.sources["rows.wide"] == ("input", "back")
    trace = equal(graph, after)
    assert 0.05 < trace.spikes["fire"].mean() < 0.7
    equal(graph, stock_read(after))


def test_graphs_that_are_plain_already_are_returned_as_they_are() -> None:
    graph = convolution((3, 3), (6, 7), padding=1, stride=2)
    after, notes = plain_convolutions(graph)
    assert (after.nodes, notes) == (graph.nodes, ())


SIDES = st.integers(1, 4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kernel=st.tuples(SIDES, SIDES),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)) | st.just("same"),
    groups=st.sampled_from([1, 2, 4]),
)
def test_any_convolution_is_equal(
    kernel: tuple[int, int], size: tuple[int, int], stride: Any, dilation: Any, padding: Any, groups: int, equal: Any
) -> None:
    if padding == "same":
        stride = (1, 1)
    try:
        graph = convolution(kernel, size, stride=stride, dilation=dilation, padding=padding, groups=groups)
    except Exception:  # noqa: BLE001 - the window is larger than the map
        return
    after, _ = plain_convolutions(graph)
    random = np.random.default_rng(1)
    equal(graph, after, {"input": random.integers(-2, 5, (3, 2, 4, *size)).astype(float)})


@settings(max_examples=300, deadline=None)
@given(
    taps=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    rows=st.integers(1, 12),
    dilation=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    stride=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    before=st.integers(0, 9),
)
def test_a_form_is_found_for_all_sides(
    taps: tuple[int, int], rows: int, dilation: tuple[int, int], stride: tuple[int, int], before: int
) -> None:
    """Only sides of different parity may need a second convolution; it is a small one."""
    axes = [
        Axis(rows, k, d, s, before, last // s + 1)
        for k, d, s in zip(taps, dilation, stride, strict=True)
        if (last := rows + 2 * before - d * (k - 1) - 1) >= 0
    ]
    if len(axes) == 2:
        found = square(*axes)
        assert (found.cut is None) or (taps[0] - taps[1]) % 2
        assert (taps[0] - taps[1]) % 2 or found.taps == max(taps)
        assert found.taps <= 2 * max(taps) + 4 * max(stride)


def test_the_judge_of_these_tests_tells_a_shifted_kernel() -> None:
    graph = convolution((3, 1), (6, 7))
    shifted = graph.to_nir()
    shifted.nodes["conv"].weight = shifted.nodes["conv"].weight[:, :, ::-1].copy()
    x = np.random.default_rng(0).integers(-2, 5, (16, 16, 4, 6, 7)).astype(float)
    one, two = (reference.run(g, x, record=["fire"]).spikes["fire"] for g in (graph, normalise(shifted)))
    assert (one != two).any()
