"""How far single results are off: independent draws, draws that depend on the value alone, rounding to a grid."""

from __future__ import annotations

import numpy as np

from faceoff.reference.arithmetic import Array
from faceoff.reference.following import BLOCK


class Grid:
    """Rounding to the nearest number of a narrow dtype, all of whose numbers are larger by a factor drawn at random.

    So a run rounds as the dtype does: equal values alike, what is on the grid not at all, a small step from a number
    back to it. Yet runs differ, and in none is anything exact because it happens to be so in the dtype.

    Args:
        rng: draws the factor.
        unit_roundoff: half the distance of the numbers from 1 on; a power of two.
    """

    def __init__(self, rng: np.random.Generator, unit_roundoff: float) -> None:
        self._factor = 2.0 ** rng.uniform()
        # Adding and taking away so many times the number leaves its upper bits (Veltkamp 1968; Dekker 1971).
        self._split = unit_roundoff * 2.0**53
        self._scaled, self._times = np.empty(BLOCK), np.empty(BLOCK)

    def round(self, part: Array, units: float) -> None:
        """Rounds at most `BLOCK` elements, flat, in place; by `units` times the distance, a power of two."""
        scaled = np.multiply(part, self._factor, out=self._scaled[: part.size])
        times = np.multiply(scaled, self._split * units + 1, out=self._times[: part.size])
        np.subtract(times, scaled, out=scaled)
        np.subtract(times, scaled, out=part)
        part *= 1 / self._factor


class Draws:
    """Draws of uniform(-limit, limit), made once and then taken from anywhere in a ring, which is much faster.

    Each block of each operation begins at a random place. So the draws within a block are independent, and two blocks
    have something in common by chance only: the very same draws for the same elements once in `SIZE` pairs. Every draw
    stands in the ring with either sign, so that over the places the products of two blocks' draws average to zero:
    what two blocks share makes the spread of one run a little more or less certain, but no larger and no smaller.
    Each run of a computation has a ring of its own.

    Args:
        rng: draws the ring and the places.
        limit: the largest draw.
    """

    SIZE = 2**18

    def __init__(self, rng: np.random.Generator, limit: float = 1.0) -> None:
        half = rng.random(self.SIZE // 2)
        half -= 0.5
        half *= 2 * limit
        self._ring = np.concatenate([half, -half, half[:BLOCK]])
        self._rng = rng
        self._places: list[int] = []
        self._sums = np.empty(BLOCK)

    def of(self, values: Array) -> Array:
        """A draw for each of at most `BLOCK` values, not to be written to."""
        return self._take(values.size)

    def of_sums(self, values: Array, squares: Array) -> Array:
        """The sum of two draws for each of as many sums."""
        found: Array = np.add(self._take(values.size), self._take(values.size), out=self._sums[: values.size])
        return found

    def _take(self, count: int) -> Array:
        if not self._places:
            self._places = self._rng.integers(self.SIZE, size=1024).tolist()
        place = self._places.pop()
        draws: Array = self._ring[place : place + count]
        return draws


class DrawsByValue:
    """Draws of uniform(-limit, limit), made once; which one a value gets depends on the value alone.

    For equal results round alike: what is computed a thousand times from the same numbers is off by the same each time.
    Values that differ get draws that have nothing in common, but by chance: the very same one in one of `SIZE` pairs.
    Every draw stands in the ring with either sign. Each run of a computation has a ring of its own.

    Args:
        rng: draws the ring.
        limit: the largest draw.
        dtype: in float64 values count as different that differ in their last bits, which are rounding there.
    """

    # Few enough to stay in the processor's cache.
    BITS = 15
    SIZE = 2**BITS
    # Odd, with bits all over (the fraction of the golden ratio): a product with it mixes all bits into the upper ones.
    MIXER = np.uint64(0x9E3779B97F4A7C15)
    # Of the 52 bits of a fraction: far below the roundings of any narrower dtype, above those of float64.
    DROPPED = np.uint64(8)
    # Squares are found in float32, whose last bits depend on the order of summing.
    DROPPED_OF_SQUARES = np.uint64(36)

    def __init__(self, rng: np.random.Generator, limit: float = 1.0, dtype: str = "float32") -> None:
        half = rng.random(self.SIZE // 2)
        half -= 0.5
        half *= 2 * limit
        self._ring = np.concatenate([half, -half])
        # Draws of one size and opposite signs may not meet.
        self._bells = self._ring + np.roll(self._ring, self.SIZE // 3)
        self._salt = np.uint64(rng.integers(2**63))
        self._drops = dtype != "float64"
        self._key, self._other = np.empty(BLOCK, dtype=np.uint64), np.empty(BLOCK, dtype=np.uint64)
        self._found = np.empty(BLOCK)

    def of(self, values: Array) -> Array:
        """A draw for each of at most `BLOCK` values, flat and contiguous, float64; valid until the next call."""
        found: Array = np.take(self._ring, self._places(values), out=self._found[: values.size], mode="clip")
        return found

    def of_sums(self, values: Array, squares: Array) -> Array:
        """The sum of two draws for each of these sums, of which those are alike whose squared terms are so too."""
        other = np.right_shift(squares.view(np.uint64), self.DROPPED_OF_SQUARES, out=self._other[: values.size])
        found: Array = np.take(self._bells, self._places(values, other), out=self._found[: values.size], mode="clip")
        return found

    def _places(self, values: Array, other: Array | None = None) -> Array:
        key, bits = self._key[: values.size], values.view(np.uint64)
        if self._drops:
            bits = np.right_shift(bits, self.DROPPED, out=key)
        np.bitwise_xor(bits, self._salt, out=key)
        np.multiply(key, self.MIXER, out=key)
        if other is not None:
            np.bitwise_xor(key, other, out=key)
            np.multiply(key, self.MIXER, out=key)
        np.right_shift(key, np.uint64(64 - self.BITS), out=key)
        places: Array = key.view(np.int64)
        return places
