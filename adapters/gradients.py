"""Gradients of a call that ran on the fast path.

A runnable in train mode records what ``backward`` needs. In eval mode that would be wasted on almost every call: so it runs as
if no gradient could flow, and only where somebody does ask for one it runs again, with everything recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Run = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""Inputs by Input node -> outputs by Output node."""


@dataclass(frozen=True)
class Deferred:
    """Two ways to run a graph that give the same outputs.

    Attributes:
        fast: records nothing.
        recorded: records all that its gradients need.
        parameters: gives those that ``recorded`` uses.
        outputs: names of the Output nodes.
    """

    fast: Run
    recorded: Run
    parameters: Callable[[], Sequence[Tensor]]
    outputs: Sequence[str]

    def __call__(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs of ``fast``, with the gradients of ``recorded``."""
        made = _Function.apply(self, tuple(given), *given.values(), *self.parameters())
        return dict(zip(self.outputs, made, strict=True))

    def gradients(
        self, given: Mapping[str, Tensor], parameters: Sequence[Tensor], needed: Sequence[bool], seeds: Sequence[Tensor]
    ) -> list[Tensor | None]:
        """Gradients of inputs and parameters, as far as they are needed, given those of the outputs."""
        now = self.parameters()
        if len(now) != len(parameters) or any(a is not b for a, b in zip(now, parameters, strict=True)):
            raise RuntimeError("the parameters have been replaced since the outputs were computed; call .train() first")
        with torch.enable_grad():
            inputs = {name: value.detach().requires_grad_(value.requires_grad) for name, value in given.items()}
            made = self.recorded(inputs)
            leaves = [leaf for leaf, is_needed in zip((*inputs.values(), *now), needed, strict=True) if is_needed]
            flows = [made[name].requires_grad for name in self.outputs]
            ends = list(compress((made[name] for name in self.outputs), flows))
            found = iter(
                torch.autograd.grad(ends, leaves, list(compress(seeds, flows)), allow_unused=True) if ends else ()
            )
        return [next(found, None) if is_needed else None for is_needed in needed]


class _Function(torch.autograd.Function):
    """Forward: ``fast``. Backward: the gradients of ``recorded``."""

    @staticmethod
    def forward(ctx: Any, call: Deferred, inputs: Sequence[str], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.call, ctx.inputs, ctx.parameters = call, inputs, tensors[len(inputs) :]
        ctx.save_for_backward(*tensors)  # backward refuses tensors that have been changed in between
        given = dict(zip(inputs, tensors, strict=False))
        made = call.fast(given)
        ours = {value.untyped_storage().data_ptr() for value in given.values()}
        return tuple(
            value.clone() if value.untyped_storage().data_ptr() in ours else value
            for value in (made[name] for name in call.outputs)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor | None, ...]:
        given = dict(zip(ctx.inputs, ctx.saved_tensors, strict=False))
        return None, None, *ctx.call.gradients(given, ctx.parameters, ctx.needs_input_grad[2:], seeds)
