"""Node facts: the one table of what is known of each NIR node type.

Everything that has to know whether a node fires, whether it has memory, which parameters it has and along which axes they
apply, or what shape it gives out, asks this table. To add a node type, add a row here, its equation to
``zoo.nir_graphs.reference``, and a row to the table of each backend family; ``docs/extending.md`` lists the places.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from zoo.nir_graphs.fields import MAX_STEPS, Array, Fields, Shape, compact, frozen

Values = dict[str, Any]
Read = Callable[[Fields, Shape, float], tuple[Values, Shape]]
"""(fields, input shape, dt) -> (checked values, output shape)."""


@dataclass(frozen=True)
class NodeFacts:
    """What is known of a node type.

    Attributes:
        type: NIR class.
        read: checks the fields of a node and infers its output shape.
        elements: parameters with one number per element, which broadcast to the node's shape.
        times: parameters that are times, in the unit of dt.
        spiking: whether it gives out 0 or 1 by comparing a potential with a threshold.
        stateful: whether it has a membrane, or a synapse, that remembers.
        borders: whether it is an Input or an Output.
        trainable: parameters that training may change.
    """

    type: type
    read: Read
    elements: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    spiking: bool = False
    stateful: bool = False
    borders: bool = False
    trainable: tuple[str, ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)


def _elementwise(elements: tuple[str, ...], times: tuple[str, ...], defaults: Mapping[str, float]) -> Read:
    def read(fields: Fields, shape: Shape, dt: float) -> tuple[Values, Shape]:
        values = {
            name: fields.element(name, shape, positive=name in times, default=defaults.get(name)) for name in elements
        }
        for name in times:
            _require_step(fields, name, float(values[name].min()), dt)
        return values, shape

    return read


def _require_step(fields: Fields, name: str, least: float, dt: float) -> None:
    """Steps that are too long for a time constant: refused where dt / tau is no number, noted where potentials explode."""
    if dt > least * sys.float_info.max:
        fields.refuse(f"has a {name} of {least:g}, so short that dt / {name} overflows; is dt = {dt:g} in its unit?")
    if dt > 2 * least:
        fields.note(
            "unstable",
            f"has a {name} of {least:g}, less than half of dt = {dt:g}: its values grow from step to step without bound; "
            "is dt in the unit of the graph's times?",
        )


def _neuron(
    kind: type, *elements: str, times: tuple[str, ...] = (), spiking: bool = False, stateful: bool = True
) -> NodeFacts:
    defaults = {name: value for name, value in (("v_reset", 0.0), ("w_in", 1.0)) if name in elements}
    return NodeFacts(
        kind, _elementwise(elements, times, defaults), elements, times, spiking, stateful, defaults=defaults
    )


def _delay(fields: Fields, shape: Shape, dt: float) -> tuple[Values, Shape]:
    delay = fields.element("delay", shape)
    with np.errstate(over="ignore"):
        steps = np.asarray(delay, np.float64) / dt
    whole = np.rint(np.minimum(steps, 2.0 * MAX_STEPS))
    wrong = (whole < 1) | (np.abs(steps - whole) > 1e-6 * whole) | (whole > MAX_STEPS)
    if wrong.any():
        fields.refuse(
            f"has a delay of {float(np.ravel(delay)[np.argmax(wrong)]):g}; it must be a positive multiple of dt = {dt:g}, "
            f"at most {MAX_STEPS} steps"
        )
    return {"delay": delay, "steps": frozen(compact(whole.astype(np.int64)))}, shape


def _window(fields: Fields, size: int, sides: tuple[int, int], reach: int, stride: int) -> int:
    """Output size along one axis of a convolution or pool."""
    padded = size + sum(sides)
    if padded < reach + 1:
        fields.refuse(f"has a window of {reach + 1}, larger than its padded input of {padded}")
    return (padded - reach - 1) // stride + 1


def _convolution(fields: Fields, x: Shape, _dt: float) -> tuple[Values, Shape]:
    axes = 1 if isinstance(fields.node, nir.Conv1d) else 2
    weight = fields.reals("weight")
    if weight.ndim != axes + 2 or 0 in weight.shape:
        fields.refuse(
            f"has a weight of shape {weight.shape}; it must have {axes + 2} axes: outputs, inputs per group, kernel"
        )
    if len(x) != axes + 1:
        fields.refuse(f"takes inputs of {axes + 1} axes (channels first), but gets {x}")
    (groups,) = fields.whole("groups", 1, least=1)
    if weight.shape[0] % groups:
        fields.refuse(f"has {weight.shape[0]} output channels, which do not divide into {groups} groups")
    if x[0] != weight.shape[1] * groups:
        fields.refuse(f"takes {weight.shape[1] * groups} channels (in groups: {groups}), but gets {x[0]}")
    bias = _bias(fields, weight.shape[0], axes)
    stride, dilation = fields.whole("stride", axes, least=1), fields.whole("dilation", axes, least=1)
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    padding = fields.padding(reach, stride)
    spatial = [_window(fields, *parts) for parts in zip(x[1:], padding, reach, stride, strict=True)]
    fields.stated_shape("input_shape", getattr(fields.node, "input_shape", None), x[1:])
    values = {"weight": frozen(weight), "bias": bias, "stride": stride, "dilation": dilation, "padding": padding}
    return {**values, "groups": groups}, (weight.shape[0], *spatial)


def _bias(fields: Fields, outputs: int, axes: int) -> Array:
    """A bias with one number per output; ``axes`` of length 1 may follow."""
    bias = fields.reals("bias")
    if bias.shape != (outputs,):
        if bias.size == 1:
            fields.note("broadcast", f"has a bias of shape {bias.shape}, used for all of its {outputs} outputs")
        elif bias.shape not in {(outputs, *[1] * n) for n in range(1, axes + 1)}:
            fields.refuse(f"has a bias of shape {bias.shape}; it must be one number per output, ({outputs},)")
    return frozen(np.broadcast_to(bias.reshape(-1), (outputs,)))


def _pool(fields: Fields, x: Shape, _dt: float) -> tuple[Values, Shape]:
    if len(x) != 3:
        fields.refuse(f"takes inputs (channels, height, width), but gets {x}")
    kernel, stride = fields.whole("kernel_size", 2, least=1), fields.whole("stride", 2, least=1)
    padding = tuple((n, n) for n in fields.whole("padding", 2, least=0))
    reach = [k - 1 for k in kernel]
    spatial = [_window(fields, *parts) for parts in zip(x[1:], padding, reach, stride, strict=True)]
    return {"kernel_size": kernel, "stride": stride, "padding": padding}, (x[0], *spatial)


def _dense(fields: Fields, x: Shape, _dt: float) -> tuple[Values, Shape]:
    weight = fields.reals("weight")
    if weight.ndim != 2 or 0 in weight.shape:
        fields.refuse(
            f"has a weight of shape {weight.shape}; only (outputs, inputs) has an agreed meaning: split batches of "
            "matrices into several nodes"
        )
    rows, columns = weight.shape
    if not x or x[-1] != columns:
        fields.refuse(f"takes {columns} inputs, but gets {x}")
    values: Values = {"weight": frozen(weight)}
    if isinstance(fields.node, nir.Affine):
        values["bias"] = _bias(fields, rows, axes=1 if len(x) == 1 else 0)
    return values, (*x[:-1], rows)


def _flatten(fields: Fields, x: Shape, _dt: float) -> tuple[Values, Shape]:
    (start,), (end,) = (fields.whole(name, 1, least=-len(x)) for name in ("start_dim", "end_dim"))
    for name, axis in (("start_dim", start), ("end_dim", end)):
        if axis >= len(x):
            fields.refuse(
                f"has the {name} {axis}, but its input {x} has the axes 0 to {len(x) - 1} (the batch does not count)"
            )
    start, end = start % len(x), end % len(x)
    if start > end:
        fields.refuse(f"flattens from axis {start} to axis {end}; start_dim must not come after end_dim")
    fields.stated_shape("input_type", (fields.node.input_type or {}).get("input"), x)
    values = {"start_dim": start, "end_dim": end}
    return values, (*x[:start], int(np.prod(x[start : end + 1], dtype=np.int64)), *x[end + 1 :])


def _same(_fields: Fields, x: Shape, _dt: float) -> tuple[Values, Shape]:
    return {}, x


_LI, _CUBA = ("tau", "r", "v_leak"), ("tau_syn", "tau_mem", "r", "v_leak", "w_in")
_FIRE = ("v_threshold", "v_reset")
FACTS: dict[type, NodeFacts] = {
    facts.type: facts
    for facts in (
        NodeFacts(nir.Input, _same, borders=True),
        NodeFacts(nir.Output, _same, borders=True),
        NodeFacts(nir.Affine, _dense, trainable=("weight", "bias")),
        NodeFacts(nir.Linear, _dense, trainable=("weight",)),
        NodeFacts(nir.Conv1d, _convolution, trainable=("weight", "bias")),
        NodeFacts(nir.Conv2d, _convolution, trainable=("weight", "bias")),
        NodeFacts(nir.SumPool2d, _pool),
        NodeFacts(nir.AvgPool2d, _pool),
        NodeFacts(nir.Flatten, _flatten),
        NodeFacts(nir.Scale, _elementwise(("scale",), (), {}), ("scale",)),
        NodeFacts(nir.Delay, _delay, ("delay",), ("delay",)),
        _neuron(nir.Threshold, "threshold", spiking=True, stateful=False),
        _neuron(nir.I, "r"),
        _neuron(nir.IF, "r", *_FIRE, spiking=True),
        _neuron(nir.LI, *_LI, times=("tau",)),
        _neuron(nir.LIF, *_LI, *_FIRE, times=("tau",), spiking=True),
        _neuron(nir.CubaLI, *_CUBA, times=("tau_syn", "tau_mem")),
        _neuron(nir.CubaLIF, *_CUBA, *_FIRE, times=("tau_syn", "tau_mem"), spiking=True),
    )
}
"""Facts by NIR class, for every node type that has a discrete-time meaning. Subgraphs are flattened before."""
SPIKING = frozenset(kind for kind, facts in FACTS.items() if facts.spiking)
"""Types that give out 0 or 1."""
STATEFUL = frozenset(kind for kind, facts in FACTS.items() if facts.stateful)
"""Types with a membrane: what frameworks have cells for."""
NEURONS = SPIKING | STATEFUL
"""Types with a membrane or a threshold."""
