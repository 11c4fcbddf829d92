"""Fused kernels: found where they apply, not where they do not, and always with the bits of node-wise execution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import nir
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.equivalence.graphs import Sketch, full, start
from zoo.adapters.base import get_backend
from zoo.adapters.executor import TorchRunnable
from zoo.adapters.fusions import FUSIONS
from zoo.adapters.fusions.bank import BankUnit, Levels
from zoo.adapters.fusions.matching import Match, Parts, Scope
from zoo.adapters.fusions.placement import Placement
from zoo.adapters.fusions.pooled_bank import PoolUnit
from zoo.adapters.fusions.rearrangement import Rearrangement
from zoo.adapters.fusions.soft_reset import SoftResetKernel, SoftResetUnit
from zoo.adapters.units import Layer, Loop, Unit
from zoo.layers.counting import evenly_spaced
from zoo.nir_graphs.axis_maps import apply_along, repeat_rows
from zoo.nir_graphs.values import Builder, Segment

DTYPES = [torch.float32, torch.float64]


def build(sketch: Sketch, dtype: torch.dtype = torch.float32, *, fuse: bool = True) -> TorchRunnable:
    runnable = get_backend("norse").build(sketch.graph(), dtype=dtype, fuse=fuse)
    assert isinstance(runnable, TorchRunnable)
    return runnable


def kinds(runnable: TorchRunnable) -> set[type[Unit]]:
    return {type(unit) for unit in runnable.plan()}


def require_same_bits(sketch: Sketch, x: Tensor) -> None:
    """Outputs alone and everything recorded, in both types, fused and node by node."""
    for dtype in DTYPES:
        fused, single = build(sketch, dtype), build(sketch, dtype, fuse=False)
        for node, output in single(x.to(dtype)).items():
            assert torch.equal(fused(x.to(dtype))[node], output)
        for record in ("all", list(sketch.nodes), *([name] for name in sketch.nodes)):  # one may be hidden in a kernel
            a, b = (runnable.run(x.to(dtype), record=record) for runnable in (fused, single))
            assert a.spikes.keys() == b.spikes.keys()
            assert a.potentials.keys() == b.potentials.keys()
            for node in b.outputs:
                np.testing.assert_array_equal(a.outputs[node], b.outputs[node], err_msg=node)
            for node in b.spikes:
                np.testing.assert_array_equal(a.spikes[node], b.spikes[node], err_msg=node)
            for node in b.potentials:
                np.testing.assert_array_equal(a.potentials[node], b.potentials[node], err_msg=node)


def hard_values(dtype: torch.dtype, around: list[float]) -> Tensor:
    """Numbers at, just below and just above the given ones, tiny and huge ones, and many in between."""
    exact = torch.tensor(around, dtype=torch.float64).to(dtype)
    far = torch.tensor([0.0, -0.0, 1e-40, -1e-40, 1e-30, 2.0**23, 2.0**24, 2.0**25, 3e38, -3e38], dtype=dtype)
    up, down = (torch.nextafter(exact, torch.full_like(exact, side)) for side in (torch.inf, -torch.inf))
    many = torch.randn(4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype) * 3
    return torch.cat([exact, up, down, far, many])


# banks


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("thresholds", "is_even"),
    [
        ([0.5, 1.5, 2.5, 3.5], True),
        ([0.501953125, 1.501953125, 2.501953125], True),
        ([4.0, 5.0, 6.0], True),
        ([0.1, 1.1, 2.1], False),  # 0.1 + 1 only rounds to 1.1
        ([-1.0, 0.0, 1.0], False),  # 1e-30 + 1 rounds to 1
        ([0.5, 1.5, 3.5], False),
        ([0.5, float(np.nextafter(np.float32(1.5), np.float32(0))), 2.5], False),
        ([2.0**22 + 0.5, 2.0**22 + 1.5], False),
    ],
)
def test_count_is_the_sum_of_its_levels(thresholds: list[float], is_even: bool, dtype: torch.dtype) -> None:
    count = Levels([np.array(t) for t in thresholds], dtype, None)
    if dtype == torch.float32 or is_even:  # float64 has room for more
        assert count.is_even is is_even
    x = hard_values(dtype, thresholds)
    expected = sum((x > threshold).to(dtype) for threshold in count.thresholds)
    assert torch.equal(count(x), torch.as_tensor(expected))
    assert 0 < count(x).mean() < len(thresholds)


def test_counting_by_ceiling_would_be_wrong_where_it_is_not_used() -> None:
    x = torch.tensor([1e-30, 1.1000001], dtype=torch.float32)
    naive = x.sub(-1.0).ceil().clamp(0, 3)
    count = Levels([np.array(t) for t in (-1.0, 0.0, 1.0)], torch.float32, None)
    assert naive[0] != count(x)[0] == 2
    assert evenly_spaced([], torch.float32) is None


def banks(sketch: Sketch) -> None:
    """Levels summed by a conv (all, in order), by a Scale (reversed, then more), and one alone; per-channel thresholds."""
    shape = (4, 5, 5)
    current = sketch.conv(["input"], 4, padding=(1, 1))
    levels = sketch.bank(["input", current])
    sketch.output([sketch.conv(levels, 3)], "conv")
    sketch.output([sketch.like(nir.Scale(full(0.3, shape)), [*levels[::-1], current, "input"])], "scaled")
    sketch.output([levels[1]], "alone")
    sketch.output([sketch.like(nir.Scale(full(0.3, shape)), [current, *levels])], "sum behind")
    per_channel = [
        sketch.like(nir.Threshold(np.broadcast_to(t, shape)), [current])
        for t in (np.array([0.1, 0.4, -0.2, 0.3]).reshape(4, 1, 1), np.array([0.6, 0.5, 0.3, 1.0]).reshape(4, 1, 1))
    ]
    sketch.output([sketch.conv([*levels, *per_channel], 2)], "two banks")


def pools(sketch: Sketch) -> None:
    """SPPF: max-pools of a bank, one behind the other, as well as of one level and with other parameters."""
    levels = sketch.bank([sketch.conv(["input"], 4, padding=(1, 1))])
    stages = [levels]
    for _ in range(3):
        summed = [
            sketch.like(nir.SumPool2d(np.array([5, 5]), np.array([1, 1]), np.array([2, 2])), [level])
            for level in stages[-1]
        ]
        stages.append([sketch.like(nir.Threshold(full(0.5, (4, 5, 5))), [pool]) for pool in summed])
    for index, stage in enumerate(stages):
        sketch.output([sketch.conv(stage, 2)], f"stage{index}")
    sketch.output([stages[2][1]], "level")
    odd = sketch.add(nir.SumPool2d(np.array([2, 3]), np.array([2, 1]), np.array([1, 1])), [levels[0]], (4, 3, 5))
    sketch.output([sketch.like(nir.Threshold(full(0.5, (4, 3, 5))), [odd])], "odd")


def loops(sketch: Sketch) -> None:
    """Soft-reset loops, one of them read by everything, one with other thresholds, one with max-pools behind."""
    first = sketch.soft_reset(["input"], 4, 0.25)
    second = sketch.soft_reset([sketch.conv(first, 4, padding=(1, 1)), "input"], 2, 0.9, theta=0.7)
    sketch.output([sketch.conv([*first, *second], 2)], "both")
    sketch.output([first[2]], "alone")
    summed = [
        sketch.like(nir.SumPool2d(np.array([3, 3]), np.array([1, 1]), np.array([1, 1])), [level]) for level in first
    ]
    sketch.output([sketch.conv([sketch.like(nir.Threshold(full(0.5, (4, 5, 5))), [s]) for s in summed], 2)], "pooled")


def rearrangements(sketch: Sketch) -> None:
    """Nearest upsampling, in the exporter's form, parts of a concatenation, and a shift."""
    builder = Builder()
    segment = Segment(("input",), (4, 5, 5))
    for axis in (0, 1):
        segment = apply_along(builder, f"up{axis}.", repeat_rows(5, 2, 4), axis, segment)
    sketch.nodes |= builder.nodes
    sketch.edges += builder.edges
    sketch.shapes[segment.nodes[0]] = segment.shape
    upsampled = segment.nodes[0]
    parts = []
    for offset in (0, 4):
        weight = np.zeros((8, 4, 1, 1))
        weight[offset + np.arange(4), np.arange(4)] = 1
        source = upsampled if offset else sketch.like(nir.Scale(full(3, (4, 10, 10))), [upsampled])
        node = nir.Conv2d(None, weight, 1, 0, 1, 1, np.zeros(8))
        parts.append(sketch.add(node, [source], (8, 10, 10)))
    sketch.output(parts, "concatenated")
    shift = "input"
    for tap in (0, 2):  # one down, one right: not an upsampling
        weight = np.zeros((4, 1, 3, 3))
        weight[:, 0, tap // 2, 1 - tap // 2] = 1
        shift = sketch.add(nir.Conv2d(None, weight, 1, 1, 1, 4, np.zeros(4)), [shift], (4, 5, 5))
    sketch.output([shift], "shifted")


PATTERNS: dict[str, tuple[Callable[[Sketch], None], set[type]]] = {
    "banks": (banks, {BankUnit}),
    "pools": (pools, {BankUnit, PoolUnit}),
    "loops": (loops, {SoftResetUnit, PoolUnit}),
    "rearrangements": (rearrangements, {Placement, Rearrangement}),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_fused_kernels_are_used_and_have_the_bits_of_their_nodes(name: str) -> None:
    make, expected = PATTERNS[name]
    sketch = start((4, 5, 5), seed=4)
    make(sketch)
    runnable = build(sketch)
    assert expected <= kinds(runnable) | {type(module) for module in runnable.modules()}
    assert not kinds(build(sketch, fuse=False)) & {BankUnit, PoolUnit, SoftResetUnit}
    x = torch.randn((16, 3, 4, 5, 5), generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2
    require_same_bits(sketch, x)
    require_same_bits(sketch, (x * 2).round() / 2)  # ties


def test_a_sum_behind_an_analog_term_is_not_replaced_by_a_count() -> None:
    """(f + s0) + s1 is not f + (s0 + s1): see facts/export-costs.md."""
    sketch = start((4, 5, 5))
    levels = sketch.bank(["input"])
    scaled = sketch.like(nir.Scale(full(0.1, (4, 5, 5))), ["input"])
    sketch.output([scaled, *levels], "out")
    (output,) = (unit for unit in build(sketch).plan() if isinstance(unit, Layer) and unit.name == "out")
    assert list(output.reads) == [scaled, *levels]
    x = torch.rand(2, 4, 4, 5, 5) * 5
    single = build(sketch, fuse=False)(x)["out"]
    f = torch.tensor(0.1) * x
    assert not torch.equal(f + (x - 0.5).ceil().clamp(0, 4), single)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_resets_are_subtracted_at_once_only_where_that_is_exact(dtype: torch.dtype) -> None:
    sketch = start((1,))
    sketch.output(sketch.soft_reset(["input"], 4, 0.75), "out")
    (cell,) = (module for module in build(sketch, dtype).modules() if isinstance(module, SoftResetKernel))
    assert cell.subtracts_count
    huge = 2.0**25 if dtype == torch.float32 else 2.0**54
    for values in (hard_values(dtype, [0.5, 1.5, 2.5, 3.5]).clamp(-1e6, 1e6), torch.tensor([huge, 1.0], dtype=dtype)):
        require_same_bits(sketch, values.double().view(1, -1, 1).repeat(3, 1, 1))
        count = cell.levels(values)
        rest = values
        for threshold in cell.levels.thresholds:
            rest = rest + -1.0 * (values > threshold).to(dtype)
        assert torch.equal(values - count, rest) is bool(values.max() < huge)


def potential_read_outside(sketch: Sketch, potential: str, _delay: str) -> None:
    sketch.output([potential], "potential")


def longer_delay(sketch: Sketch, _potential: str, delay: str) -> None:
    sketch.nodes[delay].delay = full(2, (4, 5, 5))


def scaled_potential(sketch: Sketch, potential: str, _delay: str) -> None:
    sketch.nodes[potential].scale = full(2, (4, 5, 5))


def second_way_back(sketch: Sketch, potential: str, delay: str) -> None:
    sketch.edges.append((delay, potential))


def feedback_first_in_the_sum(sketch: Sketch, _potential: str, _delay: str) -> None:
    sketch.edges.insert(0, sketch.edges.pop())


@pytest.mark.parametrize(
    "spoil", [potential_read_outside, longer_delay, scaled_potential, second_way_back, feedback_first_in_the_sum]
)
def test_loops_that_are_not_canonical_are_stepped_node_by_node(spoil: Callable[[Sketch, str, str], None]) -> None:
    sketch = start((4, 5, 5))
    levels = sketch.soft_reset(["input"], 2, 0.5)
    potential, delay = (next(n for n in sketch.nodes if n.startswith(kind)) for kind in ("Scale", "Delay"))
    spoil(sketch, potential, delay)
    sketch.output(levels, "out")
    assert Loop in kinds(build(sketch))
    require_same_bits(sketch, torch.randn(5, 2, 4, 5, 5, dtype=torch.float64) * 2)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("size", [(6, 4), (5, 8)])
def test_upsampling_is_recognised_from_its_weights(size: tuple[int, int], factor: int) -> None:
    sketch = start((3, *size))
    builder, segment = Builder(), Segment(("input",), (3, *size))
    for axis in (0, 1):
        segment = apply_along(builder, f"up{axis}.", repeat_rows(size[axis], factor, segment.shape[0]), axis, segment)
    sketch.nodes |= builder.nodes
    sketch.edges += builder.edges
    sketch.shapes[segment.nodes[0]] = segment.shape
    sketch.output(segment.nodes, "out")
    runnable, x = build(sketch), torch.randn(2, 2, 3, *size)
    expected = F.interpolate(x.flatten(0, 1), scale_factor=float(factor), mode="nearest")
    assert torch.equal(runnable(x)["out"].flatten(0, 1), expected)
    (chain,) = (module for module in runnable.modules() if isinstance(module, Rearrangement))
    assert chain.enlarges is (factor != 3)  # others are picked value by value
    assert (chain.index is None) is chain.enlarges
    assert not chain.layers
    require_same_bits(sketch, x.double())


@pytest.mark.parametrize("other", ["a/placed", "a.placed", "a/chain of 2", "\0sum of 2 from a", "sum", "a + b"])
def test_names_of_nodes_never_meet_those_of_kernels(other: str) -> None:
    """A part of a concatenation, a rearrangement and a bank, next to nodes named as a kernel could be."""
    sketch = start((2, 3, 3), seed=8)
    weight = np.zeros((4, 2, 1, 1))
    weight[[1, 2], [0, 1]] = 1
    placed = sketch.add(nir.Conv2d(None, weight, 1, 0, 1, 1, np.zeros(4)), ["input"], (4, 3, 3), "a")
    plain = nir.Conv2d(None, sketch.weights(4, 2, 1, 1), 1, 0, 1, 1, sketch.weights(4))
    sketch.output([placed, sketch.add(plain, ["input"], (4, 3, 3), other)], "out")
    levels = [sketch.like(nir.Threshold(full(k + 0.5, (4, 3, 3))), [other], f"level{k}") for k in range(2)]
    sketch.output([sketch.conv(levels, 2, (1, 1))], "counted")
    sketch.output([sketch.conv(levels, 3, (1, 1))], "counted again")
    swapped = np.eye(4)[::-1, :, None, None].copy()
    for name in ("first", f"first/{other}"):
        placed = sketch.add(nir.Conv2d(None, swapped, 1, 0, 1, 1, np.zeros(4)), [placed], (4, 3, 3), name)
    sketch.output([placed], "swapped")
    assert {Placement, Rearrangement} <= {type(module) for module in build(sketch).modules()}
    require_same_bits(sketch, torch.randn(4, 3, 2, 3, 3, dtype=torch.float64) * 2)


def test_a_fusion_takes_a_file_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy one: two Scales in a row whose numbers are powers of two run as one."""

    @dataclass(frozen=True, eq=False)
    class Pair(Match):
        factor: float = 1.0
        source: str = ""

        def unit(self, parts: Parts) -> Unit:
            terms = parts.terms(parts.graph.sources[self.source])
            return Layer(terms, self.makes[0], parts.keep(self, lambda: Gain(self.factor)))

    class Gain(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    def find_pairs(scope: Scope) -> list[Pair]:
        graph, found = scope.graph, []
        for name in graph.names(nir.Scale):
            (before, *_) = graph.sources[name]
            if graph.sources[name] == (before,) and graph.targets[before] == (name,):
                factors = [graph.nodes[n].number("scale") for n in (before, name) if graph.nodes[n].type is nir.Scale]
                if factors == [2.0, 0.25]:
                    found.append(Pair((name,), frozenset({before}), factor=0.5, source=before))
        return found

    sketch = start((3,))
    first = sketch.like(nir.Scale(full(2, (3,))), ["input"])
    sketch.output([sketch.like(nir.Scale(full(0.25, (3,))), [first])], "out")
    single = build(sketch, fuse=False)
    assert len(single.plan()) == 3
    monkeypatch.setattr("zoo.adapters.plan.FUSIONS", (*FUSIONS, find_pairs))
    fused, x = build(sketch), torch.randn(3, 2, 3)
    assert len(fused.plan()) == 2
    assert torch.equal(fused(x)["out"], single(x)["out"])
    assert np.array_equal(fused.run(x, record=[first]).potentials[first], 2 * x.numpy())  # hidden, but can be seen


def test_a_chain_that_sums_is_run_as_it_is() -> None:
    """1 + 2 = 3: the sum of two inputs looks like a third one to a careless probe."""
    sketch = start((3, 1, 1))
    weight = np.zeros((3, 3, 1, 1))
    weight[0, 0] = weight[1, 1] = weight[2, 0] = weight[2, 1] = 1
    first = sketch.add(nir.Conv2d(None, np.eye(3)[:, :, None, None], 1, 0, 1, 1, np.zeros(3)), ["input"], (3, 1, 1))
    second = sketch.add(nir.Conv2d(None, weight, 1, 0, 1, 1, np.zeros(3)), [first], (3, 1, 1))
    sketch.output([second], "out")
    runnable = build(sketch)
    (chain,) = (module for module in runnable.modules() if isinstance(module, Rearrangement))
    x = torch.tensor([10.0, 20.0, 99.0]).view(1, 1, 3, 1, 1)
    assert runnable(x)["out"].flatten().tolist() == [10, 20, 30]
    assert len(chain.layers) == 2
