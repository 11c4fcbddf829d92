"""How a kernel of K taps along one image axis is put into a kernel of more taps, so that the convolution stays the same.

nir 1.0.8 infers right types for square kernels only, and its padding has the same zeros on both sides of an axis. Along an
axis of n rows, a convolution of K taps at distance d with b zeros in front and stride s gives m rows

    y[q] = sum over i of w[i] x[s q + d i - b],    q = 0 ... m - 1.

A kernel of k taps at distance D that holds w[i] at tap f + (d / D) i and zeros elsewhere gives the same rows if its padding
is P = b + D f, and if it makes m rows of n + 2 P. Three things help where parity is in the way: one row of output allows any
stride, ``same`` may pad unevenly, and a single row of input can be spread over every second row of output, of which a 1x1
convolution of stride 2 then takes every second one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace


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
        pick: every so many rows of the output count.
    """

    first: int
    step: int
    dilation: int
    stride: int
    padding: int | None
    pick: int = 1


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
    def picks(self) -> tuple[int, int]:
        """Stride of the 1x1 convolution that must follow; (1, 1) where none must."""
        return self.rows.pick, self.columns.pick

    @property
    def padding(self) -> tuple[int, int] | str:
        """As NIR writes it."""
        sides = self.rows.padding, self.columns.padding
        return "same" if sides[0] is None or sides[1] is None else (sides[0], sides[1])


def square(rows: Axis, columns: Axis) -> Square | None:
    """The smallest square kernel that computes the same, without another node if possible; None where there is none."""
    least = max(rows.taps, columns.taps)
    most = 2 * max(rows.taps, columns.taps) + 1  # room for any distance of 1 or 2, and for either parity
    for kinds in ((_numbers,), (_same,), (_numbers, _spread)):
        for taps in range(least, most + 1):
            fits = [next((fit for kind in kinds for fit in kind(axis, taps)), None) for axis in (rows, columns)]
            if fits[0] is not None and fits[1] is not None:
                return Square(taps, fits[0], fits[1])
    return None


def _places(axis: Axis, taps: int) -> Iterator[tuple[int, int, int]]:
    """(first, step, dilation) of the ways to put the taps of an axis into ``taps`` ones.

    Only the parity of the distance of w[0] and w[1] matters, so 1 and 2 are all that is tried; a single tap has no distance.
    """
    ways = [(1, axis.dilation if axis.taps > 1 else 1)]
    if axis.taps > 1 and axis.dilation % 2 == 0:
        ways.append((2, axis.dilation // 2))
    for step, dilation in ways:
        for first in range(taps - step * (axis.taps - 1)):
            yield first, step, dilation


def _numbers(axis: Axis, taps: int) -> Iterator[Fit]:
    """With the same zeros on both sides."""
    for first, step, dilation in _places(axis, taps):
        padding = axis.before + dilation * first
        last = axis.rows + 2 * padding - dilation * (taps - 1) - 1  # the last place of the kernel
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


def _spread(axis: Axis, taps: int) -> Iterator[Fit]:
    """A single row of input, whose outputs move to every second row."""
    if axis.rows == 1:
        wide = replace(axis, dilation=2 * axis.dilation, before=2 * axis.before, out=2 * axis.out - 1)
        yield from (replace(fit, pick=2) for fit in _numbers(wide, taps))
