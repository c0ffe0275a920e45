"""Draws for roundings: independent ones, and ones that depend on the value alone."""

from __future__ import annotations

import numpy as np
import torch


class Draws:
    """Draws of uniform(-limit, limit), made once and then taken from anywhere in a ring, which is much faster.

    Every draw stands in the ring with either sign, so that over the places products of draws average to zero.

    Args:
        rng: draws the ring and the places.
        limit: the largest draw.
    """

    SIZE, BLOCK = 2**18, 2**16

    def __init__(self, rng: np.random.Generator, limit: float) -> None:
        half = _uniform(rng, self.SIZE // 2, limit)
        self._ring = torch.cat([half, -half, half[: self.BLOCK]])
        self._rng = rng
        self._places: list[int] = []

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """A draw for each of these values, of their shape; not to be written to."""
        count = values.numel()
        if count <= self.BLOCK:
            return self._take(count).view(values.shape)
        found = torch.empty(count, dtype=torch.float64)
        for part in found.split(self.BLOCK):
            part.copy_(self._take(part.numel()))
        return found.view(values.shape)

    def of_sums(self, values: torch.Tensor, roots: torch.Tensor) -> torch.Tensor:
        """The sum of two draws for each of these sums: bell-shaped enough, and of variance 2/3 limit^2."""
        return self.of(values) + self.of(values)

    def _take(self, count: int) -> torch.Tensor:
        if not self._places:
            self._places = self._rng.integers(self.SIZE, size=1024).tolist()
        place = self._places.pop()
        return self._ring[place : place + count]


class DrawsByValue:
    """Draws of uniform(-limit, limit), made once; which one a value gets depends on the value alone.

    For equal results round alike: what is computed a thousand times from the same numbers is off by the same each time.

    Args:
        rng: draws the ring.
        limit: the largest draw.
        every_bit: values count as different that differ in their last bits, which are rounding in float64.
    """

    # Few enough to stay in the processor's cache.
    BITS = 15
    # The fraction of the golden ratio, odd: a product with it mixes all bits into the upper ones.
    MIXER = 0x9E3779B97F4A7C15 - 2**64
    DROPPED, DROPPED_OF_ROOTS = 8, 36

    def __init__(self, rng: np.random.Generator, limit: float, every_bit: bool) -> None:
        half = _uniform(rng, 2**self.BITS // 2, limit)
        self._ring = torch.cat([half, -half])
        # Draws of one size and opposite signs may not meet.
        self._bells = self._ring + self._ring.roll(2**self.BITS // 3)
        self._salt = int(rng.integers(2**62))
        self._dropped = 0 if every_bit else self.DROPPED

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """A draw for each of these values, of their shape."""
        return self._ring[self._upper(self._mixed(values))]

    def of_sums(self, values: torch.Tensor, roots: torch.Tensor) -> torch.Tensor:
        """The sum of two draws for each of these sums, of which those are alike whose squared terms are so too."""
        others = roots.expand(values.shape).contiguous().view(torch.int64) >> self.DROPPED_OF_ROOTS
        return self._bells[self._upper((self._mixed(values) ^ others) * self.MIXER)]

    def _mixed(self, values: torch.Tensor) -> torch.Tensor:
        bits = values.contiguous().view(torch.int64) >> self._dropped
        return (bits ^ self._salt) * self.MIXER

    def _upper(self, key: torch.Tensor) -> torch.Tensor:
        return (key >> (64 - self.BITS)) & (2**self.BITS - 1)


def _uniform(rng: np.random.Generator, count: int, limit: float) -> torch.Tensor:
    return (torch.from_numpy(rng.random(count)) * 2 - 1) * limit
