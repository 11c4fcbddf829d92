"""Lowering rules of convolutions and of nearest upsampling, which becomes convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.layers.fourier import IRFFT2, RFFT2
from zoo.nir_graphs.axis_maps import (
    AxisConv,
    apply_along,
    complex_fourier,
    coupled_axis_map,
    inverse_real_fourier,
    linear_axis_map,
    real_fourier,
    reflection,
    repeat_rows,
    spread_rows,
)
from zoo.nir_graphs.values import Array, Builder, Refusal, Segment, Value, compact

AxisMap = Callable[[int, int], list[AxisConv]]
"""Makes a map for an axis of so many pixels in so many channels."""


def pair(value: Any) -> tuple[int, int]:
    """One number, or one per axis, as one per axis."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def stored(tensor: torch.Tensor) -> Array:
    """A parameter as NIR stores it: a copy with exactly its values, in float32 where that holds them, else float64.

    Raises:
        Refusal: NaN or infinite values.
    """
    array = tensor.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(array).all():
        raise Refusal("its parameters contain NaN or infinity")
    return compact(array.copy())


def _padding(module: nn.Conv2d) -> tuple[int, int] | str:
    """Zeros before and after each axis; the word 'same' only where the two differ, which numbers cannot say."""
    if module.padding == "valid":
        return 0, 0
    if module.padding != "same":
        return pair(module.padding)
    reach = [d * (k - 1) for d, k in zip(pair(module.dilation), pair(module.kernel_size), strict=True)]
    return "same" if any(r % 2 for r in reach) else (reach[0] // 2, reach[1] // 2)


def convolution(builder: Builder, module: nn.Conv2d, name: str, value: Value) -> Value:
    """``nn.Conv2d``: one node per channel segment, each with its part of the weight; a sum has the bias once.

    A grouped convolution keeps segments apart where they end between groups; elsewhere they are joined first.
    """
    if module.padding_mode != "zeros":
        raise Refusal(f"NIR convolutions pad with zeros, not with {module.padding_mode!r}")
    if value.channels != module.in_channels:
        raise Refusal(f"it takes {module.in_channels} channels, but gets {value.channels}")
    weight = stored(module.weight)
    bias = None if module.bias is None else stored(module.bias)
    options: dict[str, Any] = {
        "stride": pair(module.stride),
        "padding": _padding(module),
        "dilation": pair(module.dilation),
    }
    if module.groups == 1:
        return _dense(builder, name, value, weight, bias, options)
    per_group = module.in_channels // module.groups
    if any(segment.shape[0] % per_group for segment in value.segments):
        value = Value((builder.joined(f"{name}.input", value),))
    out, first = [], 0
    for inner, segment in value.named(name):
        groups = segment.shape[0] // per_group
        rows = slice(first, first + groups * (len(weight) // module.groups))
        part = weight[rows].copy(), None if bias is None else bias[rows].copy()
        out.append(builder.convolved(inner, segment, *part, groups=groups, **options))
        first = rows.stop
    return Value(tuple(out))


def _dense(
    builder: Builder, name: str, value: Value, weight: Array, bias: Array | None, options: dict[str, Any]
) -> Value:
    """conv(concat(a, b)) = conv_a(a) + conv_b(b), where conv_a and conv_b hold the columns of a and b."""
    terms: list[Segment] = []
    first = 0
    for inner, segment in value.named(name):
        columns = slice(first, first + segment.shape[0])
        part = weight if len(value.segments) == 1 else weight[:, columns].copy()
        terms.append(builder.convolved(inner, segment, part, None if terms else bias, **options))
        first = columns.stop
    return Value((Segment(tuple(term.nodes[0] for term in terms), terms[0].shape),))


def transposed_convolution(builder: Builder, module: nn.ConvTranspose2d, name: str, value: Value) -> Value:
    """A transposed convolution of stride s is a convolution with the flipped kernel, once s - 1 zeros follow every pixel."""
    kernel, stride, padding = pair(module.kernel_size), pair(module.stride), pair(module.padding)
    border = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
    tail = [s - 1 for s in stride]  # zeros behind the last pixel, which the convolution sees as output padding
    if module.groups != 1 or pair(module.dilation) != (1, 1) or min(border) < 0 or module.padding_mode != "zeros":
        raise Refusal(
            "only transposed convolutions without groups and dilation, whose padding is less than the kernel, are known"
        )
    if list(pair(module.output_padding)) != tail:
        raise Refusal(f"its output padding must be {tuple(tail)}, so that it enlarges the map exactly {stride} times")
    weight = stored(module.weight).transpose(1, 0, 2, 3)[:, :, ::-1, ::-1].copy()
    spread = _rows_and_columns(
        builder,
        name,
        value,
        lambda size, channels: spread_rows(size, stride[0], channels),
        lambda size, channels: spread_rows(size, stride[1], channels),
    )
    bias = None if module.bias is None else stored(module.bias)
    options: dict[str, Any] = {"padding": (border[0], border[1])}
    return _dense(builder, f"{name}.conv", spread, weight, bias, options)


def reflect_pad(builder: Builder, module: nn.ReflectionPad2d, name: str, value: Value) -> Value:
    """Reflected borders: a one-hot map along the rows, then along the columns."""
    left, right, top, bottom = module.padding
    height, width = value.size
    if max(top, bottom) >= height or max(left, right) >= width or min(module.padding) < 0:
        raise Refusal(f"its borders {module.padding} must be less than the map of {height}x{width} and not negative")
    return _rows_and_columns(
        builder,
        name,
        value,
        lambda size, channels: linear_axis_map(reflection(size, top, bottom), channels),
        lambda size, channels: linear_axis_map(reflection(size, left, right), channels),
    )


def fourier(builder: Builder, _module: RFFT2, name: str, value: Value) -> Value:
    """rfft2: along the columns from real to complex, then along the rows from complex to complex."""
    out = []
    for inner, segment in value.named(name):
        channels, height, width = segment.shape
        wide = apply_along(builder, f"{inner}.columns", linear_axis_map(real_fourier(width), channels), 1, segment)
        rows = coupled_axis_map(complex_fourier(height), 2 * channels)
        out.append(apply_along(builder, f"{inner}.rows", rows, 0, wide))
    return Value(tuple(out))


def inverse_fourier(builder: Builder, _module: IRFFT2, name: str, value: Value, like: Value) -> Value:
    """irfft2: along the rows from complex to complex, then along the columns from complex to real."""
    height, width = like.size
    if value.size != (height, width // 2 + 1):
        raise Refusal(f"a spectrum of {value.size} does not belong to a map of {like.size}")
    if any(segment.shape[0] % 2 for segment in value.segments):
        value = Value((builder.joined(f"{name}.input", value),))
    return _rows_and_columns(
        builder,
        name,
        value,
        lambda size, channels: coupled_axis_map(complex_fourier(size, inverse=True), channels),
        lambda _size, channels: coupled_axis_map(inverse_real_fourier(width), channels),
    )


def upsample(builder: Builder, module: nn.Upsample, name: str, value: Value) -> Value:
    """Nearest upsampling by whole factors: rows, then columns, each as a chain of one-hot convolutions."""
    rows, columns = _repeats(module, value.size)
    return _rows_and_columns(
        builder,
        name,
        value,
        lambda size, channels: repeat_rows(size, rows, channels),
        lambda size, channels: repeat_rows(size, columns, channels),
    )


def _rows_and_columns(builder: Builder, name: str, value: Value, rows: AxisMap, columns: AxisMap) -> Value:
    """A map along the rows of every segment, then one along the columns."""
    out = []
    for inner, segment in value.named(name):
        channels, height, width = segment.shape
        tall = apply_along(builder, f"{inner}.rows", rows(height, channels), 0, segment)
        out.append(apply_along(builder, f"{inner}.columns", columns(width, tall.shape[0]), 1, tall))
    return Value(tuple(out))


def _repeats(module: nn.Upsample, size: tuple[int, int]) -> tuple[int, int]:
    """How often each row and each column occurs; asks PyTorch itself which source pixel each output pixel takes."""
    if module.mode not in {"nearest", "nearest-exact"}:
        raise Refusal(f"only nearest upsampling has an exact form here, not mode {module.mode!r}")
    height, width = size
    pixels = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    taken = module(pixels)[0, 0]
    rows, columns = taken.shape[0] // height, taken.shape[1] // width
    repeated = pixels[0, 0].repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    if not torch.equal(taken, repeated):
        raise Refusal(f"it does not repeat every pixel equally often from {height}x{width} to {tuple(taken.shape)}")
    return rows, columns
