"""Milliseconds per image, of the snnTorch definition and of every backend that runs its graph, taken in one run.

All are timed in turns, so that a busy machine slows all of them alike, and the least time of each counts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

from zoo.detectors.detector import Detector
from zoo.equivalence.probes import noise
from zoo.errors import InvalidInputError, UnsupportedGraphError
from zoo.layers.fourier import IRFFT2, RFFT2
from zoo.nir_graphs import metadata
from zoo.support.progress import progress_bar


@dataclass(frozen=True)
class Timing:
    """One row.

    Attributes:
        backend: ``module`` is the snnTorch definition.
        milliseconds: per image, least of all turns.
        ratio: of that to the module's.
    """

    backend: str
    milliseconds: float
    ratio: float


def turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Least seconds of each call, taken in turns; a first turn only warms up."""
    best = dict.fromkeys(calls, float("inf"))
    with progress_bar("timing", total=(repeats + 1) * len(calls)) as bar:
        for turn in range(repeats + 1):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                if turn:
                    best[name] = min(best[name], time.perf_counter() - started)
                bar.advance(name)
    return best


def time_backends(
    detector: Detector,
    backends: Sequence[str],
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int = 1,
    repeats: int = 5,
) -> tuple[list[Timing], dict[str, str]]:
    """Time a detector's definition and its graph on each backend, in float32 on the CPU.

    Args:
        detector: in deployed form.
        backends: names; those that refuse the graph are left out.
        image_size: (H, W); by default the detector's own.
        batch_size: images per call.
        repeats: turns.

    Returns:
        Rows, the module first, and why backends refused.
    """
    from zoo.adapters.base import get_backend

    if repeats < 1 or batch_size < 1:
        raise InvalidInputError("repeats and batch size must be at least 1")
    size = image_size or detector.image_size
    graph = detector.to_nir(size)
    folded = detector.frames(noise(detector.config, size, batch_size)).float()
    frames = folded.unflatten(0, (detector.time_steps, -1))
    network, refused = detector.network.eval(), {}
    calls: dict[str, Callable[[], Any]] = {"module": lambda: network(folded)}
    for name in backends:
        try:
            runnable: Any = get_backend(name).build(graph)
        except UnsupportedGraphError as error:
            refused[name] = error.reasons[0]
            continue
        calls[name] = partial(runnable, frames)
    with torch.inference_mode():
        best = turns(calls, repeats)
    milliseconds = {name: 1000 * seconds / batch_size for name, seconds in best.items()}
    return [Timing(name, ms, ms / milliseconds["module"]) for name, ms in milliseconds.items()], refused


def acyclic_net(
    kind: str = "dense", channels: int = 256, side: int = 16, layers: int = 3, seed: int = 0
) -> nir.NIRGraph:
    """Convolutions with LIF neurons behind them, without any cycle.

    Args:
        kind: ``dense`` 3x3 convolutions, or ``separable`` ones as in SpikeYOLO: 1x1, then 7x7 depthwise.
        channels, side: (channels, side, side) everywhere.
        layers: how many.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    shape = (channels, side, side)
    kernels = {"dense": ((3, 1),), "separable": ((1, 1), (7, channels))}[kind]
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shape)})}
    edges, last = [], "input"
    for layer, (kernel, groups) in enumerate(kernels * layers):
        fan_in = channels // groups
        weight = rng.normal(0, 2 / np.sqrt(fan_in * kernel**2), (channels, fan_in, kernel, kernel)).astype(np.float32)
        one, zero = (np.broadcast_to(np.float64(value), shape) for value in (1.0, 0.0))
        bias = np.zeros(channels, np.float32)
        nodes[f"conv{layer}"] = nir.Conv2d((side, side), weight, 1, kernel // 2, 1, groups, bias)
        nodes[f"lif{layer}"] = nir.LIF(tau=one * 2, r=one * 2, v_leak=zero, v_threshold=one * 0.5, v_reset=zero)
        edges += [(last, f"conv{layer}"), (f"conv{layer}", f"lif{layer}")]
        last = f"lif{layer}"
    nodes["output"] = nir.Output({"output": np.array(shape)})
    return metadata.put(nir.NIRGraph(nodes, [*edges, (last, "output")], type_check=False), metadata.GraphInfo())


def time_folding(
    kind: str = "dense", *, time_steps: int = 8, repeats: int = 5, channels: int = 256, side: int = 16
) -> dict[str, float]:
    """Milliseconds per step of an acyclic net: all T steps folded into the batch, and stepped through one by one.

    Both are the executor: stepping is what it does with the nodes of a cycle, applied to all of them.
    """
    from zoo.adapters.executor import TorchRunnable
    from zoo.adapters.snntorch import FRAMEWORK
    from zoo.adapters.units import Context, Layer, Loop, Neuron
    from zoo.nir_graphs.normalise import normalise

    runnable = TorchRunnable(normalise(acyclic_net(kind, channels, side)), FRAMEWORK)
    x = (torch.rand(time_steps, 1, channels, side, side, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    ops = {unit.name: unit.cell if isinstance(unit, Neuron) else unit.op for unit in runnable.plan()
           if isinstance(unit, Neuron | Layer)}  # fmt: skip
    loop = Loop(["input"], tuple(ops), runnable.graph.sources, ops, frozenset())

    def stepped() -> Tensor:
        context = Context(time_steps, 1, {"input": x}, Counter({"output": 1, "input": 1}), frozenset())
        loop.run(context)
        return context.values["output"]

    with torch.inference_mode():
        if not torch.equal(stepped(), runnable(x)["output"]):
            raise AssertionError("stepping and folding must give the same bits")
        best = turns({"folded": lambda: runnable(x), "stepped": stepped}, repeats)
    return {name: 1000 * seconds / time_steps for name, seconds in best.items()}


def time_sampler(
    image_size: tuple[int, int] = (640, 640), *, tm: int = 4, ts: int = 1, repeats: int = 5
) -> dict[str, float]:
    """Milliseconds of EAS-SNN's adaptive sampler for one stream, and of its convolutions alone.

    Args:
        image_size: (H, W).
        tm, ts: micro-slices and frames.
        repeats: turns.
    """
    from zoo.detectors.eas_snn.sampler import AdaptiveSampler

    torch.manual_seed(0)
    sampler = AdaptiveSampler(tm=tm, ts=ts)
    slices = torch.poisson(torch.full((tm, 1, 2, *image_size), 0.2), generator=torch.Generator().manual_seed(0))
    spike = (slices[0] > 0).float()

    def convolutions() -> None:
        sampler.input_net(slices.flatten(0, 1))
        for _ in range(tm):
            sampler.gate_net(spike)

    with torch.inference_mode():
        best = turns({"convolutions": convolutions, "sampler": lambda: sampler(slices)}, repeats)
    return {name: 1000 * seconds for name, seconds in best.items()}


class _Fourier(torch.nn.Module):
    """There and back, without anything in between."""

    def __init__(self) -> None:
        super().__init__()
        self.transform, self.inverse = RFFT2(), IRFFT2()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), same shape."""
        return self.inverse(self.transform(x), x)


@dataclass(frozen=True)
class FourierCost:
    """What the transforms of one Fourier unit cost as convolutions of a NIR graph, and with torch.fft.

    Attributes:
        channels: of the unit.
        weights: of the convolutions.
        macs: multiplications and additions per map.
        graph_ms, fft_ms: per map, on the executor and with torch.fft.
    """

    channels: int
    weights: int
    macs: int
    graph_ms: float
    fft_ms: float


def fourier_cost(channels: int, size: tuple[int, int] = (20, 20), *, repeats: int = 5) -> FourierCost:
    """Count and time rfft2 and irfft2 of a map (channels, H, W).

    Args:
        channels: of the Fourier unit.
        size: (H, W) of the map; 20x20 at 640 pixels.
        repeats: turns.
    """
    from zoo.adapters.base import get_backend
    from zoo.nir_graphs.export import export_module

    module = _Fourier()
    graph = export_module(module, (channels, *size))
    convs = [node for node in graph.nodes.values() if isinstance(node, nir.Conv2d)]
    macs = sum(int(np.prod(node.output_type["output"])) * int(np.prod(node.weight.shape[1:])) for node in convs)
    x = torch.rand((1, 1, channels, *size), generator=torch.Generator().manual_seed(0))
    runnable: Any = get_backend("snntorch").build(graph)
    with torch.inference_mode():
        best = turns({"graph": lambda: runnable(x), "fft": lambda: module(x[0])}, repeats)
    weights = sum(int(node.weight.size) for node in convs)
    return FourierCost(channels, weights, macs, 1000 * best["graph"], 1000 * best["fft"])
