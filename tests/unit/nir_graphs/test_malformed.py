"""Row A13: every malformed number, in every field of every node type that has such a field, on every backend.

Each is one InvalidGraphError that names the node, the field and the rule; it is raised at the door, before anything runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import nir
import numpy as np
import pytest

from tests.everywhere import BACKENDS, entry, graph, leave
from zoo.adapters.base import get_backend
from zoo.errors import InvalidGraphError
from zoo.nir_graphs import reference
from zoo.nir_graphs.certificate import certify
from zoo.nir_graphs.nodes import FACTS
from zoo.nir_graphs.normalise import normalise

SHAPES: dict[type, tuple[int, ...]] = {nir.Conv1d: (2, 5), nir.Linear: (4,), nir.Affine: (4,)}
"""Input shapes; all others take (2, 5, 4)."""
REALS: dict[str, Any] = {
    "NaN": math.nan, "infinity": math.inf, "minus infinity": -math.inf, "complex": 1j, "text": "one", "object": None,
    "empty": np.zeros(0), "missing": None, "beyond float64": np.longdouble("1e4000"), "dates": np.datetime64("2026-01-01"),
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "NaN": math.nan, "infinity": math.inf, "fraction": 1.5, "negative": -1, "text": "two", "three values": [1, 1, 1],
    "four values": (1, 1, 1, 1), "none": None, "empty": [], "complex": 1j, "enormous": 2**40, "huge float": 1e300,
    "almost whole": np.nextafter(1.0, 2.0),
}  # fmt: skip
RULES = {
    "tau": "positive", "tau_mem": "positive", "tau_syn": "positive", "delay": "positive multiple",
}  # fmt: skip


def good(kind: type) -> Any:
    """A node of a type that has a meaning."""
    one = np.ones(())
    if kind in {nir.Conv1d, nir.Conv2d}:
        axes = 1 if kind is nir.Conv1d else 2
        geometry = ((1,) * axes, (0,) * axes, (1,) * axes) if axes > 1 else (1, 0, 1)
        return kind(None, np.ones((2, 2, *[2] * axes)), *geometry, 1, np.zeros(2))
    special = {
        nir.Linear: lambda: nir.Linear(np.ones((3, 4))),
        nir.Affine: lambda: nir.Affine(np.ones((3, 4)), np.ones(3)),
        nir.Flatten: lambda: nir.Flatten({"input": None}, 0, -1),
        nir.SumPool2d: lambda: nir.SumPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0])),
        nir.AvgPool2d: lambda: nir.AvgPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0])),
    }
    return special[kind]() if kind in special else kind(**dict.fromkeys(FACTS[kind].elements, one))


def around(node: Any) -> nir.NIRGraph:
    """in > before > the node > out; the Output states no shape, so that nothing but the node can be wrong."""
    shape = SHAPES.get(type(node), (2, 5, 4))
    nodes = {
        "in": entry(*shape),
        "before": nir.Scale(np.ones(shape)),
        "culprit": node,
        "out": nir.Output({"output": None}),
    }
    return graph(nodes, [("in", "before"), ("before", "culprit"), ("culprit", "out")], zoo='{"format": 1, "dt": 1.0}')


KINDS = [kind for kind, facts in FACTS.items() if not facts.borders]


def real_fields(kind: type) -> list[str]:
    return [*FACTS[kind].elements, *(name for name in ("weight", "bias") if hasattr(good(kind), name))]


def whole_fields(kind: type) -> list[str]:
    names = ("stride", "padding", "dilation", "groups", "kernel_size", "start_dim", "end_dim")
    return [name for name in names if hasattr(good(kind), name)]


def bad_reals(kind: type, field: str) -> Iterator[tuple[str, Any, str]]:
    """(what, value, words of the rule) for a field of real numbers."""
    like = np.shape(getattr(good(kind), field))
    for what, value in REALS.items():
        if what == "missing":
            if field not in {"v_reset", "w_in"}:
                yield what, None, f"no {field}"
        elif what == "object":
            yield what, np.full(like, None), "real numbers"
        elif what == "empty":
            yield what, value, "without numbers"
        else:
            made = np.full(like, value)
            yield what, made, "finite" if made.dtype.kind == "f" else "real numbers"
    if field in RULES:
        for value in (0.0, -1.0, -5e-324, np.float32(-1), 0):
            yield f"{value}", np.full(like, value), RULES[field]
    if field == "delay":
        for value in (0.5, 1.25, 1e-9, 1e18, 1e308):
            yield f"{value}", np.full(like, value), RULES[field]
    shapes = [(7,), (2, 5), (5, 4), (1, 2, 5, 4), (2, 5, 3)] if field in FACTS[kind].elements else []
    for shape in shapes:
        yield f"shape {shape}", np.ones(shape), "of shape"


def bad_weights(kind: type, field: str) -> Iterator[tuple[str, Any, str]]:
    """Shapes that no weight, and no bias, may have."""
    weight = good(kind).weight
    shapes = [weight.shape[1:], (*weight.shape, 1)] if field == "weight" else [(5,), (1, 2), (2, 2), (1, 3)]
    for shape in shapes:
        yield f"shape {shape}", np.ones(shape), "of shape"


def bad_wholes(kind: type, field: str) -> Iterator[tuple[str, Any, str]]:
    """(what, value, words of the rule) for a field of whole numbers."""
    count = 1 if kind is nir.Conv1d or field in {"groups", "start_dim", "end_dim"} else 2
    for what, value in WHOLE.items():
        rule = {
            "text": "real numbers", "complex": "real numbers", "none": f"no {field}", "negative": "at least",
            "empty": "must have", "three values": "must have", "four values": "must have",
            "enormous": "at most", "huge float": "at most",
        }.get(what, "whole numbers")  # fmt: skip
        if what == "negative" and field in {"start_dim", "end_dim"}:
            continue
        if what == "text" and field == "padding" and kind in {nir.Conv1d, nir.Conv2d}:
            rule = "'same' or 'valid'"
        yield what, value, rule
    if count == 2:
        yield "one of two", np.array([1, 1.5]), "whole numbers"
        yield "one of two negative", (-1, 1), "at least"
    if field in {"stride", "dilation", "groups", "kernel_size"}:
        yield "zero", 0, "at least 1"
    yield from special(kind, field)


def special(kind: type, field: str) -> Iterator[tuple[str, Any, str]]:
    """What is wrong for one field only."""
    if field == "groups":
        yield "not dividing", 3, "groups"
        yield "another number of inputs", 2, "groups"
    if field == "padding" and kind in {nir.SumPool2d, nir.AvgPool2d}:
        yield "same", "same", "real numbers"
        yield "valid", np.array("valid"), "real numbers"
    if field == "kernel_size":
        yield "too large", np.array([9, 1]), "larger than"
    if field == "dilation":
        yield "too wide", 7, "larger than"
    if field in {"start_dim", "end_dim"}:
        for value in (3, 5, -4, -9):
            yield f"axis {value}", value, rf"{field}"


def cases() -> Iterator[Any]:
    for kind in KINDS:
        for field in real_fields(kind):
            made = [*bad_reals(kind, field), *(bad_weights(kind, field) if field in {"weight", "bias"} else ())]
            for what, value, rule in made:
                yield pytest.param(kind, field, value, rule, id=f"{kind.__name__}-{field}-{what}")
        for field in whole_fields(kind):
            for what, value, rule in bad_wholes(kind, field):
                yield pytest.param(kind, field, value, rule, id=f"{kind.__name__}-{field}-{what}")


@pytest.mark.parametrize(("kind", "field", "value", "rule"), list(cases()))
def test_one_error_names_node_field_and_rule_on_every_backend(kind: type, field: str, value: Any, rule: str) -> None:
    node = good(kind)
    setattr(node, field, value)
    made = around(node)
    start = re.escape(f"the node 'culprit' ({kind.__name__})")
    for door in (lambda: normalise(made), lambda: reference.run(made, np.zeros((2, 2, 2, 5, 4)))):
        with pytest.raises(InvalidGraphError, match=f"^{start}.*{rule}") as caught:
            door()
        named = "window" if rule == "larger than" else field
        assert named in str(caught.value) or "axis" in str(caught.value)
        assert len(str(caught.value)) < 300
    for backend in BACKENDS:
        for act in (get_backend(backend).check, get_backend(backend).build):
            with pytest.raises(InvalidGraphError, match=f"^{start}"):
                act(made) if act.__name__ == "check" and not FACTS[kind].times else get_backend(backend).build(
                    made, dt=1
                )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_not_malformed_runs(kind: type) -> None:
    """The node that the faults are put into has a meaning by itself."""
    made = around(good(kind))
    x = np.ones((2, 2, *SHAPES.get(kind, (2, 5, 4))))
    assert np.isfinite(reference.run(made, x, dt=1).outputs["out"]).all()


def test_the_certificate_refuses_at_the_same_door() -> None:
    node = good(nir.SumPool2d)
    node.stride = np.array([1, 1, 1])
    with pytest.raises(InvalidGraphError, match="'culprit'"):
        certify(around(node))


@pytest.mark.parametrize(("start", "end"), [(2, 1), (-1, 0), (1, -3)])
def test_flatten_backwards(start: int, end: int) -> None:
    node = nir.Flatten({"input": None}, start, end)
    with pytest.raises(InvalidGraphError, match=r"'culprit' \(Flatten\) flattens from axis"):
        normalise(around(node))


@pytest.mark.parametrize("kind", [nir.Conv1d, nir.Conv2d])
@pytest.mark.parametrize("word", ["reflect", "SAME", "", b"circular", np.str_("full"), np.array("full")])
def test_padding_words(kind: type, word: Any) -> None:
    node = good(kind)
    node.padding = word
    with pytest.raises(InvalidGraphError, match=r"'culprit'.*padding.*'same' or 'valid'"):
        normalise(around(node))


def test_same_padding_with_a_stride_has_no_agreed_meaning() -> None:
    node = good(nir.Conv2d)
    node.padding, node.stride = "same", (1, 2)
    with pytest.raises(InvalidGraphError, match=r"'culprit' \(Conv2d\).*'same' with a stride above 1"):
        normalise(around(node))
    node.weight = np.ones((2, 2, 1, 1))  # nothing to pad
    assert normalise(around(node)).shapes["culprit"] == (2, 5, 2)


INPUT_SHAPES = [None, [0], [-1], [1.5], [math.nan], ["two"], [2**70], [[1j]], object(), [None]]


@pytest.mark.parametrize(
    "shape", INPUT_SHAPES, ids=[f"{i}-{type(shape).__name__}" for i, shape in enumerate(INPUT_SHAPES)]
)
def test_shapes_that_inputs_cannot_state(shape: Any) -> None:
    made = graph({"in": entry(1), "out": leave(1)}, [("in", "out")])
    made.nodes["in"].input_type = {"input": shape}
    with pytest.raises(InvalidGraphError, match=r"'in' \(Input\)"):
        normalise(made)
    made = graph({"in": entry(1), "out": leave(1)}, [("in", "out")])
    made.nodes["out"].output_type = {"output": shape}
    if shape is None:
        assert normalise(made).shapes["out"] == (1,)
    else:
        with pytest.raises(InvalidGraphError, match=r"'out' \(Output\)"):
            normalise(made)


def test_nodes_that_are_none() -> None:
    for value in (None, 3, "LIF", nir.LIF, object()):
        made = around(value)
        with pytest.raises(InvalidGraphError, match=r"'culprit' is a \w+, which has no discrete-time meaning"):
            normalise(made, dt=1)
    made = around(good(nir.Scale))
    made.nodes[7] = good(nir.Scale)
    with pytest.raises(InvalidGraphError, match="name 7"):
        normalise(made, dt=1)
