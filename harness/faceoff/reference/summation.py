"""What a plain running sum is off by: the floor of a sum's noise.

Roundings of a sum are random where its terms are. Equal terms round alike, so that the error of a running sum of n of
them grows like n, not like its root: bias gradients, batch-norm statistics and means over blank pictures, padding and
saturated units. How far is found by making such sums, in float32; another dtype is off by as many of its roundings.

Terms may differ and round alike all the same, if their last bits are alike. In float64 those of weights are that were
exact in float32 and then moved by one step, as all weights of a constant input are. Float32 knows nothing of such bits,
so there sums are made in float64 too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from faceoff.reference.arithmetic import Array

# Elements of a matrix product that are summed again, and the fewest terms for which that is worth it.
SAMPLES = 16
FEWEST_TERMS = 32


def wide_sum_errors(terms: Array, axis: Any) -> Array:
    """How far running sums over `axis`, in the order of memory, are off in float64; absolute, without the summed axes.

    Zero where no wider numbers are at hand, as on some processors.
    """
    rows = _as_rows(terms, axis)
    if len(rows) < FEWEST_TERMS or not np.all(np.isfinite(rows)):
        return np.zeros(rows.shape[1])
    running = np.add.reduce(rows, axis=0) if rows.shape[1] > 1 else np.add.accumulate(rows[:, 0])[-1:]
    errors: Array = np.abs(running - np.add.reduce(rows, axis=0, dtype=np.longdouble)).astype(np.float64)
    return errors


def naive_sum_errors(terms: Array, axis: Any, rng: np.random.Generator) -> Array:
    """How far running sums over `axis`, in the order of memory, are off in float32; absolute, without the summed axes.

    How equal terms round depends on where they stand between two powers of two, so all are made larger by a factor that
    is drawn anew.

    Args:
        terms: float64, any shape.
        axis: one or several.
        rng: draws the factor.
    """
    rows = _as_rows(terms, axis)
    largest = float(np.max(np.abs(rows), initial=0.0))
    if len(rows) < FEWEST_TERMS or largest == 0 or not np.isfinite(largest):
        return np.zeros(rows.shape[1])
    scale = rng.uniform(1, 2) / largest
    narrow = (rows * scale).astype(np.float32)
    # Several sums side by side are running ones in NumPy; of one alone it makes many short ones.
    running = np.add.reduce(narrow, axis=0) if rows.shape[1] > 1 else np.add.accumulate(narrow[:, 0])[-1:]
    errors: Array = np.abs(running - np.add.reduce(narrow, axis=0, dtype=np.float64)) / scale
    return errors


def stalled_sum_errors(terms: Array, axis: Any, unit_roundoff: float) -> Array:
    """How far running sums that are held in a narrow dtype are off; as `naive_sum_errors` otherwise.

    A sum that has outgrown its terms by the digits of the dtype moves no more, whatever is still to come: that error
    is larger than any that grows with the roundoff.

    Args:
        terms: float64, any shape.
        axis: one or several.
        unit_roundoff: of the dtype, 2^-8 or 2^-11.
    """
    rows = _as_rows(terms, axis)
    running = np.zeros(rows.shape[1])
    if len(rows) < FEWEST_TERMS or not np.all(np.isfinite(rows)):
        return running
    for row in rows:
        running += row
        # To the nearest number of the dtype: its digits end at the unit roundoff of its mantissa.
        mantissa, exponent = np.frexp(running)
        running = np.ldexp(np.round(mantissa / unit_roundoff) * unit_roundoff, exponent)
    errors: Array = np.abs(running - rows.sum(axis=0))
    return errors


def _as_rows(terms: Array, axis: Any) -> Array:
    """`(terms of a sum, sums)`, in the order of memory."""
    axes = range(terms.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    summed = [number % terms.ndim for number in axes]
    kept = [number for number in range(terms.ndim) if number not in summed]
    count = int(np.prod([terms.shape[number] for number in summed]))
    # Laid out anew: over the axis that lies together in memory NumPy sums in pairs, which errs far less.
    rows: Array = np.ascontiguousarray(terms.transpose(summed + kept).reshape(count, -1))
    return rows


class NaiveProduct:
    """Running sums of a few elements of a matrix product that is made in pieces, drawn at random.

    Args:
        rng: draws them.
        dtype: of the sums, float32 or float64. In float32 terms are made larger by a factor that is drawn; in float64
            they are as they are, for their last bits' sake.
    """

    def __init__(self, rng: np.random.Generator, dtype: type[np.floating[Any]] = np.float32) -> None:
        self._rng, self._dtype = rng, dtype
        self._exactly = np.float64 if dtype is np.float32 else np.longdouble
        self._terms = 0
        self.places: tuple[Array, Array] = (np.array([], dtype=int), np.array([], dtype=int))
        self._scale: Array = np.array([])
        self._running: Array = np.array([], dtype=dtype)
        self._exact: Array = np.array([])

    def add(self, left: Array, right: Array) -> None:
        """One more piece, `(m, k) @ (k, n)`."""
        if not self._terms:
            if left.shape[1] < FEWEST_TERMS:
                return
            rows, columns = (self._rng.integers(size, size=SAMPLES) for size in (left.shape[0], right.shape[1]))
            self.places = rows, columns
        elif not len(self.places[0]):
            return
        terms = left[self.places[0]] * right[:, self.places[1]].T
        if not self._terms:
            self._scale = np.ones(SAMPLES) if self._dtype is np.float64 else self._drawn_scale(terms)
            self._running = np.zeros(SAMPLES, dtype=self._dtype)
            self._exact = np.zeros(SAMPLES, dtype=self._exactly)
        self._terms += left.shape[1]
        narrow = (terms * self._scale[:, np.newaxis]).astype(self._dtype)
        begun = np.concatenate([self._running[:, np.newaxis], narrow], axis=1)
        self._running = np.add.accumulate(begun, axis=1)[:, -1]
        self._exact = self._exact + narrow.sum(axis=1, dtype=self._exactly)

    def _drawn_scale(self, terms: Array) -> Array:
        largest = np.max(np.abs(terms), axis=1)
        largest[(largest == 0) | ~np.isfinite(largest)] = 1.0
        scale: Array = self._rng.uniform(1, 2, SAMPLES) / largest
        return scale

    def errors(self) -> Array:
        """How far each running sum is off, absolute; one for each of `places`."""
        if not len(self._scale):
            return np.array([])
        errors: Array = (np.abs(self._running - self._exact) / self._scale).astype(np.float64)
        return errors
