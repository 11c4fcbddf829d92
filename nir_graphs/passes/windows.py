"""How a kernel of any sides is put into a square one, so that the convolution stays the same.

nir 1.0.8 infers right types for square kernels only, and its padding has the same zeros on both sides of an axis. Along an
axis of n rows, a convolution of K taps at distance d with b zeros in front and stride s gives m rows

    y[q] = sum over i of w[i] x[s q + d i - b],    q = 0 ... m - 1.

A kernel of k taps at distance D that holds w[i] at tap f + (d / D) i and zeros elsewhere gives the same rows, and perhaps
more behind them, if its padding is P = b + D f. It gives exactly m rows where the parities of K and k agree, where d is even
(D = d / 2), or where there is one row only, for then any stride will do; ``same`` may pad unevenly. Else some rows too many
come out, mostly one, and a second convolution cuts them off.

To cut an odd number off it has an even kernel, so it needs dilation 2 along the columns to leave them alone. Then it moves the
columns by an odd number, and takes a multiple of four of them away. So the first convolution makes that many more, one of
them in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Axis:
    """A convolution along one axis.

    Attributes:
        rows: of the input, n.
        taps: K.
        dilation: distance of the taps, d.
        stride: s.
        before: zeros in front, b.
        out: rows of the output, m.
    """

    rows: int
    taps: int
    dilation: int
    stride: int
    before: int
    out: int


@dataclass(frozen=True)
class Fit:
    """The same convolution with more taps.

    Attributes:
        first: index of the tap that holds w[0].
        step: distance between the indices of w[0] and w[1].
        dilation, stride: of the larger kernel.
        padding: zeros on each side; None stands for ``same``.
        surplus: rows too many.
    """

    first: int
    step: int
    dilation: int
    stride: int
    padding: int | None
    surplus: int = 0


@dataclass(frozen=True)
class Square:
    """A square kernel for two axes.

    Attributes:
        taps: of each side.
        rows, columns: where the old kernel lies in it.
    """

    taps: int
    rows: Fit
    columns: Fit

    @property
    def padding(self) -> tuple[int, int] | str:
        """As NIR writes it."""
        sides = self.rows.padding, self.columns.padding
        return "same" if sides[0] is None or sides[1] is None else (sides[0], sides[1])

    @property
    def cut(self) -> Cut | None:
        """What must be cut off behind it, if anything."""
        rows, columns = self.rows.surplus, self.columns.surplus
        if rows % 2:
            return _cut(rows, columns)
        if columns % 2:
            return _cut(columns, rows).turned
        return _even_cut(rows, columns) if rows or columns else None


@dataclass(frozen=True)
class Cut:
    """A convolution with a single 1 in a square kernel, that keeps a part of a map.

    Attributes:
        taps: of each side.
        one: place of the 1.
        padding, dilation: of the convolution.
    """

    taps: int
    one: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def turned(self) -> Cut:
        """The same with rows for columns."""
        return Cut(self.taps, self.one[::-1], self.padding[::-1], self.dilation[::-1])


def _cut(surplus: int, margin: int) -> Cut:
    """Cuts rows off at the end, and the margin of the columns, of which one is in front: y[r, q] = x[r, q + 1].

    Args:
        surplus: rows too many, an odd number.
        margin: columns too many, a multiple of four.
    """
    taps = max(surplus + 1, margin // 2 + 2)
    padding = (taps - 1 - surplus) // 2, taps - 1 - margin // 2
    return Cut(taps, (padding[0], (padding[1] + 1) // 2), padding, (1, 2))


def _even_cut(rows: int, columns: int) -> Cut:
    """Cuts even numbers of rows and columns off at the end: y[r, q] = x[r, q]."""
    taps = max(rows, columns) + 1
    padding = (taps - 1 - rows) // 2, (taps - 1 - columns) // 2
    return Cut(taps, padding, padding, (1, 1))


def square(rows: Axis, columns: Axis) -> Square:
    """The smallest square kernel that computes the same, without a second convolution if possible."""
    least = max(rows.taps, columns.taps)
    for taps in range(least, 2 * least + 2):  # room for either parity, and for a distance of 2
        for way in (_exact, _same):
            found = _both(taps, way(rows, taps), way(columns, taps))
            if found is not None:
                return found
    for taps in count(least):
        for along_rows, along_columns in ((_even, _even), (_odd, _margin), (_margin, _odd)):
            found = _both(taps, along_rows(rows, taps), along_columns(columns, taps))
            if found is not None:
                return found
    raise AssertionError("unreachable")


def _both(taps: int, rows: Iterator[Fit], columns: Iterator[Fit]) -> Square | None:
    fits = next(rows, None), next(columns, None)
    return None if fits[0] is None or fits[1] is None else Square(taps, fits[0], fits[1])


def _places(axis: Axis, taps: int) -> Iterator[tuple[int, int, int]]:
    """(first, step, dilation) of the ways to put the taps of an axis into ``taps`` ones.

    Only how often 2 divides the distance of w[0] and w[1] matters; a single tap has no distance.
    """
    step, dilation = 1, axis.dilation if axis.taps > 1 else 1
    while step * (axis.taps - 1) < taps:
        for first in range(taps - step * (axis.taps - 1)):
            yield first, step, dilation
        if dilation % 2:
            return
        step, dilation = 2 * step, dilation // 2


def _last(axis: Axis, taps: int, dilation: int, padding: int) -> int:
    """The last place of the kernel on the padded axis; negative where there is none."""
    return axis.rows + 2 * padding - dilation * (taps - 1) - 1


def _exact(axis: Axis, taps: int) -> Iterator[Fit]:
    """With the same zeros on both sides."""
    for first, step, dilation in _places(axis, taps):
        padding = axis.before + dilation * first
        last = _last(axis, taps, dilation, padding)
        if last >= 0 and last // axis.stride + 1 == axis.out:
            yield Fit(first, step, dilation, axis.stride, padding)
        elif last >= 0 and axis.out == 1:
            yield Fit(first, step, dilation, last + 1, padding)


def _same(axis: Axis, taps: int) -> Iterator[Fit]:
    """With 'same', which puts the odd zero at the end."""
    if axis.stride == 1 and axis.out == axis.rows:
        for first, step, dilation in _places(axis, taps):
            if dilation * (taps - 1) // 2 == axis.before + dilation * first:
                yield Fit(first, step, dilation, 1, None)


def _surplus(axis: Axis, taps: int, margin: int = 0) -> Iterator[Fit]:
    """With the same zeros on both sides, which make rows too many: ``margin`` before the others, the rest behind them."""
    for first, step, dilation in _places(axis, taps):
        padding = axis.before + margin * axis.stride + dilation * first
        surplus = _last(axis, taps, dilation, padding) // axis.stride + 1 - axis.out
        if surplus >= 0:
            yield Fit(first, step, dilation, axis.stride, padding, surplus)


def _even(axis: Axis, taps: int) -> Iterator[Fit]:
    """An even number of rows too many, or none."""
    return (fit for fit in _surplus(axis, taps) if fit.surplus % 2 == 0)


def _odd(axis: Axis, taps: int) -> Iterator[Fit]:
    """An odd number of rows too many."""
    return (fit for fit in _surplus(axis, taps) if fit.surplus % 2)


def _margin(axis: Axis, taps: int) -> Iterator[Fit]:
    """One row too many before the others, and 3, 7, ... behind them."""
    return (fit for fit in _surplus(axis, taps, 1) if fit.surplus and fit.surplus % 4 == 0)
