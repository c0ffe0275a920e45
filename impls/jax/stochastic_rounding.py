"""How far results are off: random roundings of a narrower dtype, of single results and of sums.

Everything here is NumPy in float64. A draw costs no compilation, and what an error depends on may be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from faceoff.core.errors import InputError

Array: TypeAlias = np.ndarray

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half the distance from 1 to the next number."""
LARGEST = {"float64": (2 - 2.0**-52) * 2.0**1023, "float32": 3.4028235e38, "float16": 65504.0, "bfloat16": 3.3895314e38}
# Below the smallest normal number libraries may compute with zero; float16's are rounded to its finest spacing instead.
LOST_BELOW = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-25, "bfloat16": 2.0**-126}
# Squares of numbers beyond these leave the range of float64; noise may move a number by the margin.
SQUARABLE = 1e-140, 1e140
RANGE_MARGIN = 2.0**10
# Elements at a time, so that they stay in the processor's cache.
BLOCK = 2**14
FRACTION_BITS = 52
# Of a sum's own terms: fewer do not tell whether they round alike.
FEWEST_TERMS = 32

# Odd, with bits all over (the fraction of the golden ratio): a product with it mixes all bits into the upper ones.
MIXER = np.uint64(0x9E3779B97F4A7C15)
# Bits in which equal values may differ by the order of summing; squares are found in float32.
DROPPED = np.uint64(8), np.uint64(36)


@dataclass(frozen=True)
class Grain:
    """How a dtype rounds, all errors made `times` as large.

    Attributes:
        unit: the unit roundoff.
        lost_below: the largest absolute error that a result of any size may have.
        largest: the largest number.
        spaced: whether small numbers are rounded to the dtype's finest spacing.
        finer: those bits of a float64 that a number of the dtype does not have.
    """

    unit: float
    lost_below: float
    largest: float
    spaced: bool
    finer: np.uint64

    @staticmethod
    def of(dtype: str, times: float) -> Grain:
        """Of a key of `UNIT_ROUNDOFF`."""
        # What fits into float32 is taken to be exact in float64 too, where nothing is left to tell it by.
        digits = -int(np.log2(max(UNIT_ROUNDOFF[dtype], UNIT_ROUNDOFF["float32"]))) - 1
        return Grain(
            UNIT_ROUNDOFF[dtype] * times,
            LOST_BELOW[dtype] * times,
            LARGEST[dtype],
            dtype == "float16",
            np.uint64(2 ** (FRACTION_BITS - digits) - 1),
        )

    def holds(self, size: Array) -> bool:
        """Whether numbers of these sizes, zeros aside, and their squares are far from both ends of the range."""
        if self.spaced:
            return not size.any()
        least = max(self.lost_below * RANGE_MARGIN, SQUARABLE[0])
        if not np.max(size, initial=0.0) <= min(self.largest / RANGE_MARGIN, SQUARABLE[1]):
            return False
        return np.count_nonzero(size < least) == size.size - np.count_nonzero(size)

    def inexact(self, values: Array) -> Array:
        """Where values, contiguous, are no numbers of the dtype, so that there was something to round."""
        return (values.view(np.uint64) & self.finer) != 0


@dataclass
class Sum:
    """Sums of n terms t, and what their rounding depends on.

    Attributes:
        totals: float64, any shape.
        roots: of the sum of squared terms, of the same shape.
        terms: n, one for all or one each.
        least: what a plain running sum in float32 is off by, as a standard deviation; one for all or one each.
        factor: by how much plain running sums in float32 exceed random roundings.
        single: what a sum of one term does: a product is rounded, a number is not.
    """

    totals: Array
    roots: Array
    terms: Any
    least: Any = 0.0
    factor: float = 1.0
    single: bool = True


@dataclass
class Draws:
    """Draws of uniform(-1, 1) and of the normal distribution, made once and then taken from anywhere in a ring.

    Draws within a block are independent. Two blocks share draws by chance only, and every draw stands in the ring with
    either sign, so that what they share averages to zero.

    Args:
        rng: draws the rings and the places.
        alike: which one a value gets depends on the value alone.
    """

    rng: np.random.Generator
    alike: bool = False
    bits: int = 18
    _places: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        half = 2 ** (self.bits - 1)
        self._salt = np.uint64(self.rng.integers(2**63))
        self._uniform, self._normal = (
            np.concatenate([ring, -ring, ring[:BLOCK]])
            for ring in (self.rng.random(half) * 2 - 1, self.rng.standard_normal(half))
        )

    def uniform(self, values: Array) -> Array:
        """One for each of at most `BLOCK` values, flat; not to be written to."""
        return self._by_value(self._uniform, values) if self.alike else self._window(self._uniform, values.size)

    def normal(self, sums: Array, roots: Array) -> Array:
        """One for each of as many sums, of which those are alike whose squared terms are so too."""
        return self._by_value(self._normal, sums, roots) if self.alike else self._window(self._normal, sums.size)

    def _window(self, ring: Array, count: int) -> Array:
        if not self._places:
            self._places = self.rng.integers(2**self.bits, size=1024).tolist()
        place = self._places.pop()
        found: Array = ring[place : place + count]
        return found

    def _by_value(self, ring: Array, *values: Array) -> Array:
        key = self._salt
        for each, dropped in zip(values, DROPPED, strict=False):
            key = ((np.ascontiguousarray(each).view(np.uint64) >> dropped) ^ key) * MIXER
        found: Array = ring[(key >> np.uint64(64 - self.bits)).view(np.int64)]
        return found


class Rounding:
    """Random roundings of one run.

    Args:
        dtype: a key of `UNIT_ROUNDOFF`, the one that is imitated.
        unit_roundoff: in place of that of `dtype`; those of other dtypes grow or shrink alike. 0: nothing is rounded.
        seed: of the draws.
        traced: the dtype that stands for it in the program.
        alike: equal values are rounded alike.

    Raises:
        InputError: an unknown dtype.
    """

    def __init__(
        self, dtype: str, unit_roundoff: float | None, seed: int, traced: str = "float64", alike: bool = False
    ) -> None:
        for where, name in (("dtype", dtype), ("traced", traced)):
            if name not in UNIT_ROUNDOFF:
                raise InputError("unknown dtype", where=where, got=name, expected=", ".join(UNIT_ROUNDOFF))
        self.dtype, self.traced = dtype, traced
        self.times = 1.0 if unit_roundoff is None else unit_roundoff / UNIT_ROUNDOFF[dtype]
        self.rng = np.random.Generator(np.random.SFC64(seed))
        self._draws = Draws(self.rng, alike) if self.times else None
        self._own = Grain.of(dtype, self.times)
        self._grains = {
            name: Grain.of(name, self.times)
            for name in UNIT_ROUNDOFF
            if "float64" not in (name, dtype) and name != traced
        }
        self._constants: dict[float, float] = {}

    def undisturbed(self) -> Rounding:
        """The same without any."""
        return Rounding(self.dtype, 0.0, 0, self.traced)

    def grain(self, dtype: Any) -> Grain:
        """Of the dtype that a program names; where float64 is imitated, nothing in it is narrower."""
        return self._grains.get(np.dtype(dtype).name, self._own)

    def elementwise(self, values: Array, units: float, grain: Grain) -> Array:
        """Rounded results of an operation that is off by at most `units` unit roundoffs; what is exact stays so."""
        if not self._draws or not units:
            return values
        flat = np.ascontiguousarray(values).reshape(-1)
        found = np.empty_like(flat)
        for begin in range(0, flat.size, BLOCK):
            part = flat[begin : begin + BLOCK]
            found[begin : begin + BLOCK] = self._round(part, units, grain)
        return found.reshape(np.shape(values))

    def _round(self, part: Array, units: float, grain: Grain) -> Array:
        assert self._draws
        draws, size, inexact = self._draws.uniform(part), np.abs(part), grain.inexact(part)
        if grain.holds(size):
            error = part * draws
            error *= units * grain.unit
            error *= inexact
            error += part
            return error
        # Numbers in the subnormal range have fewer digits than the bits that are looked at.
        small = size < grain.lost_below / grain.unit
        error = np.maximum(np.minimum(size, grain.lost_below), size * (units * grain.unit)) * (inexact | small)
        return _fit(part, size, np.where(np.isfinite(part), error * draws, 0.0), grain)

    def summed(self, of: Sum, grain: Grain) -> Array:
        """Rounded running sums.

        Each of the n partial sums S_k is off by a relative u * uniform(-1, 1), of variance u^2 / 3. A random walk that
        ends at S has sum(S_k^2) = n * (2 * S^2 + sum(t_k^2)) / 6 in the mean. So terms of one sign, whose partial sums
        grow all the way, count for more than terms that cancel. Libraries that sum in blocks stay below this; terms
        that round alike exceed it, which is what `least` and `factor` are for.
        """
        if not self._draws:
            return of.totals
        shape = np.shape(of.totals)
        parts = [_flat(part, shape) for part in (of.totals, of.roots, of.terms, of.least)]
        found = np.empty_like(parts[0])
        for begin in range(0, found.size, BLOCK):
            totals, roots, terms, least = (part[begin : begin + BLOCK] if part.ndim else part for part in parts)
            draws, size = self._draws.normal(totals, roots), np.abs(totals)
            inside = grain.holds(size) and grain.holds(roots)
            walk = np.sqrt(2 * size * size + roots * roots) if inside else np.maximum(np.sqrt(2.0) * size, roots)
            deviation = walk * np.sqrt(terms / 18) * (grain.unit * of.factor)
            deviation = np.maximum(deviation, least * (grain.unit / UNIT_ROUNDOFF["float32"]))
            if not inside:
                count = np.sqrt(terms / 3) if grain.spaced else terms
                deviation = np.maximum(deviation, np.minimum(np.sqrt(terms) * roots, count * grain.lost_below))
            # A sum that is zero, of terms that are not, had roundings on the way.
            exact = (roots == 0) | (~grain.inexact(totals) & (size > grain.lost_below / grain.unit))
            deviation[exact if of.single else exact | (terms <= 1)] = 0.0
            if inside:
                found[begin : begin + BLOCK] = totals + deviation * draws
            else:
                error = np.where(np.isfinite(totals), deviation * draws, 0.0)
                found[begin : begin + BLOCK] = _fit(totals, size, error, grain)
        return found.reshape(shape)

    def walked(self, steps: Array, axis: int) -> Array:
        """The sums over `axis` so far of errors uniform(-1, 1) times `steps`, one error after the other."""
        if not self._draws:
            return np.zeros_like(steps)
        draws = self.rng.random(steps.shape)
        found: Array = np.cumsum((2 * draws - 1) * steps, axis=axis)
        return found

    def constant(self, value: Array) -> Array:
        """A number that the program holds, as a narrower dtype has it: the same everywhere in a run.

        The ends of float64's range stand for those of the dtype, as programs ask `finfo` for them.
        """
        if not self._draws:
            return value
        grain = self._own
        value = np.where(np.isfinite(value), np.clip(value, -grain.largest, grain.largest), value)
        if value.size != 1:
            return self.elementwise(value, 1.0, grain)
        key = float(value.reshape(()))
        if key not in self._constants:
            self._constants[key] = float(self.elementwise(value, 1.0, grain).reshape(()))
        return np.full(value.shape, self._constants[key])


def _flat(part: Any, shape: tuple[int, ...]) -> Array:
    """One number, or one for each of the sums, flat."""
    part = np.asarray(part, dtype=np.float64)
    if not part.ndim and shape:
        return part
    return np.ascontiguousarray(np.broadcast_to(part, shape)).reshape(-1)


def _fit(exact: Array, size: Array, error: Array, grain: Grain) -> Array:
    """Sums of values and errors in the dtype's range: what is too large is infinite, float16's smallest are zero."""
    found: Array = exact + error
    found[size > grain.largest] *= np.inf
    if grain.spaced:
        found[np.abs(found) < grain.lost_below] = 0.0
    return found
