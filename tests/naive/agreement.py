"""Runs a case on the naive interpreter and on backends, and says where they disagree.

Results are kept as digests: a few hundred cases with all spikes and potentials would take too much memory.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tests.naive import interpreter
from tests.naive.generator import Case, random_case
from tests.naive.malformed import malformed_case
from zoo.adapters.base import get_backend
from zoo.errors import InvalidGraphError, InvalidInputError, ZooError
from zoo.nir_graphs.normalise import normalise

TORCH = ("snntorch", "norse", "spikingjelly", "sinabs")
BACKENDS = ("reference", *TORCH, "jax", "brian2")
KINDS = ("outputs", "spikes", "potentials")
MALFORMED = 5
"""Every so many cases one is malformed."""
REFUSALS = {interpreter.BadGraph: InvalidGraphError, interpreter.BadInput: InvalidInputError}
Digests = dict[tuple[str, str], str]


@dataclass(frozen=True)
class Answer:
    """What came of a case.

    Attributes:
        refusal: type of the error, None where it ran.
        digests: of every output, spike train and potential.
        firing, ties: number of spikes, and of potentials equal to their threshold.
        chances: number of comparisons with a threshold.
    """

    refusal: type[ZooError] | None
    digests: Digests
    firing: int = 0
    ties: int = 0
    chances: int = 0


def case_of(seed: int) -> Case:
    """The case of a seed: one of five is malformed."""
    return malformed_case(seed // MALFORMED)[0] if seed % MALFORMED == MALFORMED - 1 else random_case(seed)


def digests_of(result: Any) -> Digests:
    """Digests of a result or a trace, the same for all number types and for both zeros."""
    return {
        (kind, name): hashlib.blake2b(
            repr(np.shape(value)).encode() + np.ascontiguousarray(np.asarray(value, np.float64) + 0.0).tobytes()
        ).hexdigest()
        for kind in KINDS
        for name, value in getattr(result, kind).items()
    }


def naive_result(case: Case, number: Any = np.float64) -> interpreter.Result:
    """The naive interpreter's result, or its refusal."""
    return interpreter.run(case.graph, case.x, dt=case.dt, delayed_edges=case.delayed_edges, number=number)


@functools.cache
def expected(seed: int, number: Any = np.float64) -> Answer:
    """The naive interpreter's answer."""
    case = case_of(seed)
    try:
        result = naive_result(case, number)
    except tuple(REFUSALS) as refusal:
        return Answer(REFUSALS[type(refusal)], {})
    flat = normalise(case.graph, dt=case.dt, delayed_edges=case.delayed_edges)  # for the names of the thresholds alone
    firing = ties = chances = 0
    for name, spikes in result.spikes.items():
        node = flat.nodes[name]
        threshold = node["threshold" if node.kind == "Threshold" else "v_threshold"]
        firing += int(spikes.sum())
        ties += int((result.potentials[name] == threshold).sum())
        chances += spikes.size
    return Answer(None, digests_of(result), firing, ties, chances)


@functools.cache
def is_exact(seed: int, wide: Any = np.longdouble, narrow: Any = np.float64) -> bool:
    """Whether no number of a case is rounded: the same result comes out in a wider type."""
    return expected(seed, wide).digests == expected(seed, narrow).digests


def answer(seed: int, backend: str, *, dtype: torch.dtype = torch.float64, fuse: bool = True) -> Answer:
    """A backend's answer. Where the caller has to name edges, it gets the normalised graph."""
    case = case_of(seed)
    try:
        graph: Any = case.graph
        dt = case.dt
        if case.delayed_edges:
            graph, dt = normalise(graph, dt=dt, delayed_edges=case.delayed_edges), None
        runnable = get_backend(backend).build(graph, dtype=dtype, dt=dt, fuse=fuse)
        x = {name: torch.from_numpy(value) for name, value in case.x.items()}
        trace = runnable.run(x, record="all")
        if seed % 4 == 0:  # a call runs another plan than a recording
            trace = replace(trace, outputs={name: value.detach().numpy() for name, value in runnable(x).items()})
    except ZooError as error:
        return Answer(type(error), {})
    return Answer(None, digests_of(trace))


def disagreements(seeds: Iterable[int], backends: Iterable[str], number: Any = np.float64, **options: Any) -> list[str]:
    """One line per case and backend that disagree with the naive interpreter."""
    found = []
    for seed in seeds:
        right = expected(seed, number)
        for backend in backends:
            got = answer(seed, backend, **options)
            if got.refusal != right.refusal:
                words = [each.__name__ if each else "runs" for each in (right.refusal, got.refusal)]
                found.append(f"case {seed}, {backend}: {words[0]} expected, {words[1]} got")
            elif got.digests != right.digests:
                wrong = [" ".join(key) for key in right.digests if got.digests.get(key) != right.digests[key]]
                found.append(f"case {seed}, {backend}: {', '.join(wrong) or 'other names'}")
    return found
