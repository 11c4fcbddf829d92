"""An image fed step by step: a network of rate-coded neurons for any number of steps, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.detectors.base import folded_input
from zoo.errors import InvalidInputError
from zoo.layers.protocols import ContinuingNeuron
from zoo.support.progress import progress_bar

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector

TOGETHER = 64
"""Images times steps that are computed at once, about: more do not fit into a processor's caches."""


@torch.no_grad()
def stream(
    detector: Detector,
    images: Tensor,
    *,
    time_steps: int | None = None,
    readouts: Iterable[int] | None = None,
    chunk: int | None = None,
    quiet: bool = False,
) -> Iterator[tuple[int, list[Tensor]]]:
    """Run a converted detector step by step, and read it at any time.

    The potentials of the neurons belong to this call: several of them may run in turns on one detector.

    Args:
        detector: converted from an ANN.
        images: (B, C, H, W) in [0, 1].
        time_steps: T; by default the detector's own.
        readouts: after how many steps to read; by default only after the last.
        chunk: steps that are computed at once; by default few for many images.
        quiet: no progress bar, also on a terminal.

    Yields:
        (t, head maps averaged over the first t steps, finest first).

    Raises:
        InvalidInputError: not a converted detector, or steps that are not positive.
    """
    if not detector.network.streams:
        raise InvalidInputError("only a detector that was converted from an ANN runs step by step: see zoo convert")
    total = detector.time_steps if time_steps is None else time_steps
    stops = sorted({*(readouts or ()), total})
    chunk = max(1, TOGETHER // max(1, len(images))) if chunk is None else chunk
    if stops[0] < 1 or stops[-1] > total or chunk < 1:
        raise InvalidInputError(f"steps must lie in 1..{total}, got {stops[0]}..{stops[-1]}")
    frame = folded_input(images, detector.config.model_copy(update={"time_steps": 1}))
    sums: list[Tensor] = []
    potentials: Mapping[str, Tensor] = {}
    done = 0
    with progress_bar("running", total=total, quiet=quiet) as bar:
        for stop in stops:
            while done < stop:
                steps = min(chunk, stop - done)
                maps, potentials = _steps(detector, frame, steps, potentials)
                sums = [before + map_ for before, map_ in zip(sums, maps, strict=True)] if sums else maps
                done += steps
                bar.advance(by=steps)
            yield stop, [map_ / done for map_ in sums]


def _steps(
    detector: Detector, frame: Tensor, steps: int, potentials: Mapping[str, Tensor]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Sums of the head maps over the next steps, and the potentials after them. Neurons are left as they were found."""
    neurons = {name: m for name, m in detector.network.named_modules() if isinstance(m, ContinuingNeuron)}
    device = next(detector.network.parameters()).device
    try:
        for name, neuron in neurons.items():
            neuron.time_steps, neuron.carries, neuron.carry = steps, True, potentials.get(name)
        maps = detector.network(frame.repeat(steps, 1, 1, 1).to(device, detector.dtype))
        after = {name: neuron.carry for name, neuron in neurons.items() if neuron.carry is not None}
    finally:
        for neuron in neurons.values():
            neuron.time_steps, neuron.carries, neuron.carry = detector.time_steps, False, None
    return [map_.unflatten(0, (steps, -1)).sum(0) for map_ in maps], after
