"""One array of a side, or a part of one, and how it is made from a canonical array of another shape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from faceoff.core.own import Placed

Shape = tuple[int, ...]
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A weight of a side, as its worker told it, or an equal part of one.

    Attributes:
        path: of the whole array.
        layer, part, stacked, trained: see `Runtime.open_side`.
        axes: the permutation of its own canonical axes that makes the side's.
        shape: of the side's array, or of the block of it.
        block: where it lies in the array, if it is a part.
        labels: of the parts that it is, as `query`, or the gate `i`.
        to: the canonical name that a rule gives it.
        told_shape: its canonical shape, if a rule gives that.
        told_axes: the permutation of whatever canonical axes it gets, if a rule gives that.
    """

    path: str
    layer: str
    part: str
    axes: Axes
    shape: Shape
    block: tuple[tuple[int, int], ...] | None = None
    stacked: tuple[str, ...] = ()
    trained: bool | None = None
    labels: tuple[str, ...] = ()
    to: str = ""
    told_shape: Shape | None = None
    told_axes: Axes | None = None

    @property
    def canonical_shape(self) -> Shape:
        """What its canonical array has, as far as this side alone decides."""
        if self.told_shape is not None:
            return self.told_shape
        found = [0] * len(self.axes)
        for position, axis in enumerate(self.axes):
            found[axis] = self.shape[position]
        return tuple(found)

    def parts(self, axis: int, labels: tuple[str, ...]) -> list[Entry]:
        """The equal parts of it along an axis of the side's array."""
        size = self.shape[axis] // len(labels)
        found = []
        for index, label in enumerate(labels):
            block = list(self.block or [(0, end) for end in self.shape])
            begin = block[axis][0] + index * size
            block[axis] = (begin, begin + size)
            shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
            found.append(
                replace(self, shape=shape, block=tuple(block), labels=(*self.labels, label), stacked=(), to="")
            )
        return found


def place(entry: Entry, shape: Shape) -> Placed | None:
    """Where an entry is, for a canonical array of this shape; None if nothing that can be undone makes it of one."""
    if entry.told_axes is not None:
        fits = len(entry.told_axes) == len(shape) and math.prod(shape) == math.prod(entry.shape)
        return _placed(entry, entry.told_axes, shape) if fits else None
    if entry.canonical_shape == shape:
        axes = entry.axes if len(entry.axes) == len(shape) else tuple(range(len(shape)))
        return _placed(entry, axes, shape)
    if entry.told_shape is not None:
        return None
    for own, own_axes in _layouts(entry.layer, entry.canonical_shape):
        for canonical, canonical_axes in _layouts(entry.layer, shape):
            axes_found = _through(own, tuple(own_axes.index(axis) for axis in entry.axes), canonical)
            if axes_found is not None:
                return _placed(entry, tuple(canonical_axes[axis] for axis in axes_found), shape)
    return None


def _placed(entry: Entry, axes: Axes, shape: Shape) -> Placed:
    turned = tuple(shape[axis] for axis in axes)
    return Placed(entry.path, axes, None if turned == entry.shape else entry.shape, entry.block)


def _layouts(layer: str, shape: Shape) -> Iterator[tuple[Shape, Axes]]:
    """A canonical shape and its axes, and others in which the same elements are counted in the same way."""
    axes = tuple(range(len(shape)))
    yield shape, axes
    if layer == "convolution" and len(shape) > 2:
        # Depthwise: channels and the filters of each, which another side counts together as outputs.
        moved = (axes[-1], *axes[:-1])
        yield tuple(shape[axis] for axis in moved), moved


def _through(own: Shape, own_axes: Axes, shape: Shape) -> Axes | None:
    """The permutation of the axes of `shape` that makes a side's array, up to a reshape.

    Axes of `own` lie in the same order as those of `shape`; only some are one there and several here.
    """
    groups = _groups(own, shape)
    if groups is None:
        return None
    group_of = {axis: index for index, (ours, _) in enumerate(groups) for axis in ours}
    order = [axis for axis in own_axes if axis in group_of]
    found: list[int] = []
    position = 0
    while position < len(order):
        ours, theirs = groups[group_of[order[position]]]
        # What is one axis there must lie together and in order here.
        if tuple(order[position : position + len(ours)]) != ours:
            return None
        found += theirs
        position += len(ours)
    return (*found, *(axis for axis, size in enumerate(shape) if axis not in found))


def _groups(own: Shape, shape: Shape) -> list[tuple[Axes, Axes]] | None:
    """Axes that hold the same elements: one against one, or one against several. Axes of size 1 hold nothing."""
    if math.prod(own) != math.prod(shape):
        return None
    ours = [axis for axis, size in enumerate(own) if size != 1]
    theirs = [axis for axis, size in enumerate(shape) if size != 1]
    groups: list[tuple[Axes, Axes]] = []
    while ours and theirs:
        left, right = [ours.pop(0)], [theirs.pop(0)]
        size, other = own[left[0]], shape[right[0]]
        while size != other:
            if size < other and ours and len(right) == 1:
                left.append(ours.pop(0))
                size *= own[left[-1]]
            elif size > other and theirs and len(left) == 1:
                right.append(theirs.pop(0))
                other *= shape[right[-1]]
            else:
                return None
        groups.append((tuple(left), tuple(right)))
    return None if ours or theirs else groups
