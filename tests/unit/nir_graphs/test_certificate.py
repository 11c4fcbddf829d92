"""What the certificate says of single graphs: it names the node, counts the bits, and refuses what it does not know."""

from __future__ import annotations

import json
import re
from typing import Any

import nir
import numpy as np
import pytest

import zoo
from tests.conftest import lively_detector
from tests.equivalence.graphs import Sketch, full, start
from zoo.errors import InvalidGraphError, InvalidInputError
from zoo.nir_graphs import reference
from zoo.nir_graphs.certificate import PIXELS, SPIKES, InputGrid, certify


def dense(weight: Any, *, threshold: float = 0.5, bias: float = 0.0) -> Sketch:
    """Input -> fc -> fire -> out."""
    matrix = np.atleast_2d(np.asarray(weight, float))
    sketch = start((matrix.shape[1],))
    sketch.add(nir.Affine(matrix, full(bias, matrix.shape[:1])), ["input"], matrix.shape[:1], "fc")
    sketch.like(nir.Threshold(full(threshold, matrix.shape[:1])), ["fc"], "fire")
    sketch.output(["fire"], "out")
    return sketch


def test_bits_are_those_of_the_largest_partial_sum() -> None:
    found = certify(dense([[3, 4, 1], [-8, 1, 0]]).graph(), inputs=SPIKES)
    assert found.certified
    assert found.nodes["fc"].bits == pytest.approx(3)  # 3 + 4 + 1 and -8 take three bits each
    assert found.bits == pytest.approx(3)
    assert found.tightest == "fc"
    assert found.margin == 0.5
    assert found.time_steps is None
    assert found.nodes["fc"].low == pytest.approx(-8)
    assert found.nodes["fc"].high == pytest.approx(8)


def test_the_least_bit_counts_not_the_largest_number() -> None:
    assert certify(dense([[1024.0, 2048.0]]).graph(), inputs=SPIKES).nodes["fc"].bits < 2
    assert certify(dense([[1024.0, 2.0**-10]]).graph(), inputs=SPIKES).nodes["fc"].bits > 20


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 24), ("float64", 53)])
def test_the_wall_is_where_the_mantissa_ends(dtype: str, bits: int) -> None:
    assert certify(dense([[2.0 ** (bits - 1), 1]]).graph(), dtype=dtype, inputs=SPIKES).certified
    beyond = certify(dense([[2.0**bits, 1]]).graph(), dtype=dtype, inputs=SPIKES)
    assert not beyond.certified
    assert beyond.why[0] == (f"node 'fc' (Affine) may meet sums of {bits}.0 bits, more than the {bits} of {dtype}")
    assert "not certified" in beyond.summary()


def test_partial_sums_beyond_the_wall_count_even_where_the_whole_sum_is_small() -> None:
    big = 2.0**24
    found = certify(dense([[big, 1, -big]]).graph(), inputs=SPIKES)
    assert not found.certified
    x = np.ones((1, 1, 3))
    assert reference.run(dense([[big, 1, -big]]).graph(), x).outputs["out"].item() == 1
    naive = np.float32(0)
    for term in (big, 1, -big):
        naive += np.float32(term)
    assert naive == 0  # float32 loses the one: another spike


@pytest.mark.parametrize(("threshold", "margin"), [(0.5, 0.5), (0.25, 0.25), (1.0, 0.0), (2.75, 0.25)])
def test_margin(threshold: float, margin: float) -> None:
    assert certify(dense([[1, 2, -1]], threshold=threshold).graph(), inputs=SPIKES).margin == margin


def test_a_threshold_out_of_reach_needs_no_margin() -> None:
    found = certify(dense([[1, 2]], threshold=50.0).graph(), inputs=SPIKES)
    assert found.margin is None
    assert found.nodes["fire"].high == 0  # it never fires
    assert "nothing fires" in found.summary()


def lif(tau: float, *, steps: int, threshold: float = 1.0, **fields: float) -> Any:
    sketch = start((2,))
    given = {"tau": tau, "r": 1.0, "v_leak": 0.0, "v_threshold": threshold, "v_reset": 0.0, **fields}
    sketch.like(nir.LIF(**{name: full(value, (2,)) for name, value in given.items()}), ["input"], "lif")
    sketch.output(["lif"], "out")
    return certify(sketch.graph(), inputs=SPIKES, time_steps=steps, dt=1)


def test_a_decay_of_one_half_costs_a_bit_per_step() -> None:
    few, many = (lif(2.0, steps=steps).nodes["lif"].bits for steps in (4, 12))
    assert many - few == pytest.approx(8, abs=0.3)
    assert lif(2.0, steps=16).certified
    assert not lif(2.0, steps=40).certified


def test_a_decay_of_one_quarter_costs_two() -> None:
    few, many = (lif(4.0, steps=steps).nodes["lif"].bits for steps in (4, 8))
    assert many - few == pytest.approx(8, abs=0.7)


def test_numbers_that_are_none_of_the_type_are_named() -> None:
    found = lif(3.0, steps=2)
    assert not found.certified
    assert "node 'lif' (LIF) has a dt / tau that is no number of float32" in found.why[0]
    assert "weight that is no number of float32" in certify(dense([[0.1]]).graph(), inputs=SPIKES).why[0]


def _scaled(*scales: Any, shape: tuple[int, ...] = (2, 2), threshold: float = 33566720.0) -> Any:
    """Input -> Scale -> Scale -> Threshold."""
    sketch = start(shape)
    last = "input"
    for index, values in enumerate(scales):
        last = sketch.like(nir.Scale(np.asarray(values, float)), [last], f"scale{index}")
    sketch.output([sketch.like(nir.Threshold(np.asarray(threshold)), [last], "fire")], "out")
    return sketch.graph()


def test_a_parameter_along_the_last_axis_is_not_taken_for_channels() -> None:
    """8193 * 4097 = 33566721 takes 26 bits: float32 rounds it to the threshold, and the neuron falls silent."""
    graph = _scaled([[1], [8193]], [[4097, 1]])
    assert np.float32(8193) * np.float32(4097) == np.float32(33566720)
    found = certify(graph, inputs=SPIKES)
    assert not found.certified
    assert found.bits == pytest.approx(np.log2(33566721))
    assert found.nodes["fire"].high == 1
    double = certify(graph, inputs=SPIKES, dtype="float64")
    assert double.certified
    assert reference.run(graph, np.ones((1, 1, 2, 2))).outputs["out"].sum() == 1


def test_a_parameter_that_may_mean_either_axis_is_refused() -> None:
    with pytest.raises(InvalidGraphError, match=r"'scale1' .* is ambiguous for values of shape"):
        certify(_scaled([[1], [8193]], [4097, 1]), inputs=SPIKES)


@pytest.mark.parametrize(
    "values", [8193.0, [8193.0], [[8193.0]], [[1.0], [8193.0]], [[8193.0, 1.0]], [[1, 2], [3, 8193.0]]]
)
def test_every_form_of_a_parameter_counts_its_largest_number(values: Any) -> None:
    found = certify(_scaled(values), inputs=SPIKES)
    assert found.bits == pytest.approx(np.log2(8193))


def test_elements_that_never_meet_do_not_add_their_bits() -> None:
    """2^20 in one column, 2^-10 in the other: no element takes more than one bit."""
    assert certify(_scaled([[2.0**20, 2.0**-10]], threshold=0.3), inputs=SPIKES).bits == 0
    summed = dense([[2.0**20, 2.0**-10]])
    assert certify(summed.graph(), inputs=SPIKES).bits > 30


def test_inputs_must_be_numbers_of_the_type() -> None:
    found = certify(_scaled(1.0), inputs=InputGrid(-8, 0.0, 2.0**17))
    assert found.why[0] == "node 'input' (Input) may be fed numbers of 25.0 bits, more than the 24 of float32"


@pytest.mark.parametrize(
    ("scale", "grid", "reason"),
    [
        (2.0**104, InputGrid(20, 0.0, 2.0**24), "may meet numbers up to 3.4e\\+38, beyond the largest of float32"),
        (2.0**-100, InputGrid(-30, 0.0, 1.0), "works on a grid of 2^-130, below the normal numbers of float32"),
        (2.0**-130, SPIKES, "has a scale whose last bit is 2^-130, below the normal numbers of float32"),
        (1e300, SPIKES, "has a scale that is no number of float32"),
    ],
)
def test_numbers_outside_the_range_of_the_type(scale: float, grid: InputGrid, reason: str) -> None:
    found = certify(_scaled(scale), inputs=grid)
    assert any(re.search(reason.replace("^", "\\^"), why) for why in found.why), found.why
    assert certify(_scaled(scale), inputs=grid, dtype="float64").certified


def test_thresholds_next_to_zero_are_refused() -> None:
    """Some processors take the number below 0 for zero, and 0 > -1.4e-45 would no longer hold."""
    below = np.nextafter(np.float32(0), np.float32(-1))
    found = certify(_scaled(1.0, threshold=float(below)), inputs=SPIKES)
    assert "has a threshold whose last bit is 2^-149" in found.why[0]


def test_numbers_beyond_float64_stay_valid_json() -> None:
    graph = _scaled(1e300, 1e300)
    found = certify(graph, inputs=InputGrid(0, -10.0, 10.0), dtype="float64")
    assert not found.certified
    json.loads(json.dumps(found.to_dict(), allow_nan=False))


def test_a_neuron_that_always_fires_is_always_at_its_reset_potential() -> None:
    found = lif(2.0, steps=50, threshold=-5.0, v_reset=3.0)
    assert found.certified
    assert found.nodes["lif"].low == found.nodes["lif"].high == 1
    assert found.nodes["lif"].margin is None


def test_a_silent_neuron_stays_below_its_threshold() -> None:
    """IF with a gain of 1: after the reset, 2 is the largest number below the threshold of 2.5, so 3 is the largest at all."""
    sketch = start((1,))
    sketch.like(nir.IF(r=full(1, (1,)), v_threshold=full(2.5, (1,)), v_reset=full(0, (1,))), ["input"], "if")
    sketch.output(["if"], "out")
    found = certify(sketch.graph(), inputs=SPIKES, time_steps=1000)
    assert found.certified
    assert found.bits == pytest.approx(np.log2(3))
    assert found.margin == 0.5


def _delayed(steps: Any) -> Any:
    """x + what a Delay of x + itself gives back."""
    sketch = start((2,))
    sketch.like(nir.Scale(full(1, (2,))), ["input"], "sum")
    sketch.like(nir.Delay(np.asarray(steps, float)), ["sum"], "delay")
    sketch.edges.append(("delay", "sum"))
    sketch.output(["sum"], "out")
    return sketch.graph()


def test_each_element_is_delayed_by_its_own_steps() -> None:
    """After eight steps the sum has been doubled seven times, or, delayed by four steps, once: eight and two units."""
    found = {steps: certify(_delayed(steps), inputs=SPIKES, time_steps=8, dt=1) for steps in ((1, 1), (4, 4), (1, 4))}
    assert [found[steps].nodes["sum"].high for steps in found] == [8, 2, 8]
    trace = reference.run(_delayed((1, 4)), np.ones((8, 1, 2)), dt=1)
    assert trace.outputs["out"].max((0, 1)).tolist() == [8, 2]


def test_long_loops_stop_where_nothing_changes_any_more() -> None:
    sketch = start((2,))
    sketch.like(nir.Threshold(full(0.5, (2,))), ["input"], "fire")
    sketch.like(nir.Delay(full(3, (2,))), ["fire"], "delay")
    sketch.edges.append(("delay", "fire"))
    sketch.output(["fire"], "out")
    found = certify(sketch.graph(), inputs=SPIKES, time_steps=10**9, dt=1)
    assert found.certified
    assert found.time_steps == 10**9


def test_time_constants_need_a_step() -> None:
    sketch = start((2,))
    sketch.like(nir.LI(tau=full(2e-3, (2,)), r=full(1, (2,)), v_leak=full(0, (2,))), ["input"], "li")
    sketch.output(["li"], "out")
    graph = nir.NIRGraph(sketch.nodes, sketch.edges, type_check=False)
    with pytest.raises(InvalidInputError, match=r"dt=.*--dt.*tau 0.002 of the node 'li'"):
        certify(graph, inputs=SPIKES, time_steps=2)
    found = certify(graph, inputs=SPIKES, time_steps=2, dt=1e-3)
    assert found.certified
    assert found.nodes["li"].high == 0.75


def test_the_error_for_unknown_inputs_says_what_to_do_in_python_and_on_the_command_line() -> None:
    with pytest.raises(InvalidInputError, match=r"inputs=InputGrid\(exponent, low, high\).*--input EXPONENT,LOW,HIGH"):
        certify(_scaled(1.0))


def test_a_duplicate_edge_counts_twice() -> None:
    sketch = start((2,))
    sketch.like(nir.Scale(full(1, (2,))), ["input", "input"], "sum")
    sketch.output(["sum"], "out")
    assert certify(sketch.graph(), inputs=InputGrid(0, 0.0, 15.0)).bits == pytest.approx(np.log2(30))


def test_several_inputs_have_grids_of_their_own() -> None:
    sketch = start((2,))
    sketch.add(nir.Input({"input": np.array((2,))}), [], (2,), "other")
    sketch.like(nir.Scale(full(1, (2,))), ["input", "other"], "sum")
    sketch.output(["sum"], "out")
    found = certify(sketch.graph(), inputs={"other": InputGrid(-4, 0.0, 1.0), "input": InputGrid(3, -8.0, 0.0)})
    assert found.nodes["sum"].grid == -4
    assert (found.nodes["sum"].low, found.nodes["sum"].high) == (-8, 1)
    assert found.bits == pytest.approx(7)


def test_memory_needs_a_number_of_steps() -> None:
    sketch = start((2,))
    sketch.like(nir.IF(r=full(1, (2,)), v_threshold=full(1, (2,)), v_reset=full(0, (2,))), ["input"], "if")
    sketch.output(["if"], "out")
    with pytest.raises(InvalidInputError, match="how many steps"):
        certify(sketch.graph(), inputs=SPIKES)


def test_a_soft_reset_loop_is_followed_through_its_delay() -> None:
    sketch = start((2,))
    sketch.output(sketch.soft_reset(["input"], 2, 0.5), "out")
    few, many = (certify(sketch.graph(), inputs=SPIKES, time_steps=steps, dt=1) for steps in (4, 40))
    assert few.certified
    assert few.margin is not None
    assert not many.certified
    assert any("Delay" in reason or "Scale" in reason for reason in many.why)


def test_average_pools_of_three_by_three_divide_by_no_power_of_two() -> None:
    def pooled(size: int) -> nir.NIRGraph:
        sketch = start((1, 6, 6))
        one = sketch.like(nir.Threshold(full(0.5, (1, 6, 6))), ["input"])
        shape = (1, 6 // size, 6 // size)
        sketch.add(nir.AvgPool2d(np.full(2, size), np.full(2, size), np.zeros(2, int)), [one], shape, "pool")
        sketch.output(["pool"], "out")
        return sketch.graph()

    assert certify(pooled(2), inputs=SPIKES).certified
    assert "divides by 9" in certify(pooled(3), inputs=SPIKES).why[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float16"}, "float32 or float64"),
        ({}, "what may be fed into this graph is unknown"),
        ({"inputs": {"elsewhere": SPIKES}}, "the graph has the inputs input"),
        ({"inputs": SPIKES, "time_steps": 0}, "positive whole number, got 0"),
        ({"inputs": SPIKES, "time_steps": 2.5}, "positive whole number, got 2.5"),
        ({"inputs": SPIKES, "dt": -1}, "dt must be a positive number"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        certify(dense([[1.0]]).graph(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1.0, 0.0), "finite and ascend"),
        ((0, 0.0, np.inf), "finite and ascend"),
        ((0.5, 0.0, 1.0), "whole number, got 0.5"),
        ((2000, 0.0, 1.0), "must lie in -1074..1023"),
        ((0, 0.25, 0.75), "no multiple of 2\\^0 lies in 0.25..0.75"),
    ],
)
def test_bad_input_grids(arguments: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        InputGrid(*arguments)


def test_an_untouched_float_model_is_refused_and_its_nodes_are_named() -> None:
    found = zoo.certify(lively_detector().fuse(merge=True))
    assert not found.certified
    assert len(found.why) > 30
    assert any("backbone.stem" in reason and "bits, more than the 24 of float32" in reason for reason in found.why)
    assert found.to_dict()["certified"] is False


def test_float_pictures_are_not_taken_for_multiples_of_1_256() -> None:
    """An unquantised detector divides by 255: its certificate must not assume another grid."""
    found = zoo.certify(lively_detector().fuse(merge=True), dtype="float64")
    assert next(iter(found.inputs.values())).exponent == -31
    numbers = np.arange(256, dtype=np.float32) / np.float32(255)
    units = numbers.astype(np.float64) * 2.0**31
    assert np.array_equal(units, np.round(units))
    assert not np.array_equal(units / 2, np.round(units / 2))


def test_pixels_are_what_a_quantised_detector_is_fed() -> None:
    from zoo.detectors.base import folded_input

    detector = zoo.quantize(lively_detector())
    images = (np.arange(256, dtype=np.float32) / 255)[None, None, :, None]
    import torch

    frames = folded_input(torch.from_numpy(images).expand(1, 3, 256, 32), detector.config).double().numpy()
    assert (frames * 256 == np.round(frames * 256)).all()
    assert frames.max() == PIXELS.high
    assert len(np.unique(frames)) == 256
