"""Spike-exact comparison of a detector's definition, the numpy reference and every backend.

The snnTorch module is run itself, with a hook on each neuron: a count s >= k is a spike of the k-th level's Threshold node.
The backends run the exported graph. The reference interpreter in float64 is the judge of all of them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata as distributions
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zoo.config import make_config
from zoo.detectors.building import fill, from_config
from zoo.detectors.detector import Detector
from zoo.equivalence.probes import default_images, given_images
from zoo.equivalence.report import Comparison, NodeResult, Report
from zoo.equivalence.runners import Array, GraphRunner, ModuleRunner, Recorded, Recording, Runner
from zoo.errors import InvalidInputError
from zoo.nir_graphs import reference
from zoo.nir_graphs.certificate import Certificate, certify
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import Graph, normalise

if TYPE_CHECKING:
    from zoo.data.images import ImageSource

RECORDED = 4  # default images per group where everything is kept
CHUNK = 2**19  # input values per run: bounds the memory that recorded spikes take


Images = Tensor | Sequence["ImageSource"] | Mapping[str, Tensor] | None


def verify_detector(
    detector: Detector,
    backends: str | Sequence[str] = "all",
    *,
    images: Images = None,
    time_steps: int | None = None,
    dtype: torch.dtype = torch.float32,
    record: bool = False,
) -> Report:
    """Compare; see :func:`zoo.verify`. ``images`` may also be a mapping of group name to tensor."""
    (report,) = verify_in_each(detector, backends, images=images, time_steps=time_steps, dtypes=[dtype], record=record)
    return report


def verify_in_each(
    detector: Detector,
    backends: str | Sequence[str] = "all",
    *,
    dtypes: Sequence[torch.dtype],
    images: Images = None,
    time_steps: int | None = None,
    record: bool = False,
    graph: Graph | None = None,
) -> list[Report]:
    """Compare in several dtypes against one run of the judge.

    Args:
        detector, backends, images, time_steps, record: see :func:`verify_detector`.
        dtypes: one report each.
        graph: what reference and backends run, for example read from a file; by default the detector is exported.

    Raises:
        InvalidInputError: not a snnTorch detector, images that do not fit, or a graph of another detector.
        ExportError, UnsupportedGraphError: the detector cannot be exported, or not be run, exactly.
    """
    if not isinstance(detector, Detector):
        raise InvalidInputError(
            f"zoo.verify takes a name, a model folder or a snnTorch detector, got {type(detector).__name__}"
        )
    names, asked = _names(backends)
    deployed = _deployed(detector, time_steps)
    groups = _groups(images, deployed, few=record)
    if torch.float32 in dtypes:  # every backend, the judge too, sees the very same numbers
        groups = {name: frames.float().double() for name, frames in groups.items()}
    image_size = _common_size(groups)
    flat = normalise(deployed.to_nir(image_size) if graph is None else graph)
    names, refused = _willing(names, asked, flat)
    runners: dict[torch.dtype, list[Runner]] = {
        dtype: [ModuleRunner(deployed, flat, dtype), *(GraphRunner(name, flat, dtype) for name in names)]
        for dtype in dtypes
    }
    proofs = {dtype: _certificate(flat, dtype) for dtype in dtypes}
    work = _Comparing(flat, [runner for group in runners.values() for runner in group], record=record)
    tallies = {name: work.compare(name, frames) for name, frames in groups.items()}
    return [
        Report(
            model=deployed.card.name if deployed.card is not None else deployed.config.arch,
            dtype=str(dtype).removeprefix("torch."),
            time_steps=deployed.time_steps,
            image_size=image_size,
            comparisons=tuple(
                tally.comparison(name, groups[name].shape[1])
                for name, found in tallies.items()
                for tally in found
                if tally.runner in runners[dtype]
            ),
            versions=_versions(),
            certificate=None if (proof := proofs[dtype]) is None else proof.summary(),
            certified=proof is not None and proof.certified,
            refused=refused,
            traces={key[:2]: traces for key, traces in work.traces.items() if key[2] in (dtype, None)},
            graph=flat,
        )
        for dtype in dtypes
    ]


def _deployed(detector: Detector, time_steps: int | None) -> Detector:
    """A fused copy on the CPU in float32, with another T where asked for."""
    if not detector.is_fused:
        deployed = detector.fuse()
    elif detector.dtype != torch.float32:
        raise InvalidInputError("a fused detector is compared with its stored float32 constants: load it in float32")
    else:
        deployed = copy.deepcopy(detector).cpu().eval()
    if time_steps is not None and time_steps != deployed.time_steps:
        twin = from_config(make_config(**deployed.config.model_dump() | {"time_steps": time_steps}), numbers=False)
        fill(twin, deployed.state_dict())
        twin.card = deployed.card
        deployed = twin
    return deployed.requires_grad_(False)


def _groups(images: Images, detector: Detector, *, few: bool) -> dict[str, Tensor]:
    """Frames (T, B, C, H, W), float64, by group."""
    config = detector.config
    if images is None:
        groups: Mapping[str, Tensor] = default_images(config, count=RECORDED if few else None)
    elif isinstance(images, Mapping):
        groups = {name: given_images(tensor, config) for name, tensor in images.items()}
    else:
        groups = {"given": given_images(images, config)}
    with torch.inference_mode():  # an encoder runs once, and everyone sees its frames
        folded = {name: detector.frames(tensor).double() for name, tensor in groups.items()}
    return {name: frames.unflatten(0, (config.time_steps, -1)) for name, frames in folded.items()}


def _common_size(groups: Mapping[str, Tensor]) -> tuple[int, int]:
    sizes = {tuple(frames.shape[-2:]) for frames in groups.values()}
    if len(sizes) != 1:
        raise InvalidInputError(f"all images of one comparison have one size, got {sorted(sizes)}")
    height, width = sizes.pop()
    return height, width


def _names(backends: str | Sequence[str]) -> tuple[list[str], set[str]]:
    """Backends to run besides the definition and the reference, in order and once each; those that were asked for by name."""
    from zoo.adapters.base import get_backend

    given = [backends] if isinstance(backends, str) else list(backends)
    asked = {name for name in given if name != "all"}
    names = [*given, *(_installed() if "all" in given else [])]
    names = [name for name in dict.fromkeys(names) if name not in {"reference", "all"}]
    for name in names:
        get_backend(name)
    return names, asked


def _willing(names: list[str], asked: set[str], graph: FlatGraph) -> tuple[list[str], dict[str, list[str]]]:
    """Backends that run the graph, and why the others do not; one that was asked for by name may not refuse."""
    from zoo.adapters.base import get_backend

    reasons = {name: get_backend(name).check(graph) for name in names if name not in asked}
    return [name for name in names if not reasons.get(name)], {name: why for name, why in reasons.items() if why}


def _certificate(graph: FlatGraph, dtype: torch.dtype) -> Certificate | None:
    if graph.info.input_grid is None:
        return None
    return certify(graph, dtype=str(dtype).removeprefix("torch."))


def _installed() -> list[str]:
    from zoo.adapters.base import BACKENDS, get_backend
    from zoo.errors import MissingFrameworkError

    found = []
    for name in BACKENDS:
        try:
            get_backend(name)
        except MissingFrameworkError:
            continue
        found.append(name)
    return found


@dataclass
class _Tally:
    """Counts of one comparison, summed over chunks of images."""

    runner: Runner
    nodes: dict[str, NodeResult] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    magnitudes: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    with_module: tuple[int, int] = (0, 0)

    def add(self, judge: Recorded, found: Recorded, owners: Mapping[str, str]) -> None:
        wanted = judge.spikes.keys() & owners.keys() if isinstance(self.runner, ModuleRunner) else judge.spikes.keys()
        for node in judge.spikes:
            if node in wanted:
                here = _node_result(node, owners.get(node), judge.spikes[node], _get(found.spikes, node, self.runner))
                self.nodes[node] = _merge(self.nodes.get(node), here)
        for name, expected in judge.outputs.items():
            difference = np.abs(_get(found.outputs, name, self.runner).astype(np.float64) - expected).max()
            self.differences[name] = _worse(self.differences.get(name, 0.0), float(difference))
            self.magnitudes[name] = max(self.magnitudes.get(name, 0.0), float(np.abs(expected).max()))

    def add_module(self, module: Recorded, found: Recorded) -> None:
        """Common spikes, and spikes of either, of this backend and the snnTorch module in the same dtype."""
        pairs = [(spikes > 0, _get(found.spikes, node, self.runner) > 0) for node, spikes in module.spikes.items()]
        common, either = (sum(int(op(a, b).sum()) for a, b in pairs) for op in (np.logical_and, np.logical_or))
        self.with_module = (self.with_module[0] + common, self.with_module[1] + either)

    def comparison(self, group: str, images: int) -> Comparison:
        errors = {name: _relative(value, self.magnitudes[name]) for name, value in self.differences.items()}
        common, either = self.with_module
        return Comparison(
            backend=self.runner.name,
            inputs=group,
            images=images,
            nodes=tuple(self.nodes.values()),
            head_errors=errors,
            own_cells=self.runner.own_cells,
            module_iou=common / either if either else None,
            seconds=self.seconds,
        )


def _get(arrays: Mapping[str, Array], name: str, runner: Runner) -> Array:
    if name not in arrays:
        raise InvalidInputError(f"backend {runner.name!r} recorded nothing for the node {name!r}")
    return arrays[name]


def _worse(one: float, other: float) -> float:
    return one if np.isnan(one) or one > other else other


def _relative(difference: float, magnitude: float) -> float:
    if not np.isfinite(difference) or (magnitude == 0 and difference > 0):
        return float("inf")
    return difference / magnitude if magnitude else 0.0


def _node_result(node: str, module: str | None, expected: Array, found: Array) -> NodeResult:
    one, other = expected > 0, found > 0
    if one.shape != other.shape:
        raise InvalidInputError(f"node {node!r} has spikes of shape {other.shape} instead of {one.shape}")
    differing = (one != other).reshape(len(one), -1).any(1)
    return NodeResult(
        node=node,
        module=module,
        expected=int(one.sum()),
        spikes=int(other.sum()),
        common=int((one & other).sum()),
        first_step=int(differing.argmax()) if differing.any() else None,
    )


def _merge(one: NodeResult | None, other: NodeResult) -> NodeResult:
    if one is None:
        return other
    steps = [step for step in (one.first_step, other.first_step) if step is not None]
    return replace(
        one,
        expected=one.expected + other.expected,
        spikes=one.spikes + other.spikes,
        common=one.common + other.common,
        first_step=min(steps, default=None),
    )


class _Comparing:
    """Several runners against one run of the judge.

    Args:
        graph: what the judge runs.
        runners: what is compared; in each dtype the module comes first. Modules own nodes of the graph.
        record: keep all traces.
    """

    def __init__(self, graph: FlatGraph, runners: Sequence[Runner], *, record: bool) -> None:
        self.graph = graph
        self.runners = runners
        self.owners = next(runner.owners for runner in runners if isinstance(runner, ModuleRunner))
        self.record = record
        self.traces: dict[tuple[str, str, torch.dtype | None], list[Any]] = {}

    def compare(self, group: str, frames: Tensor) -> list[_Tally]:
        """Every runner against the judge on frames (T, B, C, H, W)."""
        tallies = [_Tally(runner) for runner in self.runners]
        for chunk in frames.split(max(1, CHUNK // frames[:, 0].numel()), dim=1):
            kept: list[Any] = []
            judge = _judge(self.graph, chunk, kept if self.record else None)
            if unseen := self.owners.keys() - judge.spikes.keys():
                raise InvalidInputError(f"the reference recorded nothing for {', '.join(sorted(unseen)[:3])}")
            if self.record:
                self.traces.setdefault((group, "reference", None), []).extend(kept)
            modules: dict[torch.dtype, Recorded] = {}
            for tally in tallies:
                found = self._run(tally, group, chunk, judge)
                if isinstance(tally.runner, ModuleRunner):
                    modules[tally.runner.dtype] = found
                else:
                    tally.add_module(modules[tally.runner.dtype], found)
        return tallies

    def _run(self, tally: _Tally, group: str, chunk: Tensor, judge: Recorded) -> Recorded:
        runner = tally.runner
        started = time.perf_counter()
        found = runner.run(chunk)
        tally.seconds += time.perf_counter() - started
        tally.add(judge, found, self.owners)
        if self.record:
            self.traces.setdefault((group, runner.name, runner.dtype), []).append(found)
        return found


def _judge(graph: FlatGraph, frames: Tensor, traces: list[Any] | None) -> Recording:
    """The reference's outputs and spikes; a few images at a time, because potentials in float64 take most of the memory."""
    parts: list[Recording] = []
    for part in frames.split(max(1, CHUNK // (8 * frames[:, 0].numel())), dim=1):
        trace = reference.run(graph, part.numpy(), record="neurons")
        parts.append(Recording(dict(trace.outputs), {node: spikes > 0 for node, spikes in trace.spikes.items()}))
        if traces is not None:
            traces.append(trace)
    order = [name for name in graph.order if name in parts[0].spikes]  # what "first divergence" refers to
    return Recording(
        {name: np.concatenate([part.outputs[name] for part in parts], axis=1) for name in parts[0].outputs},
        {name: np.concatenate([part.spikes[name] for part in parts], axis=1) for name in order},
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in (
        "nir-zoo",
        "nir",
        "numpy",
        "torch",
        "snntorch",
        "norse",
        "spikingjelly",
        "sinabs",
        "jax",
        "spyx",
        "brian2",
    ):
        try:
            found[name] = distributions.version(name)
        except distributions.PackageNotFoundError:
            continue
    return found
