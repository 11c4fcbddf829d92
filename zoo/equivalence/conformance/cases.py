"""The cases: node types and their corners, blocks, detectors, and files of the NIR paper. Wiring is in ``wiring.py``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import nir
import numpy as np

from zoo.equivalence.conformance.building import (
    MAP,
    Array,
    Case,
    N,
    Shape,
    chain,
    conv1d,
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
from zoo.equivalence.conformance.wiring import wiring_cases

PAPER = Path(__file__).parent / "nir_paper"


def _neuron(node: nir.NIRNode, shape: Shape = N, *, seed: int = 0) -> tuple[nir.NIRGraph, Array]:
    return chain(shape, ("neuron", node, None)), grid(shape, seed=seed)


def _layer(node: nir.NIRNode, before: Shape, after: Shape, *, binary: bool = True) -> tuple[nir.NIRGraph, Array]:
    return chain(before, ("layer", node, after)), spikes(before) if binary else grid(before)


def _linear_cases() -> Iterator[Case]:
    affine = nir.Affine(weights(5, 8), weights(5, seed=1))
    yield Case("linear", "Linear", lambda: _layer(nir.Linear(weights(5, 8)), (8,), (5,)))
    yield Case("affine", "Affine", lambda: _layer(affine, (8,), (5,)))
    yield Case("affine-analog", "Affine", lambda: _layer(affine, (8,), (5,), binary=False))
    yield Case("scale", "Scale", lambda: _layer(nir.Scale(weights(8) + 2), (8,), (8,), binary=False))
    per_channel = np.array(np.broadcast_to(weights(4, 1, 1) + 2, MAP))
    yield Case("scale-per-channel", "Scale", lambda: _layer(nir.Scale(per_channel), MAP, MAP))
    yield Case("flatten", "Flatten", lambda: _layer(nir.Flatten({"input": np.array(MAP)}, 0, -1), MAP, (144,)))
    partial_ = nir.Flatten({"input": np.array(MAP)}, 1, 2)
    yield Case("flatten-partial", "Flatten", lambda: _layer(partial_, MAP, (4, 36)))
    flat = nir.Flatten({"input": np.array(MAP)}, 0, -1)
    dense = nir.Affine(weights(3, 144), weights(3, seed=1))
    yield Case("flatten-affine", "Flatten", lambda: (chain(MAP, ("f", flat, (144,)), ("a", dense, (3,))), spikes(MAP)))


def _convolution_cases() -> Iterator[Case]:
    two: dict[str, tuple[nir.Conv2d, Shape]] = {
        "conv2d": (conv2d(5, 4), (5, 6, 6)),
        "conv2d-stride": (conv2d(5, 4, stride=(2, 2)), (5, 3, 3)),
        "conv2d-stride-uneven": (conv2d(5, 4, stride=(1, 2)), (5, 6, 3)),
        "conv2d-no-padding": (conv2d(5, 4, padding=(0, 0)), (5, 4, 4)),
        "conv2d-kernel-3x5": (conv2d(5, 4, (3, 5), padding=(1, 1)), (5, 6, 4)),
        "conv2d-dilation": (conv2d(5, 4, dilation=(2, 2), padding=(2, 2)), (5, 6, 6)),
        "conv2d-same": (conv2d(5, 4, padding="same"), (5, 6, 6)),
        "conv2d-valid": (conv2d(5, 4, padding="valid"), (5, 4, 4)),
        "conv2d-groups": (conv2d(4, 4, groups=2), (4, 6, 6)),
        "conv2d-groups-uneven": (conv2d(6, 4, groups=2), (6, 6, 6)),
        "conv2d-depthwise": (conv2d(4, 4, groups=4), (4, 6, 6)),
    }
    for name, (node, shape) in two.items():
        yield Case(name, "Conv2d", partial(_layer, node, MAP, shape))
    one: dict[str, tuple[nir.Conv1d, Shape]] = {
        "conv1d": (conv1d(), (4, 12)),
        "conv1d-stride": (conv1d(stride=2), (4, 6)),
        "conv1d-dilation": (conv1d(dilation=2, padding=2), (4, 12)),
        "conv1d-groups": (conv1d(groups=2), (4, 12)),
    }
    for name, (line, shape) in one.items():
        yield Case(name, "Conv1d", partial(_layer, line, (4, 12), shape))


def _pool_cases() -> Iterator[Case]:
    for kind in (nir.SumPool2d, nir.AvgPool2d):
        name, group = kind.__name__.lower(), kind.__name__
        plain, padded = pool(kind, (2, 2), (2, 2), (0, 0)), pool(kind, (3, 3), (1, 1), (1, 1))
        uneven = pool(kind, (3, 2), (3, 1), (0, 0))
        yield Case(name, group, partial(_layer, plain, MAP, (4, 3, 3)))
        yield Case(f"{name}-padding", group, partial(_layer, padded, MAP, MAP))
        yield Case(f"{name}-kernel-3x2", group, partial(_layer, uneven, MAP, (4, 2, 5)))


def _neuron_cases() -> Iterator[Case]:
    spread: Array = np.linspace(1.25, 5.0, 8).astype(np.float64)
    kinds: dict[str, tuple[str, nir.NIRNode]] = {
        "if": ("IF", integrate()),
        "if-r": ("IF", integrate(r=0.5)),
        "if-v_reset": ("IF", integrate(v_reset=0.25)),
        "if-per-neuron-threshold": ("IF", integrate(v_threshold=spread)),
        "lif": ("LIF", lif()),
        "lif-tau-10": ("LIF", lif(tau=10.0, v_threshold=0.3137)),
        "lif-r=tau": ("LIF", lif(r=2.0, v_threshold=2.0)),
        "lif-v_leak": ("LIF", lif(v_leak=0.25)),
        "lif-v_reset": ("LIF", lif(v_reset=0.25)),
        "lif-per-neuron-tau": ("LIF", lif(tau=spread, v_threshold=0.5)),
        "li": ("LI", nir.LI(**fields(N, tau=2.0, r=1.0, v_leak=0.0))),
        "li-v_leak": ("LI", nir.LI(**fields(N, tau=4.0, r=1.0, v_leak=0.5))),
        "i": ("I", nir.I(**fields(N, r=1.0))),
        "cubalif": ("CubaLIF", _cuba(nir.CubaLIF, r=2.0, w_in=2.0, v_threshold=1.0, v_reset=0.0)),
        "cubalif-r=1": ("CubaLIF", _cuba(nir.CubaLIF, r=1.0, w_in=1.0, v_threshold=0.25, v_reset=0.0)),
        "cubali": ("CubaLI", _cuba(nir.CubaLI, r=1.0, w_in=1.0)),
        "threshold": ("Threshold", nir.Threshold(full(0.75, N))),
        "delay": ("Delay", nir.Delay(full(1, N))),
        "delay-3": ("Delay", nir.Delay(full(3, N))),
        "delay-per-neuron": ("Delay", nir.Delay(np.arange(1.0, 9.0))),
    }
    for name, (group, node) in kinds.items():
        yield Case(name, group, partial(_neuron, node))
    yield Case("lif-map", "LIF", lambda: _neuron(lif(MAP), MAP))
    yield Case("if-map", "IF", lambda: _neuron(integrate(MAP), MAP))
    yield Case("lif-dt", "LIF", lambda: _neuron(lif(tau=2e-4)), dt=1e-4)


def _cuba(kind: type, **values: float) -> nir.NIRNode:
    node: nir.NIRNode = kind(**fields(N, tau_syn=2.0, tau_mem=4.0, v_leak=0.0, **values))
    return node


def _broadcast_cases() -> Iterator[Case]:
    """Parameters that are one number in an array of one element, or one number per channel."""
    channels: Shape = (4, 1, 1)
    kinds: dict[str, tuple[nir.NIRNode, Shape]] = {
        "lif": (lif((1,)), N),
        "lif-channels": (lif(channels, tau=np.array([1.0, 2, 4, 8]).reshape(channels), v_threshold=0.5), MAP),
        "if": (integrate((1,)), N),
        "if-channels": (integrate(channels), MAP),
        "li": (nir.LI(**fields((1,), tau=2.0, r=1.0, v_leak=0.0)), N),
        "scale": (nir.Scale(np.array([1.5])), N),
        "scale-channels": (nir.Scale(weights(*channels) + 2), MAP),
        "threshold": (nir.Threshold(np.array([0.75])), N),
        "delay": (nir.Delay(np.array([2.0])), N),
    }
    for name, (node, shape) in kinds.items():
        yield Case(f"broadcast-{name}", "parameters that broadcast", partial(_neuron, node, shape))


def _recording(column: int, name: str = "lif_norse.csv") -> Array:
    return np.loadtxt(PAPER / name, delimiter=",")[:, column].reshape(-1, 1, 1)


def _paper_lif() -> tuple[nir.NIRGraph, Array]:
    from zoo.nir_graphs import io

    return io.read(PAPER / "lif_norse.nir"), _recording(0)


def _paper_pair() -> tuple[nir.NIRGraph, Array]:
    from zoo.nir_graphs import io

    return io.read(PAPER / "two_lif_neurons.nir"), grid((1,), steps=400)[:, :1] * 0 + 0.5


def _paper_cnn() -> tuple[nir.NIRGraph, Array]:
    from zoo.nir_graphs import io

    return io.read(PAPER / "cnn_sinabs.nir"), spikes((2, 34, 34), rate=0.2)[:, :4]


def _paper_cases() -> Iterator[Case]:
    recorded = partial(_recording, 2)
    yield Case("paper-lif", "NIR paper: LIF, recorded", _paper_lif, dt=1e-4, recorded=recorded)
    yield Case("paper-two-lif", "NIR paper: two LIFs", _paper_pair, dt=1e-4)
    yield Case("paper-cnn", "NIR paper: CNN", _paper_cnn)


@cache
def _detector(name: str) -> Any:
    from zoo.loading import load_module, resolve

    return load_module(resolve(name))


def _whole(name: str) -> tuple[nir.NIRGraph, Array]:
    from zoo.equivalence.probes import digit_images

    detector = _detector(name)
    images = digit_images(2, detector.config, (64, 64))
    frames = detector.frames(images).unflatten(0, (detector.time_steps, -1))
    return detector.to_nir((64, 64)), frames.double().numpy()


def _detector_cases() -> Iterator[Case]:
    for name in ("spikeyolo-digits", "ems-yolo-digits"):
        yield Case(name, "detector", partial(_whole, name))


@cache
def all_cases() -> dict[str, Case]:
    """Every case by name."""
    groups = (
        _linear_cases, _convolution_cases, _pool_cases, _neuron_cases, _broadcast_cases, wiring_cases, _paper_cases,
        _detector_cases,
    )  # fmt: skip
    cases = [case for group in groups for case in group()]
    return {case.name: case for case in cases}
