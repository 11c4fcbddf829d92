"""Whole detectors with random weights, T = 1, 2 and 4: the module, the reference and every backend, spike for spike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.conftest import lively_detector
from zoo.adapters.base import get_backend
from zoo.adapters.executor import TorchRunnable
from zoo.adapters.fusions.soft_reset import SoftResetUnit
from zoo.adapters.units import Loop
from zoo.detectors.detector import Detector
from zoo.equivalence.runners import ModuleRunner
from zoo.errors import UnsupportedGraphError
from zoo.nir_graphs import reference
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import normalise
from zoo.nir_graphs.reference import Trace


@dataclass
class Case:
    detector: Detector
    graph: FlatGraph
    frames: torch.Tensor
    expected: Trace


@pytest.fixture(scope="module", params=[1, 2, 4], ids=lambda steps: f"T={steps}")
def case(request: pytest.FixtureRequest) -> Case:
    detector = lively_detector(time_steps=request.param, seed=request.param).fuse()
    graph = normalise(detector.to_nir((64, 96)))
    frames = torch.rand((request.param, 2, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Case(detector, graph, frames, reference.run(graph, frames.numpy(), record="neurons"))


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "node by node"])
@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly", "sinabs"])
def test_float64_spikes_and_heads(case: Case, backend: str, fuse: bool) -> None:
    runnable = get_backend(backend).build(case.graph, dtype=torch.float64, fuse=fuse)
    assert isinstance(runnable, TorchRunnable)
    if case.detector.time_steps > 1:
        assert any(isinstance(unit, SoftResetUnit) for unit in runnable.plan()) is fuse
        assert any(isinstance(unit, Loop) for unit in runnable.plan()) is not fuse
    trace = runnable.run(case.frames, record="neurons")
    module = ModuleRunner(case.detector, case.graph, torch.float64).run(case.frames)
    assert trace.spikes.keys() == case.expected.spikes.keys()
    assert 0.05 < np.mean([spikes.mean() for spikes in case.expected.spikes.values()]) < 0.5
    for node, spikes in case.expected.spikes.items():
        np.testing.assert_array_equal(trace.spikes[node], spikes, err_msg=node)
    for node, spikes in module.spikes.items():
        np.testing.assert_array_equal(trace.spikes[node], spikes, err_msg=node)
    for node, heads in case.expected.outputs.items():
        np.testing.assert_allclose(trace.outputs[node], heads, rtol=1e-9, atol=1e-9)


def test_jax_float64_spikes_and_heads(case: Case) -> None:
    trace = get_backend("jax").build(case.graph, dtype=torch.float64).run(case.frames, record="neurons")
    assert trace.spikes.keys() == case.expected.spikes.keys()
    for node, spikes in case.expected.spikes.items():
        np.testing.assert_array_equal(trace.spikes[node], spikes, err_msg=node)
    for node, heads in case.expected.outputs.items():
        np.testing.assert_allclose(trace.outputs[node], heads, rtol=1e-9, atol=1e-9)


def test_brian2_refuses_a_detector_by_its_size(case: Case) -> None:
    reasons = get_backend("brian2").check(case.graph)
    assert len(reasons) == 1
    assert "too large for explicit synapses" in reasons[0]
    with pytest.raises(UnsupportedGraphError, match=r"node 'backbone\.stem'"):
        get_backend("brian2").build(case.graph)


def test_float32_bits_are_those_of_node_wise_execution_on_either_framework(case: Case) -> None:
    first, *others = (
        get_backend(backend).build(case.graph, fuse=fuse).run(case.frames, record="all")
        for backend in ("norse", "snntorch", "spikingjelly", "sinabs")
        for fuse in (True, False)
    )
    for other in others:
        for node, spikes in first.spikes.items():
            np.testing.assert_array_equal(other.spikes[node], spikes, err_msg=node)
        for node, potential in first.potentials.items():
            np.testing.assert_array_equal(other.potentials[node], potential, err_msg=node)
        for node, output in first.outputs.items():
            np.testing.assert_array_equal(other.outputs[node], output)
