"""The exactness certificate: a proof that a graph gives the same bits everywhere.

If all constants and inputs lie on power-of-two grids and every possible partial sum stays within 2^24 grid units (float32; 2^53
for float64), no operation ever rounds. Then the order of summation, the number of threads, the library and the device do not
matter: potentials and spikes are bit-identical. This module proves it node by node, without running the graph.

The *margin* is the least distance between a threshold and any number that the potential can take, in grid units: at best half
a unit. With a margin, spikes are the same even where a library sums by Winograd's or the Fourier transform, whose errors are
not covered by any summation order; and no potential can tie with a threshold. Without one (a margin of 0), exact arithmetic
still decides every tie alike.

Comparisons take no bits of their own: the sign of a rounded difference is the sign of the difference.

What is proved holds for the CPU and for any device that computes in the stated type; a GPU that is allowed to shorten the
mantissa (TF32) does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from zoo.errors import InvalidInputError
from zoo.nir_graphs import bounds
from zoo.nir_graphs.bounds import FREE, Bound
from zoo.nir_graphs.exactness import LIMITS, Analysis, Work
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import Graph, normalise

__all__ = ["FLOAT_PIXELS", "LIMITS", "PIXELS", "SPIKES", "Certificate", "InputGrid", "NodeCertificate", "certify"]
_EXPONENTS = (-1074, 1023)


@dataclass(frozen=True)
class InputGrid:
    """What may be fed into a graph: whole multiples of ``2 ** exponent`` in ``low..high``.

    Raises:
        InvalidInputError: an exponent that is no whole number or lies beyond float64, a range that is not finite or does not
            ascend, or one without any such number.
    """

    exponent: int
    low: float
    high: float

    def __post_init__(self) -> None:
        least, most = _EXPONENTS
        if isinstance(self.exponent, bool) or not isinstance(self.exponent, int | np.integer):
            raise InvalidInputError(f"the exponent of an input grid must be a whole number, got {self.exponent!r}")
        if not least <= self.exponent <= most:
            raise InvalidInputError(f"the exponent of an input grid must lie in {least}..{most}, got {self.exponent}")
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= self.high):
            raise InvalidInputError(f"an input range must be finite and ascend, got {self.low}..{self.high}")
        bound = self.bound
        if bound.low > bound.high:
            raise InvalidInputError(f"no multiple of 2^{self.exponent} lies in {self.low}..{self.high}")

    @property
    def bound(self) -> Bound:
        """As a bound."""
        return bounds.on_grid(
            np.asarray(self.exponent, np.int64), np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)
        )


PIXELS = InputGrid(-8, 0.0, 255 / 256)
"""Images of 8 bits, divided by 256."""
FLOAT_PIXELS = InputGrid(-31, 0.0, 1.0)
"""Images of 8 bits, divided by 255 and rounded to float32: the least that is not zero has its last bit at 2^-31."""
SPIKES = InputGrid(0, 0.0, 1.0)
"""Binary events."""


@dataclass(frozen=True)
class NodeCertificate:
    """What is known of one node.

    Attributes:
        kind: node type.
        grid: exponent of its output's (finest) grid; None where it is always zero.
        low, high: range of its output.
        bits: that its largest possible partial sum takes, in units of the grid there.
        margin: of its threshold, in grid units of the potential; None where it does not fire, or where no threshold is in
            reach.
        problem: why it is not exact; None where it is.
        potential_grid: exponents of the grid of the potential that its threshold is compared with, per channel or once for all.
    """

    kind: str
    grid: int | None
    low: float
    high: float
    bits: float
    margin: float | None
    problem: str | None
    potential_grid: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Certificate:
    """The result of :func:`certify`.

    Attributes:
        dtype: ``float32`` or ``float64``.
        time_steps: T that it holds for; None for any.
        inputs: what may be fed in, by Input node.
        nodes: by name, in the order of evaluation.
    """

    dtype: str
    time_steps: int | None
    inputs: Mapping[str, InputGrid]
    nodes: Mapping[str, NodeCertificate] = field(repr=False)

    @property
    def certified(self) -> bool:
        """Whether every operation is exact."""
        return not self.why

    @property
    def why(self) -> list[str]:
        """Why it is not certified: one sentence per node in the way."""
        return [f"node {name!r} ({n.kind}) {n.problem}" for name, n in self.nodes.items() if n.problem is not None]

    @property
    def bits(self) -> float:
        """Bits that the largest possible partial sum takes."""
        return max((node.bits for node in self.nodes.values()), default=0.0)

    @property
    def margin(self) -> float | None:
        """Least margin of all neurons, in grid units; None where nothing can fire."""
        return min((node.margin for node in self.nodes.values() if node.margin is not None), default=None)

    @property
    def tightest(self) -> str | None:
        """The node that takes the most bits."""
        return max(self.nodes, key=lambda name: self.nodes[name].bits, default=None)

    def summary(self) -> str:
        """One sentence."""
        limit = LIMITS[self.dtype]
        if not self.certified:
            return f"not certified for {self.dtype}: {len(self.why)} of {len(self.nodes)} nodes may round"
        margin = "nothing fires" if self.margin is None else f"margin {self.margin:g} grid units"
        return f"certified for {self.dtype}: at most {self.bits:.2f} of {limit} bits ({self.tightest}), {margin}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "certified": self.certified,
            "dtype": self.dtype,
            "time_steps": self.time_steps,
            "bits": _finite(self.bits),
            "margin": self.margin,
            "why": self.why,
            "inputs": {name: asdict(grid) for name, grid in self.inputs.items()},
            "nodes": {
                name: {key: _finite(value) for key, value in asdict(node).items() if key != "potential_grid"}
                for name, node in self.nodes.items()
            },
        }


def _finite(value: Any) -> Any:
    """Infinity has no place in JSON: None."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def certify(
    graph: Graph,
    *,
    dtype: str = "float32",
    inputs: InputGrid | Mapping[str, InputGrid] | None = None,
    time_steps: int | None = None,
    dt: float | None = None,
) -> Certificate:
    """Analyse a graph.

    Args:
        graph: a ``FlatGraph``; a NIR graph is normalised first.
        dtype: ``float32`` or ``float64``.
        inputs: what may be fed in; by default what the graph's metadata says.
        time_steps: T; by default what the metadata says. Needed where nodes have memory.
        dt: length of a step, for a NIR graph; see :func:`zoo.nir_graphs.normalise.normalise`.

    Raises:
        InvalidInputError: an unknown dtype; inputs, T or dt that neither arguments nor metadata tell.
        InvalidGraphError: the graph breaks the discrete-time contract.
    """
    if dtype not in LIMITS:
        raise InvalidInputError(f"a certificate is for {' or '.join(LIMITS)}, not for {dtype!r}")
    graph = normalise(graph, dt=dt)
    given = _inputs(inputs if inputs is not None else graph.info.input_grid, graph.inputs)
    steps = _time_steps(graph, time_steps)
    analysis = Analysis(graph, dtype, {name: grid.bound for name, grid in given.items()}, steps or 1)
    analysis.run()
    nodes = {n: _certified(graph.nodes[n].kind, analysis.work[n], analysis.values[n]) for n in graph.order}
    return Certificate(dtype, steps, given, nodes)


def _time_steps(graph: FlatGraph, time_steps: int | None) -> int | None:
    """T where nodes have memory; else None."""
    steps = graph.info.time_steps if time_steps is None else time_steps
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1):
        raise InvalidInputError(f"the number of time steps must be a positive whole number, got {steps!r}")
    if not graph.has_memory:
        return None
    if steps is None:
        raise InvalidInputError(
            "nodes with memory lose bits with every step: say for how many steps, time_steps=... in Python or --time-steps "
            "on the command line"
        )
    return int(steps)


def _inputs(
    given: InputGrid | Mapping[str, InputGrid] | list[float] | None, names: tuple[str, ...]
) -> dict[str, InputGrid]:
    if given is None:
        raise InvalidInputError(
            "what may be fed into this graph is unknown, so that nothing can be proved; say it with inputs=InputGrid(exponent, "
            "low, high) in Python, or with --input EXPONENT,LOW,HIGH on the command line. A detector is certified for images "
            "of 8 bits once it is quantised: zoo quantize"
        )
    if isinstance(given, list):
        given = InputGrid(int(given[0]), *given[1:])
    if isinstance(given, InputGrid):
        return dict.fromkeys(names, given)
    if set(given) != set(names):
        raise InvalidInputError(f"the graph has the inputs {', '.join(names)}, got {', '.join(given)}")
    return {name: given[name] for name in names}


def _certified(kind: str, work: Work, value: Bound) -> NodeCertificate:
    whole = value.whole
    grid = int(whole.grid)
    return NodeCertificate(
        kind=kind,
        grid=None if grid >= FREE else grid,
        low=float(whole.low),
        high=float(whole.high),
        bits=work.bits,
        margin=work.margin if work.fires and np.isfinite(work.margin) else None,
        problem=work.reason,
        potential_grid=_by_channel(work.potential),
    )


def _by_channel(potential: Bound | None) -> tuple[int, ...]:
    """Exponents per index of the first axis, or one for all."""
    if potential is None:
        return ()
    return tuple(potential.over(tuple(range(1, potential.grid.ndim))).grid.ravel().tolist())
