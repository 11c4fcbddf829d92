"""A certificate is never false: tried on random graphs against exact rational arithmetic.

Whatever is certified is evaluated in fractions by an evaluator that shares no code with the zoo, and again in the certified
type with every sum in random orders and every equation in several forms: all potentials, spikes and outputs are equal. No
number met on the way takes more bits than the certificate says, ranges and grids hold, and thresholds keep their distance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.nir_graphs.dyadic_graphs import Case, cases, seeded
from tests.unit.nir_graphs.exact_arithmetic import Array, Evaluation, Evaluator
from zoo.errors import InvalidGraphError
from zoo.nir_graphs import bounds, exactness, reference
from zoo.nir_graphs.bounds import FREE, Bound
from zoo.nir_graphs.certificate import Certificate, NodeCertificate, certify
from zoo.nir_graphs.nodes import FACTS


def certificate_of(case: Case) -> Certificate:
    return certify(case.graph, dtype=case.dtype, inputs=case.grids, time_steps=case.steps, dt=case.dt)


def require_sound(case: Case, seed: int) -> Certificate:
    """The whole claim of a certificate, or of its ranges where it is none."""
    found = certificate_of(case)
    if not found.certified:
        return found
    rng = np.random.default_rng(seed)
    inputs = case.inputs(rng)
    exact = Evaluator(case.graph, case.dt, object, rng).run(inputs)
    for name, node in found.nodes.items():
        assert exact.largest.get(name, 0) <= 2.0**node.bits * (1 + 1e-12), f"{name}: more than {node.bits} bits"
        require_range(exact, name, node)
        if node.kind in FIRING:
            require_margin(exact, name, node)
    rounded = Evaluator(case.graph, case.dt, case.dtype, rng).run(inputs)
    for name in found.nodes:
        require_equal(exact.values[name], rounded.values[name], name)
    for name, steps in exact.potentials.items():
        require_equal(steps, rounded.potentials[name], name)
    require_judged(case, inputs, exact)
    return found


FIRING = {kind.__name__ for kind, facts in FACTS.items() if facts.spiking}


def require_equal(exact: list[Array], other: Any, name: str) -> None:
    for step, (one, two) in enumerate(zip(exact, other, strict=True)):
        numbers = np.asarray(two, np.float64).ravel().tolist()
        assert one.ravel().tolist() == numbers, f"{name} at step {step}"


def require_judged(case: Case, inputs: dict[str, Array], exact: Evaluation) -> None:
    """The judge's float64 is exact too."""
    trace = reference.run(case.graph, inputs, dt=case.dt, record=list(case.graph.nodes))
    for name in case.graph.nodes:
        given = trace.spikes[name] if name in trace.spikes else trace.potentials[name]
        require_equal(exact.values[name], given, name)
    for name, steps in exact.potentials.items():
        require_equal(steps, trace.potentials[name], name)


def require_range(exact: Evaluation, name: str, node: NodeCertificate) -> None:
    numbers = [number for step in exact.values[name] for number in step.ravel().tolist()]
    assert node.low <= min(numbers), name
    assert max(numbers) <= node.high, name
    if node.grid is None:
        assert not any(numbers), name
    else:
        unit = Fraction(2) ** node.grid
        assert all((number / unit).denominator == 1 for number in numbers), name


def require_margin(exact: Evaluation, name: str, node: NodeCertificate) -> None:
    """Potentials lie on the grid that is stated for their channel, and stay away from the threshold."""
    potentials, theta = np.stack(exact.potentials[name]), exact.thresholds[name]
    moves = (potentials != 0).any((0, 1))  # what is always zero, in any arithmetic, has no grid of its own
    least = Fraction(1, 2) if node.margin is None else Fraction(node.margin)
    for channel, grid in enumerate(np.broadcast_to(np.array(node.potential_grid), theta.shape[:1]).tolist()):
        here, some = potentials[:, :, channel], moves[channel]
        if grid >= FREE:
            assert not some.any(), name
            continue
        unit = Fraction(2) ** grid
        assert all((potential / unit).denominator == 1 for potential in here.ravel().tolist()), name
        distances = np.abs(here - theta[channel])[:, :, some].ravel().tolist()
        assert min(distances, default=least * unit) >= least * unit, f"{name}: nearer than {node.margin}"


def tried(case: Case, seed: int = 0) -> Certificate | None:
    """One case: refused where it is ambiguous, else sound."""
    if case.is_ambiguous:
        with pytest.raises(InvalidGraphError, match="ambiguous"):
            certificate_of(case)
        return None
    return require_sound(case, seed)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(0, 2**16))
def test_certified_graphs_are_exact_in_any_order(case: Case, seed: int) -> None:
    tried(case, seed)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(0, 2**16))
def test_certified_graphs_are_exact_in_any_order_at_length(case: Case, seed: int) -> None:
    tried(case, seed)


def test_enough_of_the_random_graphs_are_certified_and_enough_are_not() -> None:
    """Otherwise the tests above would prove nothing. Every node type and every form of a parameter is among the certified."""
    count = 300
    found = [(case, certificate_of(case)) for case in map(seeded, range(count)) if not case.is_ambiguous]
    certified = [(case, proof) for case, proof in found if proof.certified]
    assert 0.4 * count < len(certified) < 0.8 * count
    kinds = Counter(kind for _, proof in certified for kind in {node.kind for node in proof.nodes.values()})
    assert {kind.__name__ for kind in FACTS} == set(kinds)
    assert min(kinds.values()) >= 4
    forms = {form for case, _ in certified for form in case.forms}
    assert {"()", "1", "n", "1n", "n1", "nn", "11n", "1n1", "n11", "nn1", "1nn", "n1n", "nnn"} <= forms
    assert sum(proof.bits > 20 for _, proof in certified) >= 5
    assert any(len(case.grids) > 1 and len(set(case.grids.values())) > 1 for case, _ in certified)
    assert {case.dtype for case, _ in certified} == {"float32", "float64"}


def _one_axis(values: Any) -> Bound:
    """What differs along the last axis is overlooked."""
    bound = OF_CONSTANT(values)
    return bound if bound.grid.ndim < 2 else bound.reshaped(lambda part: part[..., :1])


def _coarse(first: Bound, second: Bound) -> Bound:
    """The grid of a product is that of its coarser factor."""
    out = PRODUCT(first, second)
    return Bound(np.maximum(first.grid, second.grid), out.low, out.high)


def _one_form(k: Bound, gain: Bound, rest: Bound, x: Bound, v: Bound, work: exactness.Work) -> Bound:
    """Only the result of the equation is looked at."""
    current = bounds.product(gain, x)
    kept = bounds.total([OF_CONSTANT(1.0), -k])
    out = bounds.total([bounds.product(kept, v), bounds.product(k, bounds.total([rest, current]))])
    work.meets(out)
    return out


def _never_reset(v: Bound, theta: Bound, _reset: Bound) -> Bound:
    return Bound(v.grid, v.low, np.minimum(v.high, theta.high))


def _one_delay(node: Any, past: list[Bound]) -> Bound:
    longest = int(np.max(node["steps"]))
    return past[-longest] if len(past) >= longest else bounds.ZERO


def _first_step(analysis: exactness.Analysis, name: str) -> None:
    analysis.values[name] = analysis._step(name)


OF_CONSTANT, PRODUCT, TOTAL = bounds.of_constant, bounds.product, bounds.total
MUTANTS: dict[str, tuple[Any, str, Any, int]] = {
    "a parameter along the last axis": (bounds, "of_constant", _one_axis, 3),
    "terms that are left out": (Bound, "with_zero", lambda bound: bound, 36),
    "sums of some terms": (bounds, "partial_sums", TOTAL, 70),
    "the grid of a product": (bounds, "product", _coarse, 2),
    "negative factors": (bounds, "product", lambda a, b: Bound(a.grid + b.grid, a.low * b.low, a.high * b.high), 3),
    "the other form of the leak": (exactness, "_leak", _one_form, 24),
    "the reset": (exactness, "_after", _never_reset, 34),
    "delays per element": (exactness, "_delayed", _one_delay, 17),
    "later steps": (exactness.Analysis, "_steps", _first_step, 5),
    "constants that round": (exactness.Work, "constant", lambda _work, values, _what: OF_CONSTANT(values), 266),
    "the margin": (bounds, "margin", lambda _potential, _threshold: 0.5, 20),
    "the mantissa": (exactness, "LIMITS", {"float32": 25, "float64": 54}, 308),
    "subnormal numbers": (exactness, "_LEAST", {"float32": -300, "float64": -3000}, 580),
}
"""What an analysis might overlook, how it would, and the seed of a case that tells (others do too)."""


@pytest.mark.parametrize("overlooked", MUTANTS)
def test_an_analysis_that_overlooks_something_is_found_out(overlooked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, wrong, seed = MUTANTS[overlooked]
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises(AssertionError):
        _try_all((seed, *range(1000)))


def _try_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        tried(seeded(seed), seed)
