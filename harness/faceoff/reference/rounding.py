"""Stochastic arithmetic: float64 whose every result is disturbed by a random rounding of a narrower dtype.

The spread of many such runs is the rounding noise of the computation itself (Parker 1997, "Monte Carlo arithmetic").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from faceoff.core.precision import storage_dtype
from faceoff.core.spec import require_choice
from faceoff.reference.arithmetic import UNIT_ROUNDOFF, Arithmetic, Array, unit_roundoff
from faceoff.reference.branches import Branches
from faceoff.reference.draws import Draws, DrawsByValue, Grid
from faceoff.reference.following import BLOCK, FollowedArray, Following, Observed, Product, blocks, plain
from faceoff.reference.following import relative_squares as squares_of
from faceoff.reference.summation import NaiveProduct, naive_sum_errors, stalled_sum_errors, wide_sum_errors

SMALLEST_NORMAL = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}
LARGEST = {"float64": (2 - 2.0**-52) * 2.0**1023, "float32": 3.4028235e38, "float16": 65504.0, "bfloat16": 3.3895314e38}
"""By the dtype that values are held in. Below the smallest normal number some libraries compute with zero instead."""

# Noise may differ from the exact run by this much in size before a range counts as left.
RANGE_MARGIN = 2.0**10
# Beyond these sizes squares leave the range of float64.
SQUARABLE = (1e-140, 1e140)


def lost_below(dtype: str) -> float:
    """The largest absolute error that a result of any size may have, in the dtype that values are held in.

    Results below the smallest normal number may be taken for zero; float16's are rounded to its finest spacing instead,
    as no library on a CPU computes in it.
    """
    return 2.0**-25 if dtype == "float16" else SMALLEST_NORMAL[dtype]


def leaves_range(dtype: str, seen: Observed) -> bool:
    """Whether values as small or large as these make the range of `dtype` matter, or that of float64 to their squares.

    Args:
        dtype: a key of `UNIT_ROUNDOFF`.
        seen: an exact run of the computation.
    """
    held = "bfloat16" if dtype == "mixed_bfloat16" else storage_dtype(dtype)
    if held == "float16":
        return True  # It has so few exponents that values of everyday size meet its smallest number.
    least = max(SMALLEST_NORMAL[held] * RANGE_MARGIN, SQUARABLE[0])
    most = min(LARGEST[held] / RANGE_MARGIN, SQUARABLE[1])
    return seen.smallest < least or not seen.largest < most


class Rounded(Following):
    """Float64 with every result disturbed by a random rounding of `dtype`.

    With the unit roundoff u and independent draws: an elementwise result is off by a relative u * uniform(-1, 1), twice
    that for exp, log, tanh and powers; a sum S over n terms t_k, or a product with t_k = a_k * b_k, by the rounding of
    a running sum, of variance u^2 * n / 18 * (2 * S^2 + sum(t_k^2)) (see `_disturb_sum`), and no less than a plain
    running sum in float32 errs here, scaled to u (`faceoff.reference.summation`). Selecting, comparing and negating are
    exact, so a disturbed ReLU takes the other side by itself, unless `branches` hold it.

    Args:
        dtype: a key of `UNIT_ROUNDOFF`; mixed precision has two of these (`Mixed`).
        rng: draws the disturbances; see `noise_generator`.
        times: how many times as large as a rounding they are.
        branches: which way ReLUs go; None: their own.
        whole_range: whether values may be so small or large that the range of `dtype` matters (`leaves_range`).
            Float16's always does.
        alike: equal values are rounded alike, as they are in every dtype, and those of a narrow one to its grid. Of
            many equal values errors then add up, which draws of their own would average out; but what is exact in one
            order of computing, as a difference of equal values is, may not be so in another: see `Expected.judge`.

    Raises:
        InputError: an unknown dtype.
    """

    def __init__(
        self,
        dtype: str,
        rng: np.random.Generator,
        times: float = 1.0,
        branches: Branches | None = None,
        whole_range: bool = False,
        alike: bool = False,
    ) -> None:
        super().__init__(branches)
        require_choice(dtype, tuple(name for name in UNIT_ROUNDOFF if name != "mixed_bfloat16"), "reference.dtype")
        held = storage_dtype(dtype)
        self.unit_roundoff = unit_roundoff(held) * times
        # Of both operands of a product, before they are multiplied.
        self._operands = unit_roundoff(dtype) * times if dtype == "tf32" else 0.0
        self._whole_range = whole_range or held == "float16"
        self._lost_below, self._largest = lost_below(held) * times, LARGEST[held]
        # Partial sums of float16 are rounded to its spacing, those of others are lost whole where they are small.
        self._rounds_small = held == "float16"
        self.rng = rng
        self._draws: Draws | DrawsByValue = Draws(rng, self.unit_roundoff)
        self._grid: Grid | None = None
        self._alike = alike
        self._wide_sums = alike and held == "float64"
        if alike:
            self._draws = DrawsByValue(rng, self.unit_roundoff, held)
            self._grid = None if held == "float64" else Grid(rng, self.unit_roundoff)
        # Libraries may hold a running sum in the narrow dtype itself.
        self._stalls = unit_roundoff(held) if alike and held in ("bfloat16", "float16") else 0.0
        self._shift = np.empty(BLOCK)

    def disturb(self, values: Array, units: float = 1.0) -> None:
        """Multiplies each element by 1 + units * u * uniform(-1, 1), in place; see `elementwise`."""
        self.elementwise(values, units)

    def elementwise(self, values: Array, units: float) -> None:
        """Rounds each element, in place: multiplies it by 1 + units * u * uniform(-1, 1), or takes it to a grid.

        Where the range matters, what is below the smallest normal number may vanish, and what is too large is infinite.
        """
        for (part,) in blocks(values):
            if self._grid and not self._whole_range:
                self._grid.round(part, units)
                continue
            draws = self._draws.of(part)
            if not self._whole_range:
                shift = np.multiply(part, draws, out=self._shift[: part.size])
                if units != 1:
                    shift *= units
                part += shift
                continue
            size = np.abs(part)
            if self._grid:
                lost = np.minimum(size, self._lost_below) * draws / self.unit_roundoff
                self._grid.round(part, units)
                np.add(part, lost, out=part, where=size < self._lost_below / self.unit_roundoff)
            else:
                error = np.minimum(size, self._lost_below)
                np.maximum(error, size * (units * self.unit_roundoff), out=error)
                part += error * draws / self.unit_roundoff
            self._fit(part)

    def summed(self, sums: Array, terms: Array, axis: Any) -> None:
        """Adds the rounding of running sums, in place; no less than plain ones in float32 err, as equal terms do."""
        count = terms.size // max(1, sums.size)
        least = naive_sum_errors(terms, axis, self.rng).reshape(sums.shape) * (self.unit_roundoff * 2.0**24)
        if self._wide_sums:
            least = np.maximum(least, wide_sum_errors(terms, axis).reshape(sums.shape) * (self.unit_roundoff * 2.0**53))
        if self._stalls:
            least = np.maximum(least, stalled_sum_errors(terms, axis, self._stalls).reshape(sums.shape))
        if self._whole_range:
            roots = _root_of_squares(terms, axis).reshape(sums.shape)
        else:
            roots = _sum_squares(terms, axis).reshape(sums.shape)
        self._disturb_sum(sums, count, roots, least=least)

    def product(self, short: bool) -> Product:
        """See `RoundedProduct`."""
        return RoundedProduct(self, short)

    def accumulated(self, values: Array, start: Array, terms: int) -> None:
        """Adds the rounding of running sums that begin at `start`, in place, where equal values are rounded alike.

        A library may add a product's terms to the bias, one by one. Each partial sum, on the way from the bias a to the
        result y, is off by u * uniform(-1, 1) of its own size: together by u^2 * n / 9 * (a^2 + a * y + y^2).
        """
        if not self._alike:
            return
        starts = np.ascontiguousarray(np.broadcast_to(start, values.shape))
        for part, begun in blocks(values, starts):
            # The root of the bracket without squares, which may leave the range.
            size = np.hypot(begun + part / 2, np.sqrt(0.75) * part)
            part += size * self._draws.of(part) * np.sqrt(terms / 3)
            if self._whole_range:
                self._fit(part)

    def _disturb_sum(
        self, values: Array, terms: int, squares: Array, times: float = 1.0, least: Array | None = None
    ) -> None:
        """Adds the rounding of a running sum, in place.

        Each of the n partial sums S_k is off by a relative u * uniform(-1, 1), of variance u^2 / 3. A random walk that
        ends at S has sum(S_k^2) = n * (2 * S^2 + sum(t_k^2)) / 6 in the mean. So terms of one sign, whose partial sums
        grow all the way, count for more than terms that cancel. Libraries that sum in blocks stay below this.

        Args:
            values: the sums S.
            terms: their number of terms n.
            squares: the sum of the squared terms t_k of each; their root where the whole range matters.
            times: how many times as large it is.
            least: of its standard deviation.
        """
        # The sum of two draws is bell-shaped enough: the sums that follow make it normal. Its variance is 2/3.
        variance = terms / 18 * 3 / 2 * times**2
        others = (squares,) if least is None else (squares, least)
        for part, square, *floor in blocks(values, *others):
            if self._whole_range:
                shift = self._deviation(part, square, terms, variance)
            else:
                shift = np.square(part, out=self._shift[: part.size])
                shift += shift
                shift += square
                shift *= variance
                np.sqrt(shift, out=shift)
            if floor:
                # A draw of this sum has the standard deviation sqrt(2/3) u.
                np.maximum(shift, floor[0] * (np.sqrt(1.5) / self.unit_roundoff), out=shift)
            shift *= self._draws.of_sums(part, square)
            part += shift
            if self._whole_range:
                self._fit(part)

    def _deviation(self, sums: Array, roots: Array, terms: int, variance: float) -> Array:
        """In units of u, without squares, which very small and very large numbers do not have."""
        size = np.maximum(np.sqrt(2.0) * np.abs(sums), roots) * np.sqrt(variance)
        count = np.sqrt(terms / 3) if self._rounds_small else terms
        lost = np.minimum(np.sqrt(terms) * roots, count * self._lost_below) * (np.sqrt(1.5) / self.unit_roundoff)
        deviation: Array = np.maximum(size, lost)
        return deviation

    def _disturb_operands(self, values: Array, squares: Array) -> None:
        """Adds to a product what the rounding of its operands does, before they meet, in place.

        Each term t_k is off by two relative u * uniform(-1, 1), so the sum by a variance of 2/3 u^2 sum(t_k^2).
        """
        for part, square in blocks(values, squares):
            root = square if self._whole_range else np.sqrt(square)
            # The sum of two draws has the variance 2/3.
            part += root * self._draws.of_sums(part, square) * (self._operands / self.unit_roundoff)

    def _fit(self, part: Array) -> None:
        """Fits values into the range, in place: what is too large is infinite, and float16's smallest are zero.

        No disturbance makes a value zero, and by a root or a quotient a zero is far from it.
        """
        if not np.max(np.abs(part), initial=0.0) <= self._largest:
            part[np.abs(part) > self._largest] *= np.inf
        if self._rounds_small:
            part[np.abs(part) < self._lost_below] = 0.0


class RoundedProduct:
    """The rounding of one matrix product in a `Rounded` arithmetic.

    Args:
        arithmetic: in which it is made.
        short: one of very many with few terms; what equal terms do to it is not looked for.
    """

    def __init__(self, arithmetic: Rounded, short: bool) -> None:
        self._arithmetic = arithmetic
        # With the rounding that each makes its sums in.
        self._naive = [] if short else [(NaiveProduct(arithmetic.rng), 2.0**-24)]
        if arithmetic._wide_sums and not short:
            self._naive.append((NaiveProduct(arithmetic.rng, np.float64), 2.0**-53))
        self._squares: Array = np.zeros(())
        self._terms = 0

    def add(self, left: Array, right: Array) -> None:
        """Takes note of left @ right, `(m, k) @ (k, n)`, as one piece of the sum."""
        self._terms += left.shape[-1]
        if self._arithmetic._whole_range:
            self._squares = np.hypot(self._squares, _root_of_squared_terms(plain(left), plain(right)))
        else:
            self._squares = self._squares + _squared_terms(left, right)
        for naive, _ in self._naive:
            naive.add(plain(left), plain(right))

    def finish(self, total: Array) -> None:
        """Disturbs the sum of all pieces, `(m, n)`, in place."""
        arithmetic = self._arithmetic
        times = max([1.0, *(self._times(total, naive, roundoff) for naive, roundoff in self._naive)])
        arithmetic._disturb_sum(total, self._terms, self._squares, times)
        if arithmetic._operands:
            arithmetic._disturb_operands(total, self._squares)

    def _times(self, total: Array, naive: NaiveProduct, roundoff: float) -> float:
        """How many times as far plain running sums are off as random roundings would be."""
        places, errors = naive.places, naive.errors()
        if not len(errors):
            return 1.0
        sums, found = total[places], self._squares[places]
        roots = found if self._arithmetic._whole_range else np.sqrt(found)
        expected = np.sqrt(self._terms / 18) * np.hypot(np.sqrt(2.0) * sums, roots) * roundoff
        known = expected > 0
        ratios = errors[known] / expected[known]
        return float(np.sqrt(np.mean(np.square(ratios)))) if len(ratios) else 1.0


class Mixed(Arithmetic):
    """Weights and their updates in float32, passes in bfloat16: the noise of mixed precision.

    Args:
        rng: draws the disturbances.
        times: how many times as large as a rounding they are.
        branches: which way ReLUs go.
        whole_range, alike: as of `Rounded`.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        times: float = 1.0,
        branches: Branches | None = None,
        whole_range: bool = False,
        alike: bool = False,
    ) -> None:
        self._wide = Rounded("float32", rng, times, branches, whole_range, alike)
        self._narrow = Rounded("bfloat16", rng, times, self._wide.branches, whole_range, alike)

    def array(self, values: Any) -> Array:
        """A copy of `values`, which are taken to be exact in float32."""
        return self._wide.array(values)

    def narrow(self, values: Array) -> Array:
        """A copy, rounded to bfloat16."""
        copy = np.array(values, order="C", subok=False)
        self._narrow.disturb(copy)
        return self._narrow.wrap(copy)

    def widen(self, values: Array) -> Array:
        """A copy whose operations are those of float32 again."""
        return self._wide.array(values)

    def begin(self, part: str) -> None:
        """Says which part of a computation comes now."""
        self._wide.begin(part)


def stochastic(
    dtype: str,
    rng: np.random.Generator,
    times: float = 1.0,
    branches: Branches | None = None,
    whole_range: bool = False,
    alike: bool = False,
) -> Arithmetic:
    """The arithmetic whose spread is the rounding noise of a precision policy (see `Rounded`)."""
    if dtype == "mixed_bfloat16":
        return Mixed(rng, times, branches, whole_range, alike)
    return Rounded(dtype, rng, times, branches, whole_range, alike)


def _sum_squares(x: Array, axis: Any) -> Array:
    if x.ndim == 2 and axis == 0:
        by_column: Array = np.einsum("kj,kj->j", x, x)
        return by_column
    squares: Array = np.square(x).sum(axis=axis)
    return squares


def _root_of_squares(x: Array, axis: Any) -> Array:
    """The root of the sum of squares over `axis`, whatever the size of the numbers."""
    largest = np.max(np.abs(x), axis=axis, keepdims=True, initial=0.0)
    largest[(largest == 0) | ~np.isfinite(largest)] = 1.0
    roots: Array = np.sqrt(np.square(x / largest).sum(axis=axis, keepdims=True)) * largest
    return roots


def _squared_terms(left: Array, right: Array) -> Array:
    """The sum over k of (left_ik * right_kj)^2, to the digits of float32, in which a product takes half the time.

    Term by term, for a sum whose every term is zero is exact: no rounding may make it anything else.
    """
    a, largest_a = _relative_squares(left)
    b, largest_b = _relative_squares(right)
    squares: Array = (a @ b) * (largest_a * largest_b) ** 2
    return squares


def _relative_squares(x: Array) -> tuple[Array, np.float64]:
    if isinstance(x, FollowedArray) and x.found is not None:
        found: tuple[Array, np.float64] = x.found
        return found
    return squares_of(plain(x))


def _root_of_squared_terms(left: Array, right: Array) -> Array:
    """The root of the sum over k of (left_ik * right_kj)^2: each row and column over its largest element."""
    rows = np.max(np.abs(left), axis=1, keepdims=True, initial=0.0)
    columns = np.max(np.abs(right), axis=0, keepdims=True, initial=0.0)
    for largest in (rows, columns):
        largest[(largest == 0) | ~np.isfinite(largest)] = 1.0
    roots: Array = np.sqrt(np.square(left / rows) @ np.square(right / columns)) * rows * columns
    return roots
