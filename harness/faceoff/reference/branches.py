"""Which way each ReLU goes. Where its input is nearly zero, rounding alone decides, and gradients differ from there on.

A run may go its own way and be recorded, or take the sides that another run took, but for some that are turned over. So
the rounding noise of a computation can be told from what a ReLU that decides otherwise does to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray

# What a ReLU passes on that is held open although its input is not above zero: its derivative has to be 1.
BARELY_OPEN = 2.0**-1022


class Branches:
    """The sides that the ReLUs of one run take; the calls of a run are numbered in their order.

    Args:
        follow: the sides to take, call by call, as another run's `taken`; None: its own.
        turned: flat positions, by call, that take the other side than their own.
        watched: flat positions, by call, whose inputs are kept in `seen`.
    """

    def __init__(
        self,
        follow: Sequence[Array] | None = None,
        turned: Mapping[int, Sequence[int]] | None = None,
        watched: Mapping[int, Array] | None = None,
    ) -> None:
        self._follow, self._turned, self._watched = follow, turned or {}, watched or {}
        self._calls = 0
        self.taken: list[Array] = []
        self.seen: dict[int, Array] = {}
        self.parts: dict[str, int] = {}

    def begin(self, part: str) -> None:
        """Notes that the next call is the first one of `part`."""
        self.parts[part] = self._calls

    def part_of(self, call: int) -> str:
        """The part that a call belongs to; empty before the first one."""
        starts = [(first, part) for part, first in self.parts.items() if first <= call]
        return max(starts, default=(0, ""))[1]

    def rectify(self, x: Array) -> Array:
        """max(x, 0), or what the side to be taken makes of x; any shape."""
        call, self._calls = self._calls, self._calls + 1
        if call in self._watched:
            self.seen[call] = x.reshape(-1)[self._watched[call]]
        if self._follow is not None:
            return _held(x, np.unpackbits(self._follow[call], count=x.size).view(bool))
        is_open = (x > 0).reshape(-1)
        for position in self._turned.get(call, ()):
            is_open[position] = not is_open[position]
        self.taken.append(np.packbits(is_open))
        if call in self._turned:
            return _held(x, is_open)
        y: Array = np.maximum(x, 0)
        return y


def _held(x: Array, is_open: Array) -> Array:
    # NaN passes, as it does in every framework.
    y: Array = np.where(is_open.reshape(x.shape) | np.isnan(x), np.maximum(x, BARELY_OPEN), 0.0)
    return y


class NearZero(Branches):
    """Takes its own sides but for those turned, and keeps which inputs come near to zero.

    Args:
        share: of the rms of a call's inputs that counts as near.
        turned: as of `Branches`.

    Attributes:
        near: flat positions, by call.
        seen: the inputs there, by call.
    """

    def __init__(self, share: float, turned: Mapping[int, Sequence[int]] | None = None) -> None:
        super().__init__(turned=turned)
        self._share = share
        self.near: dict[int, Array] = {}

    def rectify(self, x: Array) -> Array:
        """As `Branches.rectify`."""
        size = np.abs(x.reshape(-1))
        close = np.flatnonzero(size <= self._share * float(np.sqrt(np.mean(np.square(size)))))
        self.near[self._calls] = close
        self.seen[self._calls] = x.reshape(-1)[close]
        return super().rectify(x)
