"""Conformance cases of wiring: fan-in, several inputs and outputs, feedback, edges listed twice, subgraphs, a small network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nir
import numpy as np

from zoo.equivalence.conformance.building import (
    Array,
    Builder,
    Case,
    N,
    Shape,
    chain,
    conv2d,
    fields,
    full,
    grid,
    integrate,
    lif,
    pool,
    spikes,
    weights,
)  # fmt: skip


def _fan_in(order: str) -> tuple[nir.NIRGraph, Array]:
    """input -> a, b -> sum; ``order`` says in which order the edges into the sum are listed."""
    builder = Builder(N)
    builder.add("a", nir.Affine(weights(8, 8), weights(8, seed=1)), ["input"])
    builder.add("b", nir.Affine(weights(8, 8, seed=2), weights(8, seed=3)), ["a"] if order == "skip" else ["input"])
    builder.add("neuron", lif(), ["input", "b"] if order == "skip" else ["a", "b"])
    builder.output("neuron")
    return builder.graph(), spikes(N)


def _fan_in_at_output() -> tuple[nir.NIRGraph, Array]:
    builder = Builder(N)
    for name, seed in (("a", 1), ("b", 2)):
        builder.add(name, nir.Affine(weights(8, 8, seed=seed), weights(8, seed=seed + 5)), ["input"])
    builder.output("a", "b")
    return builder.graph(), spikes(N)


def _two_outputs() -> tuple[nir.NIRGraph, Array]:
    builder = Builder(N)
    builder.add("a", lif(), ["input"])
    builder.add("b", nir.Affine(weights(3, 8), weights(3, seed=1)), ["a"], (3,))
    builder.output("a", name="first")
    builder.output("b", name="second")
    return builder.graph(), grid(N)


def _two_inputs() -> tuple[nir.NIRGraph, Any]:
    builder = Builder(N)
    builder.nodes["other"], builder.shapes["other"] = nir.Input({"input": np.array(N)}), N
    builder.add("neuron", lif(), ["input", "other"])
    builder.output("neuron")
    return builder.graph(), {"input": grid(N), "other": grid(N, seed=1)}


def _feedback() -> tuple[nir.NIRGraph, Array]:
    """A recurrent layer whose cycle goes through a Delay."""
    builder = Builder(N)
    builder.add("neuron", lif(v_threshold=0.5), ["input"])
    builder.add("late", nir.Delay(full(1, N)), ["neuron"])
    builder.add("recurrent", nir.Linear(weights(8, 8) / 2), ["late"])
    builder.edges.append(("recurrent", "neuron"))
    builder.output("neuron")
    return builder.graph(), grid(N)


def _soft_reset() -> tuple[nir.NIRGraph, Array]:
    """The canonical soft-reset loop of DESIGN.md section 3."""
    builder = Builder(N)
    builder.add("u", nir.Scale(full(1, N)), ["input"])
    builder.add("spike", nir.Threshold(full(1, N)), ["u"])
    builder.add("reset", nir.Scale(full(-1, N)), ["spike"])
    builder.add("late", nir.Delay(full(1, N)), ["u", "reset"])
    builder.add("decay", nir.Scale(full(0.25, N)), ["late"])
    builder.edges.append(("decay", "u"))
    builder.output("spike")
    return builder.graph(), grid(N)


def _cycle_without_delay() -> tuple[nir.NIRGraph, Array]:
    """LIF <-> w_rec as published files have it; the edge back into the neuron takes one step."""
    builder = Builder(N)
    builder.add("neuron", lif(v_threshold=0.5), ["input"])
    builder.add("w_rec", nir.Linear(weights(8, 8) / 2), ["neuron"])
    builder.edges.append(("w_rec", "neuron"))
    builder.output("neuron")
    return builder.graph(), grid(N)


def _feedback_through_a_subgraph() -> tuple[nir.NIRGraph, Array]:
    """The neuron sits in a subgraph of its own, the recurrent weights outside: z_t = LIF(x_t + W z_{t-1})."""
    builder = Builder(N)
    builder.add("layer", chain(N, ("neuron", lif(v_threshold=0.5), None)), ["input"])
    builder.add("w_rec", nir.Linear(weights(8, 8) / 2), ["layer"])
    builder.edges.append(("w_rec", "layer"))
    builder.output("layer")
    return builder.graph(), grid(N)


def _feedback_into_the_weights() -> tuple[nir.NIRGraph, Array]:
    """Input and spikes pass the same weights: z_t = LIF(W (x_t + z_{t-1}))."""
    builder = Builder(N)
    builder.add("fc", nir.Linear(weights(8, 8) / 2), ["input"])
    builder.add("neuron", lif(v_threshold=0.5), ["fc"])
    builder.edges.append(("neuron", "fc"))
    builder.output("neuron")
    return builder.graph(), grid(N)


def _feedback_with_a_bias() -> tuple[nir.NIRGraph, Array]:
    """As snnTorch exports RLeaky: the bias of the recurrent weights acts from the first step on."""
    builder = Builder(N)
    builder.add("fc", nir.Affine(weights(8, 8, seed=1), weights(8, seed=2)), ["input"])
    builder.add("neuron", lif(v_threshold=0.5), ["fc"])
    builder.add("w_rec", nir.Affine(weights(8, 8) / 2, weights(8, seed=3)), ["neuron"])
    builder.edges.append(("w_rec", "neuron"))
    builder.output("neuron")
    return builder.graph(), spikes(N)


def _edge_twice(node: nir.NIRNode) -> tuple[nir.NIRGraph, Array]:
    """One edge, listed twice: two connections."""
    builder = Builder(N)
    builder.add("node", node, ["input", "input"])
    builder.output("node")
    return builder.graph(), grid(N)


def _subgraph() -> tuple[nir.NIRGraph, Array]:
    builder = Builder(N)
    builder.add("inner", chain(N, ("neuron", lif(), None)), ["input"])
    builder.output("inner")
    return builder.graph(), grid(N)


def _classifier() -> tuple[nir.NIRGraph, Array]:
    """Conv2d, LIF, Conv2d, IF, SumPool2d, Flatten, Affine, LI."""
    shape: Shape = (4, 6, 6)
    layers: tuple[tuple[str, nir.NIRNode, Shape], ...] = (
        ("conv1", conv2d(4, 4), shape),
        ("lif", lif(shape), shape),
        ("conv2", conv2d(4, 4), shape),
        ("if", integrate(shape), shape),
        ("pool", pool(nir.SumPool2d, (2, 2), (2, 2), (0, 0)), (4, 3, 3)),
        ("flatten", nir.Flatten({"input": np.array((4, 3, 3))}, 0, -1), (36,)),
        ("fc", nir.Affine(weights(5, 36), weights(5, seed=1)), (5,)),
        ("li", nir.LI(**fields((5,), tau=2.0, r=1.0, v_leak=0.0)), (5,)),
    )
    return chain(shape, *layers), spikes(shape)


def wiring_cases() -> Iterator[Case]:
    """All of them."""
    yield Case("fan-in", "fan-in", lambda: _fan_in("plain"))
    yield Case("fan-in-skip", "fan-in", lambda: _fan_in("skip"))
    yield Case("fan-in-at-output", "fan-in", _fan_in_at_output)
    yield Case("two-outputs", "several outputs", _two_outputs)
    yield Case("two-inputs", "several inputs", _two_inputs)
    yield Case("feedback", "feedback through Delay", _feedback)
    yield Case("soft-reset", "feedback through Delay", _soft_reset)
    yield Case("cycle-without-delay", "cycle without Delay", _cycle_without_delay)
    yield Case("cycle-through-subgraph", "cycle without Delay", _feedback_through_a_subgraph)
    yield Case("cycle-into-weights", "cycle without Delay", _feedback_into_the_weights)
    yield Case("cycle-with-bias", "cycle without Delay", _feedback_with_a_bias)
    yield Case("edge-twice", "edge listed twice", lambda: _edge_twice(lif()))
    yield Case("edge-twice-into-weights", "edge listed twice", lambda: _edge_twice(nir.Linear(weights(8, 8))))
    yield Case("subgraph", "subgraph", _subgraph)
    yield Case("classifier", "network", _classifier)
