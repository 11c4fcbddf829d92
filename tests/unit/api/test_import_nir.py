"""``zoo.import_nir``: what was changed is said once per kind; arguments are checked before anything runs (A4, A16, A17)."""

from __future__ import annotations

import warnings
from typing import Any

import nir
import numpy as np
import pytest
import torch

import zoo
from zoo.errors import CorruptGraphError, GraphWarning, InvalidInputError
from zoo.nir_graphs.normalise import normalise


def graph(metadata: dict[str, Any] | None = None) -> nir.NIRGraph:
    """A neuron with parameters of one number each, and the same edge twice."""
    one = np.array(1.0)
    nodes = {
        "input": nir.Input(np.array([3])),
        "a": nir.LIF(tau=np.array(2.0), r=one, v_leak=one * 0, v_threshold=one, v_reset=one * 0),
        "output": nir.Output(np.array([3])),
    }
    edges = [("input", "a"), ("input", "a"), ("a", "output")]
    return nir.NIRGraph(nodes, edges, metadata=metadata or {}, type_check=False)


def test_each_kind_of_change_gives_one_warning_and_notes_have_all() -> None:
    with pytest.warns(GraphWarning) as caught:
        runnable = zoo.import_nir(graph(), backend="reference", dt=1)
    kinds = [note.kind for note in runnable.notes]
    assert kinds.count("broadcast") == 5
    assert len(caught) == 2
    assert any("4 more of this kind" in str(warning.message) for warning in caught)
    assert all(warning.filename == __file__ for warning in caught)


def test_a_flat_graph_has_been_told_of_already() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runnable = zoo.import_nir(normalise(graph(), dt=1), backend="reference")
    assert runnable.notes


@pytest.mark.filterwarnings("ignore::zoo.errors.GraphWarning")
@pytest.mark.parametrize("dt", [1, 1.0, np.float32(1), np.array(1.0), np.int64(1)])
def test_dt_may_be_any_number(dt: Any) -> None:
    runnable = zoo.import_nir(graph(), backend="snntorch", dt=dt, dtype="float64")
    assert runnable.dtype == torch.float64
    assert runnable(torch.ones(4, 2, 3, dtype=torch.float64))["output"].shape == (4, 2, 3)


def test_times_without_dt_and_wrong_arguments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"tau 2 of the node 'a'"):
        zoo.import_nir(graph(), backend="reference")
    wrong: list[dict[str, Any]] = [
        {"dt": 0}, {"dt": "x"}, {"dtype": "int3"}, {"device": "nowhere"}, {"delayed_edges": [("a", "b")]},
    ]  # fmt: skip
    for arguments in wrong:
        given: dict[str, Any] = {"dt": 1, "backend": "reference", **arguments}
        with pytest.raises(InvalidInputError):
            zoo.import_nir(graph(), **given)


@pytest.mark.parametrize(
    "note",
    ['{"format": 99}', '{"format": 1, "time_steps": "x"}', '{"format": 1, "input_grid": [1]}', '{"format": 1, "dt": 0}',
     '{"format": 1, "dt": NaN}', '{"format": 1, "image_size": [0, 4]}'],
)  # fmt: skip
def test_a_note_of_the_zoo_that_cannot_be_read_is_refused(note: str) -> None:
    """Row B6."""
    with pytest.raises(CorruptGraphError, match="zoo metadata"):
        zoo.import_nir(graph({"zoo": note}), backend="reference", dt=1)
