"""What the certificate says of single graphs: it names the node, counts the bits, and refuses what it does not know."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

import zoo
from tests.conftest import lively_detector
from tests.equivalence.graphs import Sketch, full, start
from zoo.errors import InvalidInputError
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
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        certify(dense([[1.0]]).graph(), **arguments)


def test_an_input_range_must_ascend() -> None:
    with pytest.raises(InvalidInputError, match="finite and ascend"):
        InputGrid(0, 1.0, 0.0)


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
