"""Which layer of a port is which of its reference: by the weights that they hold, or as the user says."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceoff.core.own import Port
from faceoff.core.recorded import RECORDED

NTH = "#"
# Axes of arrays are matched by trying; of so many there are too many ways.
MOST_AXES = 6


@dataclass(frozen=True)
class Call:
    """One call of a layer, as `Model.layers` tells it."""

    name: str
    kind: str
    entered: int
    left: int
    inputs: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]

    @property
    def path(self) -> str:
        """Of the layer."""
        return self.name.partition(NTH)[0]

    @property
    def is_recorded(self) -> bool:
        """Whether it is no call, but a value that the user recorded; it is its input."""
        return self.name.startswith(RECORDED)

    def arrays(self, part: str) -> Sequence[np.ndarray]:
        """`inputs` or `outputs`."""
        return self.inputs if part == "inputs" else self.outputs

    def holds(self, other: Call) -> bool:
        """Whether the other call happens within this one."""
        return self.entered < other.entered and other.left < self.left


def calls_of(reply: Mapping[str, Any]) -> dict[str, Call]:
    """The calls of a reply to `layers`, by name, in the order in which they begin."""
    calls = [Call(**told) for told in reply["layers"]]
    return {call.name: call for call in sorted(calls, key=lambda call: call.entered)}


def pair_layers(
    port: Port, framework: str, reference: Mapping[str, Call], side: Mapping[str, Call]
) -> list[tuple[Call, Call]]:
    """Calls of the reference's layers with those of a side, in the order in which the reference's begin.

    Layers are the same that hold the same weights. Of several within each other that do, all are paired if they are as
    many on both sides, else the innermost, which have the least beside their weights. Layers that are called more or
    less often than their counterparts are left out. Values that the user recorded are the same that have the same name.
    """
    told = port.side(framework).layers
    pairs = {theirs: ours for theirs, ours in told.items() if ours}
    recorded = [{call.path for call in calls.values() if call.is_recorded} for calls in (reference, side)]
    pairs.update((path, path) for path in recorded[0] & recorded[1])
    known = {*told, *told.values()}
    chains = [_chains(port, name, calls, known) for name, calls in ((port.reference, reference), (framework, side))]
    for weights, paths in chains[0].items():
        others = chains[1].get(weights, [])
        count = len(paths) if len(paths) == len(others) else min(1, len(others))
        pairs.update(zip(paths[len(paths) - count :], others[len(others) - count :], strict=True))
    counts = [Counter(call.path for call in calls.values()) for calls in (reference, side)]
    found = []
    for call in reference.values():
        other = pairs.get(call.path)
        if other is not None and counts[0][call.path] == counts[1][other]:
            found.append((call, side[other + call.name.removeprefix(call.path)]))
    return found


def _chains(
    port: Port, framework: str, calls: Mapping[str, Call], left_out: set[str]
) -> dict[frozenset[str], list[str]]:
    """Paths of called layers by the weights that they hold, the outermost first."""
    placed = port.side(framework).weights
    found: dict[frozenset[str], list[str]] = defaultdict(list)
    for path in sorted({call.path for call in calls.values()} - left_out, key=len):
        held = [name for name, place in placed.items() if place.path.startswith((f"{path}.", f"{path}/"))]
        if held:
            found[frozenset(held)].append(path)
    return found


@dataclass(frozen=True)
class Layout:
    """How an array of a side becomes one of the reference's: the permutation of its axes, then the shape.

    Attributes:
        shape: of the side's.
    """

    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def to_reference(self, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """An array of the side's, in the reference's layout."""
        return value.transpose(self.axes).reshape(shape)

    def to_side(self, value: np.ndarray) -> np.ndarray:
        """An array of the reference's, in the side's layout."""
        turned = value.reshape([self.shape[axis] for axis in self.axes])
        return np.ascontiguousarray(turned.transpose(np.argsort(self.axes)))


class Layouts:
    """Finds layouts by shapes, and where these leave a choice by the values, and by what fitted elsewhere."""

    def __init__(self) -> None:
        self._usual: Counter[tuple[int, ...]] = Counter()

    def match(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> dict[int, tuple[int, Layout]]:
        """By the number of one of the reference's arrays: that of the side's, and its layout; in order, each once."""
        found: dict[int, tuple[int, Layout]] = {}
        left = list(range(len(theirs)))
        for number, value in enumerate(ours):
            for other in left:
                layout = self._layout(value, theirs[other])
                if layout is not None:
                    found[number] = other, layout
                    left.remove(other)
                    break
        return found

    def _layout(self, ours: np.ndarray, theirs: np.ndarray) -> Layout | None:
        if (ours.dtype.kind == "f") != (theirs.dtype.kind == "f") or theirs.ndim > MOST_AXES:
            return None
        fitting = [
            axes
            for axes in itertools.permutations(range(theirs.ndim))
            if tuple(theirs.shape[axis] for axis in axes) == ours.shape
        ]
        same = tuple(range(theirs.ndim))
        if not fitting:
            # Heads and what is in each, which the other side counts as one axis.
            alike = ours.size == theirs.size and ours.ndim != theirs.ndim and ours.shape[:1] == theirs.shape[:1]
            return Layout(same, theirs.shape) if alike else None
        if len(fitting) > 1:
            off = {axes: float(np.nanmean(np.abs(theirs.transpose(axes) - ours))) for axes in fitting}
            best = min(fitting, key=lambda axes: off[axes])
            clear = all(off[best] <= off[axes] / 2 for axes in fitting if axes != best)
            # What differs may be nearer by chance in another layout.
            usual = max(fitting, key=lambda axes: (self._usual[axes], axes == same))
            fitting = [best if clear else usual]
        self._usual[fitting[0]] += 1
        return Layout(fitting[0], theirs.shape)
