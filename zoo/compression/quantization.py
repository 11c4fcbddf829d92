"""Quantisation to power-of-two grids: what makes a detector certifiable, and fits the 8-bit weights of neuromorphic chips.

Every convolution weight becomes a whole number of at most ``bits`` bits (signed) times a power of two, one per layer or per
output channel; every bias a whole number of units of the sums it is added to. Each threshold then moves to the middle between
two numbers that the potential can take, which changes no decision and gives it a margin of half a unit on both sides. The
input is a picture of 8 bits divided by 256, and the stem makes up for it.

Re-parameterised convolutions are merged first, so that every synapse behind the stem sees spikes only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zoo.config import Quantization
from zoo.detectors.deployed import store_thresholds_per_channel_
from zoo.detectors.detector import Detector
from zoo.errors import InvalidInputError
from zoo.layers.neurons import ILIF, LIF
from zoo.support.progress import progress_bar

Per = Literal["layer", "channel"]
PIXEL_EXPONENT = -8
"""Pictures are whole multiples of 1/256."""
CANDIDATES = 3
"""Grids tried per layer: the coarsest that clips nothing, and finer ones, which clip the largest weights."""


def quantize(
    detector: Detector, *, bits: int = 8, per: Per = "layer", calibration: Tensor | None = None, decay_bits: int = 4
) -> Detector:
    """Round a detector to power-of-two grids.

    Args:
        detector: in training form, or deployed and merged.
        bits: of a weight, 4..16, its sign included.
        per: one grid per ``layer`` or per output ``channel``.
        calibration: images (B, C, H, W) in [0, 1]. With them, each layer gets the grid that changes its output least on what
            it really receives; without, the grid that changes its weights least.
        decay_bits: decays are rounded to multiples of 2 ** -decay_bits.

    Returns:
        A new detector in deployed form.

    Raises:
        InvalidInputError: bits out of bounds, a detector that is deployed but not merged, or quantised already.
    """
    out = _prepared(detector, bits, per, decay_bits)
    seen = {} if calibration is None else _layer_inputs(out, calibration)
    _round_all(out, bits, per, seen)
    return out


def straight_through(
    detector: Detector, *, bits: int = 8, per: Per = "layer", calibration: Tensor | None = None, decay_bits: int = 4
) -> Detector:
    """A detector to be fine-tuned: its forward pass sees rounded weights, its gradient goes to the full ones behind them.

    Arguments and errors as :func:`quantize`. The grids are chosen once, here. :func:`finish` makes the result a quantised
    detector with the very weights that the last forward pass saw.
    """
    out = _prepared(detector, bits, per, decay_bits)
    seen = {} if calibration is None else _layer_inputs(out, calibration)
    for name, conv in _convolutions(out):
        exponent = _best_exponent(conv, bits, per, seen.get(name))
        parametrize.register_parametrization(conv, "weight", _StraightThrough(exponent, bits))
    return out.requires_grad_(True)


def finish(detector: Detector) -> Detector:
    """The quantised detector that a fine-tuned :func:`straight_through` one has become."""
    settings = detector.config.quantization
    if settings is None:
        raise InvalidInputError("this detector was not made for quantisation: see straight_through()")
    out = copy.deepcopy(detector).requires_grad_(False).eval()
    for _, conv in _convolutions(out):
        parametrize.remove_parametrizations(conv, "weight", leave_parametrized=True)
        conv.weight.requires_grad_(False)
    _round_all(out, settings.bits, settings.per, {})
    return out


class _StraightThrough(nn.Module):
    """Rounds to a fixed grid; the gradient passes as if it did not."""

    exponent: Tensor

    def __init__(self, exponent: Tensor, bits: int) -> None:
        super().__init__()
        self.register_buffer("exponent", exponent)
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """(O, I, k, k), same shape."""
        return weight + (round_to_grid(weight, self.exponent, self.bits) - weight).detach()


def _prepared(detector: Detector, bits: int, per: Per, decay_bits: int) -> Detector:
    """Deployed, merged, for pictures on a grid, with short decays; nothing is rounded yet."""
    if not 4 <= bits <= 16:
        raise InvalidInputError(f"bits must lie in 4..16, got {bits}")
    if per not in {"layer", "channel"}:
        raise InvalidInputError(f"per must be 'layer' or 'channel', got {per!r}")
    if detector.encoder is not None:
        raise InvalidInputError(
            f"{detector.config.arch} is not quantised: its sampler makes frames of real numbers, which lie on no grid, so that "
            "no certificate could follow"
        )
    if detector.config.quantization is not None:
        raise InvalidInputError(
            "this detector is quantised already; quantise the trainable form: zoo.load(..., trainable=True)"
        )
    if detector.is_fused and not detector.config.merged:
        raise InvalidInputError(
            "a deployed detector must have its re-parameterised convolutions merged, so that every synapse sees spikes only; "
            "quantise the trainable form, zoo.load(..., trainable=True), or detector.fuse(merge=True)"
        )
    out = copy.deepcopy(detector) if detector.is_fused else detector.fuse(merge=True)
    out = out.float().eval().requires_grad_(False)
    out.config = out.config.model_copy(update={"quantization": Quantization(bits=bits, per=per)})
    _stem(out).weight.mul_(256 / 255)  # it takes n / 256 instead of n / 255
    snap_decays(out, decay_bits)
    return out


def _round_all(detector: Detector, bits: int, per: Per, seen: dict[str, Tensor]) -> None:
    """Round all constants, in place."""
    convolutions = _convolutions(detector)
    stem = _stem(detector)
    with progress_bar("quantising", total=len(convolutions)) as bar:
        for name, conv in convolutions:
            exponent = _best_exponent(conv, bits, per, seen.get(name))
            conv.weight.copy_(round_to_grid(conv.weight, exponent, bits))
            _round_bias(conv, exponent + (PIXEL_EXPONENT if conv is stem else 0))
            bar.advance(name)
    centre_thresholds(detector)


def _convolutions(detector: Detector) -> list[tuple[str, nn.Conv2d]]:
    return [(name, m) for name, m in detector.network.named_modules() if isinstance(m, nn.Conv2d)]


def _stem(detector: Detector) -> nn.Conv2d:
    return _convolutions(detector)[0][1]


def snap_decays(detector: Detector, bits: int) -> None:
    """Round every decay to a multiple of 2 ** -bits, in place; a neuron that leaks does not stop leaking."""
    for module in detector.network.modules():
        if isinstance(module, ILIF | LIF):
            steps = round(module.decay * 2**bits)
            module.decay = (min(steps, 2**bits - 1) if module.decay < 1 else 2**bits) / 2**bits


def _layer_inputs(detector: Detector, images: Tensor) -> dict[str, Tensor]:
    """What every convolution receives, by module name."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: seen.update({name: inputs[0]})

    hooks = [
        module.register_forward_pre_hook(keep(name))
        for name, module in detector.network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            detector.network(detector.frames(images).float())
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def round_to_grid(values: Tensor, exponent: Tensor, bits: int) -> Tensor:
    """The nearest whole multiples of ``2 ** exponent`` with at most ``bits`` bits, sign included; ties go to even."""
    largest = 2 ** (bits - 1) - 1
    unit = torch.exp2(exponent.double())
    return ((values.double() / unit).round().clamp(-largest, largest) * unit).to(values.dtype)


def coarsest_exponent(weight: Tensor, bits: int, per: Per) -> Tensor:
    """Exponents (O or 1, 1, 1, 1) of the finest grid on which weights (O, I, k, k) fit without being clipped."""
    rows = weight.detach().abs().flatten(1).amax(1) if per == "channel" else weight.detach().abs().max()[None]
    largest = 2 ** (bits - 1) - 1
    mantissa, exponent = torch.frexp(rows.double().clamp_min(2.0**-60) / largest)
    return (exponent - (mantissa == 0.5).long()).view(-1, 1, 1, 1)


def _best_exponent(conv: nn.Conv2d, bits: int, per: Per, x: Tensor | None) -> Tensor:
    """Of the coarsest grid that clips nothing and finer ones, those with the least error: (O or 1, 1, 1, 1)."""
    top = coarsest_exponent(conv.weight, bits, per)
    options = [top - finer for finer in range(CANDIDATES)]
    errors = torch.stack([_error(conv, round_to_grid(conv.weight, option, bits), per, x) for option in options])
    return top - errors.argmin(0).view(-1, 1, 1, 1)


def _round_bias(conv: nn.Conv2d, exponent: Tensor) -> None:
    """To the grid of the sums that it is added to."""
    if conv.bias is not None:
        unit = torch.exp2(exponent.double()).flatten()
        conv.bias.copy_(((conv.bias.double() / unit).round() * unit).to(conv.bias.dtype))


def _error(conv: nn.Conv2d, rounded: Tensor, per: Per, x: Tensor | None) -> Tensor:
    """Squared error of the layer's output on its calibration input, or of its weights: (O,) or (1,)."""
    difference = rounded - conv.weight
    if x is None:
        rows = difference.double().square().flatten(1).sum(1)
    else:
        out = nn.functional.conv2d(x, difference, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        rows = out.double().square().sum((0, 2, 3))
    return rows if per == "channel" else rows.sum()[None]


def centre_thresholds(detector: Detector) -> None:
    """Move every threshold to the middle between two numbers that its potential can take, in place.

    The potential's grid comes from the analysis of the exported graph. A threshold moves by less than a grid unit and past
    none of the grid's points, so no decision changes: u > theta holds for the same u.
    """
    from zoo.nir_graphs.certificate import certify
    from zoo.nir_graphs.normalise import normalise

    store_thresholds_per_channel_(detector.network, detector.config)
    graph = normalise(detector.to_nir())
    found = certify(graph)
    for name, segments in graph.info.neurons.items():
        module: Any = detector.network.get_submodule(name)
        start = 0
        for nodes in segments:
            grid = found.nodes[nodes[0]].potential_grid
            stop = start + graph.nodes[nodes[0]].shape[0]
            part = module.thresholds[:, start:stop].double()
            unit = torch.exp2(torch.tensor(grid, dtype=torch.float64))
            # a potential that is always zero lies on every grid: its threshold stays where it is
            centred = torch.where(unit < 2.0**60, ((part / unit).floor() + 0.5) * unit, part)
            module.thresholds[:, start:stop] = centred.to(module.thresholds.dtype)
            start = stop
