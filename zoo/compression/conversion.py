"""From a trained ANN to a spiking network.

Source: Kim et al., "Spiking-YOLO", AAAI 2020: channel-wise data-based normalisation (algorithm 1) and the signed neuron with
imbalanced threshold; layer-wise normalisation, for comparison, is Diehl et al., IJCNN 2015. The picture is fed as a constant
current, and the head, which does not fire, is read from its mean potential.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from zoo.config import make_config
from zoo.detectors.building import fill, from_config
from zoo.detectors.detector import Detector
from zoo.detectors.spiking_yolo.model import SpikingYOLO
from zoo.errors import InvalidInputError
from zoo.layers.conv import Layer
from zoo.layers.rate_neurons import SignedIF
from zoo.support.progress import progress_bar

Normalisation = Literal["channel", "layer"]
PERCENTILE = 99.9


def convert(
    detector: Detector,
    calibration: Tensor,
    *,
    time_steps: int = 64,
    normalisation: Normalisation = "channel",
    percentile: float = PERCENTILE,
    signed: bool = True,
    factors: dict[str, Tensor] | None = None,
) -> Detector:
    """Convert a trained ANN.

    Args:
        detector: ``spiking-yolo-*`` with strided convolutions, trained or deployed.
        calibration: images (B, C, H, W) in [0, 1] on which activations are measured.
        time_steps: T of the converted detector; :func:`zoo.detectors.stepwise.stream` runs it for any other number, too.
        normalisation: one factor per ``channel``, or per ``layer``.
        percentile: of the activations that becomes a rate of one spike per step; 100 is the largest.
        signed: signed neurons for LeakyReLU; without them what is negative is lost.
        factors: instead of measuring, the activation of each layer (by module name, (C,)) that becomes a rate of one.

    Returns:
        A deployed spiking detector. It exports to NIR.

    Raises:
        InvalidInputError: not an ANN that can be converted, no calibration data, or settings out of bounds.
    """
    network = detector.network
    if not isinstance(network, SpikingYOLO) or network.spiking:
        raise InvalidInputError("only spiking-yolo ANNs are converted; other detectors are spiking from the start")
    if reasons := _without_rate_code(network):
        listed = "; ".join(f"{name!r} {reason}" for name, reason in reasons.items())
        raise InvalidInputError(f"{detector.config.arch} cannot be converted: {listed}")
    if time_steps < 1:
        raise InvalidInputError(f"time_steps must be at least 1, got {time_steps}")
    if normalisation not in {"channel", "layer"}:
        raise InvalidInputError(f"normalisation must be 'channel' or 'layer', got {normalisation!r}")
    if not 0 < percentile <= 100:
        raise InvalidInputError(f"percentile must lie in 0..100, got {percentile}")
    deployed = detector if detector.is_fused else detector.fuse()
    dtype = deployed.dtype
    if factors is None:
        if calibration.numel() == 0:
            raise InvalidInputError("conversion needs calibration data: at least one image")
        factors = measure(deployed, calibration, percentile=percentile)
    if normalisation == "layer":
        factors = {name: values.max().expand_as(values) for name, values in factors.items()}
    config = make_config(
        **deployed.config.model_dump() | {"time_steps": time_steps, "variant": {"spiking": True}, "fused": True}
    )
    out = from_config(config, numbers=False).to(dtype)
    fill(out, _state(out, deployed, factors))
    if not signed:
        for module in out.network.modules():
            if isinstance(module, SignedIF):
                module.slope = 0.0
                module.freeze(dtype)
    return out.eval().requires_grad_(False)


def _without_rate_code(network: SpikingYOLO) -> dict[str, str]:
    return {name: why for name, why in network.without_nir_form().items() if "analog" not in why}


def layers_of(network: nn.Module) -> dict[str, Layer]:
    """Convolution-activation layers by name, in the order in which they are defined."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Layer)}


@torch.no_grad()
def measure(
    detector: Detector, images: Tensor, *, percentile: float = PERCENTILE, batch_size: int = 16
) -> dict[str, Tensor]:
    """The activation of every channel below which ``percentile`` percent of its positive values lie: (C,) by layer.

    The largest of all batches counts. Channels that are never active get 1.
    """
    found: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, out: Tensor) -> None:
            values = out.transpose(0, 1).flatten(1).double()
            # channel by channel: torch.quantile takes no more than 2^24 numbers, which layers of tiny-conv at 416 exceed
            top = torch.stack([percentile_of(channel, percentile) for channel in values])
            # where a channel is active in less than that share of places, its largest value counts
            top = torch.where(top > 0, top, values.amax(1))
            found[name] = torch.maximum(found[name], top) if name in found else top

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers_of(detector.network).items()]
    try:
        with progress_bar("calibrating", total=-(-len(images) // batch_size)) as bar:
            for batch in images.split(batch_size):
                detector(batch)
                bar.advance()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.where(top > 0, top, torch.ones_like(top)) for name, top in found.items()}


def percentile_of(values: Tensor, percentile: float) -> Tensor:
    """The percentile of any number of values (N,), interpolated linearly as :func:`numpy.percentile` does: a scalar."""
    return torch.from_numpy(np.percentile(values.cpu().numpy(), [percentile]))[0].to(values)


@torch.no_grad()
def _state(out: Detector, ann: Detector, factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the converted detector: weights w * lambda_in / lambda_out and biases b / lambda_out, on the layers' own axes."""
    state = {key: value.clone() for key, value in ann.network.state_dict().items()}
    inputs = input_factors(ann, factors)
    for name, layer in layers_of(ann.network).items():
        conv: Any = layer.conv
        lam_in, lam_out = inputs[name].double(), factors[name].double()
        axes = (0, 1) if isinstance(conv, nn.ConvTranspose2d) else (1, 0)  # of inputs, of outputs
        weight = conv.weight.double() * _along(lam_in, axes[0]) / _along(lam_out, axes[1])
        state[f"{name}.conv.weight"] = weight.to(conv.weight.dtype)
        state[f"{name}.conv.bias"] = (conv.bias.double() / lam_out).to(conv.bias.dtype)
    for scale, source in enumerate(("merge", "coarse")):
        key = f"head.scales.{scale}.conv.weight"
        state[key] = (state[key].double() * _along(factors[source].double(), 1)).to(state[key].dtype)
    known = out.network.state_dict()
    state |= {key: value for key, value in known.items() if key.endswith("thresholds")}
    return {f"network.{key}": value for key, value in state.items()}


def _along(values: Tensor, axis: int) -> Tensor:
    return values.view(*[-1 if index == axis else 1 for index in range(4)])


def input_factors(detector: Detector, factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The factors of what each layer receives: (C_in,) by layer. The picture has factor 1."""
    network: Any = detector.network
    numbers = network.numbers
    received: dict[str, Tensor] = {}
    previous = torch.ones(3, dtype=torch.float64)
    for index in range(len(numbers.widths)):
        received[f"stages.{index}"] = previous
        received[f"downs.{index}"] = fine = factors[f"stages.{index}"]
        previous = factors[f"downs.{index}"]
    for index in range(len(numbers.deep)):
        received[f"deep.{index}"] = previous
        previous = factors[f"deep.{index}"]
    received["narrow"] = previous
    received["coarse"] = received["lateral"] = factors["narrow"]
    brought_back = factors["lateral"]
    if "up" in factors:
        received["up"] = brought_back
        brought_back = factors["up"]
    received["merge"] = torch.cat([brought_back, fine])
    return received
