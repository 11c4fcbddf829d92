"""How a network becomes deployed: batch norms folded into convolutions, and neurons that compare with stored thresholds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import ModelConfig
from zoo.layers.protocols import Folds, Neuron


def deploy_(network: nn.Module, *, merge: bool, dtype: torch.dtype) -> nn.Module:
    """Fold batch norms in float64, round once to ``dtype``, and store thresholds in it; in place.

    Args:
        network: unfused. On the device ``meta`` only its structure changes.
        merge: also merge each re-parameterised convolution into one dense 3x3.
        dtype: of the result.
    """
    for module in list(network.modules()):
        if isinstance(module, Folds):
            module.fuse_(merge=merge)
    for neuron in neurons_of(network).values():
        neuron.freeze(dtype)
    return network.to(dtype)


def neurons_of(network: nn.Module) -> dict[str, Neuron]:
    """Its neurons by module name, in the order in which they are defined."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Neuron)}


def channels_of_neurons(network: nn.Module, config: ModelConfig) -> dict[str, int]:
    """Channels that each neuron of a deployed network receives, by module name.

    Shapes go through the network once. Neurons and convolutions compute nothing on the way, and need no numbers.

    Args:
        network: deployed, on any device.
        config: of the detector.
    """
    seen: dict[str, int] = {}

    def noted(name: str, current: Tensor) -> Tensor:
        seen[name] = current.shape[1]
        return current

    stand_ins: dict[nn.Module, Callable[..., Tensor]] = {
        network.get_submodule(name): partial(noted, name) for name in neurons_of(network)
    }
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            stand_ins[module] = partial(_convolved_zeros, module)
    side = 2 * max(config.decode.strides)  # the coarsest map has 2x2 cells, so that it can be padded by reflection
    try:
        for module, stand_in in stand_ins.items():
            module.__dict__["forward"] = stand_in  # hides the method for this one pass
        with torch.no_grad(), torch.device("cpu"):
            network(torch.zeros(config.time_steps, config.input.channels, side, side))
    finally:
        for module in stand_ins:
            del module.__dict__["forward"]
    return seen


def _convolved_zeros(conv: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Zeros of the shape that a convolution gives for (N, I, H, W), as a view of one number."""
    sides = []
    for axis, size in enumerate(x.shape[2:]):
        reach, stride, pad = (
            conv.dilation[axis] * (conv.kernel_size[axis] - 1),
            conv.stride[axis],
            int(conv.padding[axis]),
        )
        if isinstance(conv, nn.ConvTranspose2d):
            sides.append((size - 1) * stride - 2 * pad + reach + conv.output_padding[axis] + 1)
        else:
            sides.append((size + 2 * pad - reach - 1) // stride + 1)
    return x.new_zeros(()).expand(len(x), conv.out_channels, *sides)


def store_thresholds_per_channel_(network: nn.Module, config: ModelConfig) -> None:
    """Give every neuron its thresholds per channel, (levels, C), in place; their numbers stay."""
    for name, channels in channels_of_neurons(network, config).items():
        module: Any = network.get_submodule(name)
        rows = module.thresholds if module.thresholds.dim() == 2 else module.thresholds[:, None]
        module.register_buffer("thresholds", rows.expand(-1, channels).clone(), persistent=True)
