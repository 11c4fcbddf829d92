"""The fields of one node, each checked once and brought to one form.

Graphs come from many tools: fields may be torch tensors, big-endian or extended-precision arrays, Python numbers, strings of
any kind. Whatever arrives leaves here as native, read-only numpy arrays in float32 or float64, or as Python integers; what
cannot is an :class:`~zoo.errors.InvalidGraphError` that names the node, the field and the rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn, Self

import nir
import numpy as np
import numpy.typing as npt

from zoo.errors import InvalidGraphError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
MAX_STEPS = 2**31 - 1
"""The longest Delay, in steps."""
MAX_WHOLE = 2**31 - 1
"""The largest stride, padding, kernel, dilation or number of groups."""


class Note(str):
    """One sentence about something that was changed or assumed when a graph was normalised.

    Attributes:
        kind: what kind of change it is, for example ``feedback`` or ``broadcast``.
    """

    __slots__ = ("kind",)
    kind: str

    def __new__(cls, kind: str, sentence: str) -> Self:
        """A sentence of a kind."""
        note = super().__new__(cls, sentence)
        note.kind = kind
        return note

    def __reduce__(self) -> tuple[type[Note], tuple[str, str]]:
        return Note, (self.kind, str(self))


def distinct(array: Array) -> Array:
    """The part of an array that broadcasting does not repeat; axes keep their number."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def compact(value: Any) -> Array:
    """The smallest array that broadcasts to ``value``: axes along which nothing changes get length 1, one number is 0-d."""
    array = distinct(np.asarray(value))
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array.reshape(()) if array.size == 1 else array


def frozen(array: Array) -> Array:
    """The array in a form that nobody can change: itself where that is so already, else a read-only copy."""
    root = array = np.asarray(array)
    while isinstance(root.base, np.ndarray):
        root = root.base
    if root.flags.writeable or root.base is not None:
        part = np.array(distinct(array))
        part.flags.writeable = False
        array = np.broadcast_to(part, array.shape)
    view = array.view()
    view.flags.writeable = array.flags.writeable = False
    return view


def as_array(raw: Any) -> Array:
    """A value of any tool as a numpy array: torch tensors too, also on a GPU, with a gradient, or in bfloat16.

    Raises:
        TypeError, ValueError: numpy makes no array of it.
    """
    if hasattr(raw, "detach"):
        try:
            raw = raw.detach().cpu()
            raw = (raw.float() if str(raw.dtype) == "torch.bfloat16" else raw).numpy()
        except RuntimeError as error:  # tensors without values (meta), sparse ones
            raise ValueError(str(error).splitlines()[0]) from None
    return np.asarray(raw)


class Fields:
    """Reads the fields of one node.

    Args:
        name: of the node, for messages.
        node: NIR node.

    Attributes:
        notes: what was changed or assumed while reading.
    """

    def __init__(self, name: str, node: nir.NIRNode) -> None:
        self.name, self.node = name, node
        self.notes: list[Note] = []

    def refuse(self, rule: str) -> NoReturn:
        """Raise InvalidGraphError with the node's name in front."""
        raise InvalidGraphError(f"the node {self.name!r} ({type(self.node).__name__}) {rule}")

    def note(self, kind: str, text: str) -> None:
        """Remember a change."""
        self.notes.append(Note(kind, f"the node {self.name!r} ({type(self.node).__name__}) {text}"))

    def reals(self, field: str, default: float | None = None) -> Array:
        """A field of finite real numbers as a native array in float32 or float64.

        Raises:
            InvalidGraphError: missing, not numbers, or not finite.
        """
        raw = getattr(self.node, field, None)
        if raw is None and default is not None:
            return np.asarray(default)
        array = self._native(field, raw)
        if not array.size:
            self.refuse(f"has {_a(field)} without numbers")
        numbers = self._floats(field, distinct(array))  # what broadcasting repeats is converted once
        if not np.isfinite(numbers).all():
            self.refuse(f"has {_a(field)} with NaN or infinity; every number must be finite")
        return numbers if numbers.shape == array.shape else np.broadcast_to(numbers, array.shape)

    def _floats(self, field: str, array: Array) -> Array:
        """Numbers of any native type in float32 or float64."""
        if array.dtype.kind in "biu":
            if not _fits_float64(array):
                self.refuse(f"has {_a(field)} of {array.dtype} with numbers that float64 cannot hold")
            return array.astype(np.float64)
        if array.dtype.itemsize < 4:
            return array.astype(np.float32)
        return array if array.dtype.itemsize <= 8 else self._rounded(field, array)

    def _rounded(self, field: str, array: Array) -> Array:
        """Extended precision in float64; numbers beyond its range become infinite, and are refused then."""
        with np.errstate(over="ignore"):
            wide = array.astype(np.float64)
        if np.isfinite(wide).all():
            if np.array_equal(wide.astype(array.dtype), array):
                self.note("number form", f"has {_a(field)} of {array.dtype}, which float64 holds exactly")
            else:
                self.note("number type", f"has {_a(field)} of {array.dtype}, which was rounded to float64")
        return wide

    def _native(self, field: str, raw: Any) -> Array:
        """A field as a numpy array of a native number type."""
        if raw is None:
            self.refuse(f"has no {field}")
        try:
            array = as_array(raw)
        except (TypeError, ValueError) as error:
            self.refuse(f"has {_a(field)} that is no array of numbers: {error}")
        if array.dtype.kind not in "biuf":
            self.refuse(f"has {_a(field)} of the type {array.dtype}; it must be real numbers")
        if array.dtype.isnative:
            return array
        native = array.dtype.newbyteorder("=")
        self.note("number form", f"has {_a(field)} of {array.dtype.str}, read as {native}")
        return np.broadcast_to(distinct(array).astype(native), array.shape)

    def element(self, field: str, shape: Shape, *, positive: bool = False, default: float | None = None) -> Array:
        """A parameter with one number per element of the node, compact: it broadcasts to (B, \\*shape).

        Accepted are one number, and arrays with the axes of ``shape`` whose lengths are those of ``shape`` or 1.

        Raises:
            InvalidGraphError: another shape, or a number that is not positive where it has to be.
        """
        array = self.reals(field, default)
        small: Array
        if array.size == 1:
            small = array.reshape(())
        elif array.ndim != len(shape):
            self.refuse(
                f"has {_a(field)} of shape {array.shape}, which is ambiguous for values of shape {shape}; write it as one "
                f"number, or with {len(shape)} axes of which those of length 1 are repeated"
            )
        elif any(n not in {1, m} for n, m in zip(array.shape, shape, strict=True)):
            self.refuse(f"has {_a(field)} of shape {array.shape}, which does not fit its input of shape {shape}")
        else:
            small = compact(array)
        if positive and not (small > 0).all():
            self.refuse(f"has {_a(field)} of {float(small.min()):g}; it must be positive")
        stated = getattr(self.node, field, None)
        if stated is not None and tuple(array.shape) != shape:
            self.note("broadcast", f"has {_a(field)} of shape {tuple(array.shape)}, used for all of {shape}")
        return frozen(small)

    def whole(self, field: str, count: int, *, least: int) -> tuple[int, ...]:
        """A field of ``count`` whole numbers; one number stands for all of them.

        Raises:
            InvalidGraphError: another count, a number that is not whole, or one below ``least``.
        """
        array = self._native(field, getattr(self.node, field, None)).ravel()
        if array.size not in {1, count}:
            self.refuse(f"has {_a(field)} of {array.size} values; it must have {_one_or(count)}")
        if not np.isfinite(array).all() or (array != np.rint(array)).any():
            self.refuse(f"has {_a(field)} of {shown(array)}; it must be whole numbers")
        values = tuple(int(n) for n in array)
        if min(values) < least:
            self.refuse(f"has {_a(field)} of {shown(array)}; it must be at least {least}")
        if max(values) > MAX_WHOLE:
            self.refuse(f"has {_a(field)} of {shown(array)}; it must be at most {MAX_WHOLE}")
        return values * count if len(values) == 1 else values

    def padding(self, reach: list[int], stride: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Zeros (before, after) each axis of a convolution.

        Text 'same' keeps the size at stride 1, with the odd zero at the end, as torch does.
        """
        raw: Any = getattr(self.node, "padding", None)
        word = text(raw)
        if word is None:
            return tuple((n, n) for n in self.whole("padding", len(reach), least=0))
        if word not in {"same", "valid"}:
            self.refuse(f"has the padding {word!r}; it must be whole numbers, 'same' or 'valid'")
        sides = tuple((r // 2, r - r // 2) if word == "same" else (0, 0) for r in reach)
        if max(stride) > 1 and any(map(any, sides)):
            self.refuse("has the padding 'same' with a stride above 1, which has no agreed meaning; write the numbers")
        return sides

    def stated_shape(self, field: str, values: Any, actual: Shape) -> None:
        """Note a shape that the node states and that is not the one of its input."""
        if values is None:
            return
        try:
            stated = shape_of(values)
        except ValueError:
            stated = None
        if stated != actual:
            self.note("stated shape", f"states the {field} {shown(values)}, but gets {actual}; the latter holds")


def _fits_float64(array: Array) -> bool:
    """Whether float64 holds every one of these integers."""
    if array.dtype.itemsize < 8:
        return True
    every = distinct(array).ravel()
    return all(int(float(n)) == n for n in every[(every > 2**53) | (every < -(2**53))].tolist())


def text(value: Any) -> str | None:
    """A string of any kind (bytes, numpy, 0-d array) as ``str``; None for what is no string."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf8", errors="replace")
    return str(value) if isinstance(value, str) else None


def shape_of(values: Any) -> Shape:
    """A shape as a tuple of positive integers.

    Raises:
        ValueError: it is none.
    """
    array = as_array(values).ravel()
    if array.dtype.kind not in "iuf" or (
        array.size and (not np.isfinite(array).all() or (array != np.rint(array)).any())
    ):
        raise ValueError(f"{values!r} is no shape")
    shape = tuple(int(n) for n in array)
    if any(n < 1 for n in shape):
        raise ValueError(f"the shape {shape} has an axis without elements")
    return shape


def _a(field: str) -> str:
    """A field with its article."""
    return f"an {field}" if field == "r" or field[0] in "aeiou" else f"a {field}"


def _one_or(count: int) -> str:
    return "1" if count == 1 else f"1 or {count}"


def shown(values: Any) -> str:
    """Numbers for a message, at most four of them."""
    array = np.asarray(values).ravel()
    return ", ".join(f"{n:g}" if isinstance(n, np.number) else str(n) for n in array[:4]) + (
        ", ..." if array.size > 4 else ""
    )


def names(values: Iterable[str], most: int = 8) -> str:
    """Names for a message, at most so many of them."""
    listed = [repr(value) for value in values]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
