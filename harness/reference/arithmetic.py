"""Exact and rounding arithmetic for the reference models.

The models are plain NumPy: `c = f * c + i * g`. Which arithmetic they run in is decided by the arrays they are given.
`Exact.array` gives ordinary float64 arrays. `Rounded.array` gives arrays whose every operation is followed by a random
rounding of a narrower dtype (stochastic arithmetic; Parker 1997, "Monte Carlo arithmetic"), so that the spread of many
such runs is the rounding noise of the computation itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import numpy as np

from harness.core.spec import require_choice

Array: TypeAlias = np.ndarray

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half the distance from 1 to the next number, by dtype: the largest relative error of one rounding."""

# Errors in unit roundoffs. Basic operations are correctly rounded; mathematical libraries miss by about one more.
_ELEMENTWISE: dict[np.ufunc, float] = {
    np.add: 1.0,
    np.subtract: 1.0,
    np.multiply: 1.0,
    np.divide: 1.0,
    np.square: 1.0,
    np.sqrt: 1.0,
    np.exp: 2.0,
    np.log: 2.0,
    np.tanh: 2.0,
    np.power: 2.0,
}
# They select, compare or change a sign: no result needs rounding.
_EXACT = {np.maximum, np.minimum, np.negative, np.greater, np.less}
# They only move numbers.
_MOVES = {
    np.concatenate,
    np.empty_like,
    np.expand_dims,
    np.lib.stride_tricks.sliding_window_view,
    np.stack,
    np.zeros_like,
}


def unit_roundoff(dtype: str) -> float:
    """The unit roundoff of `dtype`; raises InputError when it is not in `UNIT_ROUNDOFF`."""
    require_choice(dtype, tuple(UNIT_ROUNDOFF), "reference.dtype")
    return UNIT_ROUNDOFF[dtype]


class Arithmetic(ABC):
    """Decides in which arithmetic a reference model computes."""

    @abstractmethod
    def array(self, values: Any) -> Array:
        """A copy of `values`, any shape, whose operations follow this arithmetic."""


class Exact(Arithmetic):
    """Plain float64. Complex values stay complex, for the complex-step derivative."""

    def array(self, values: Any) -> Array:
        """A copy of `values` in float64, or in complex128 when they are complex."""
        return np.array(values, dtype=np.result_type(values, np.float64), order="C")


class Rounded(Arithmetic):
    """Float64 with every result disturbed by a random rounding of `dtype`.

    With the unit roundoff u and independent draws: an elementwise result is off by a relative u * uniform(-1, 1), twice
    that for exp, log, tanh and powers; a sum S over n terms t_k, or a product with t_k = a_k * b_k, by the rounding of
    a running sum, u * sqrt(n / 18 * (2 * S^2 + sum(t_k^2))) * normal (see `disturb_sum`). Selecting, comparing and
    negating are exact, so a disturbed ReLU takes the other side by itself.

    Args:
        dtype: a key of `UNIT_ROUNDOFF`.
        rng: draws the disturbances; see `noise_generator`.

    Raises:
        InputError: an unknown dtype.
    """

    def __init__(self, dtype: str, rng: np.random.Generator) -> None:
        self.unit_roundoff = unit_roundoff(dtype)
        # Only float16 has so few exponents that values of everyday size meet its smallest number.
        self._spacing = 2.0**-24 if dtype == "float16" else 0.0
        self._rng = rng

    def array(self, values: Any) -> Array:
        """A copy of `values`, which are taken to be exact in the dtype."""
        return self.wrap(np.array(values, dtype=np.float64, order="C"))

    def wrap(self, values: Array) -> RoundedArray:
        """The same memory as an array of this arithmetic."""
        view = values.view(RoundedArray)
        view.arithmetic = self
        return view

    def disturb(self, values: Array, units: float = 1.0) -> None:
        """Multiplies each element by 1 + units * u * uniform(-1, 1), in place; in float16 never below its spacing."""
        relative = self._rng.random(values.shape, dtype=np.float32)
        relative -= np.float32(0.5)
        relative *= np.float32(2 * units * self.unit_roundoff)
        values += values * relative
        if self._spacing:
            values += units * self._spacing * (self._rng.random(values.shape) - 0.5)

    def disturb_sum(self, values: Array, terms: int, squares: Array) -> None:
        """Adds the rounding of a running sum, in place.

        Each of the n partial sums S_k is off by a relative u * uniform(-1, 1), of variance u^2 / 3. A random walk that
        ends at S has sum(S_k^2) = n * (2 * S^2 + sum(t_k^2)) / 6 in the mean. So terms of one sign, whose partial sums
        grow all the way, count for more than terms that cancel. Libraries that sum in blocks stay below this.

        Args:
            values: the sums S.
            terms: their number of terms n.
            squares: the sum of the squared terms t_k of each.
        """
        relative = self._rng.standard_normal(values.shape, dtype=np.float32)
        variance = terms / 18 * self.unit_roundoff**2 * (2 * np.square(values) + squares)
        # A uniform error over one spacing has variance 1/12.
        values += np.sqrt(variance + terms / 12 * self._spacing**2) * relative


def noise_generator(*seed: int) -> np.random.Generator:
    """The fastest generator in NumPy; one or more whole numbers as its seed."""
    return np.random.Generator(np.random.SFC64(seed))


class RoundedArray(np.ndarray):
    """An array of a `Rounded` arithmetic. Slices, views and copies of it stay in that arithmetic.

    An operation without a rounding rule is refused, because it would pass as exact.
    """

    arithmetic: Rounded

    def __array_finalize__(self, parent: Any) -> None:
        if isinstance(parent, RoundedArray):
            self.arithmetic = parent.arithmetic

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arithmetic = next(x.arithmetic for x in (*inputs, *kwargs.get("out", ())) if isinstance(x, RoundedArray))
        plain = _plain(inputs)
        if "out" in kwargs:
            kwargs["out"] = tuple(_plain(kwargs["out"]))
        result = np.asarray(getattr(ufunc, method)(*plain, **kwargs))
        if ufunc is np.matmul and method == "__call__":
            left, right = plain
            arithmetic.disturb_sum(result, left.shape[-1], np.square(left) @ np.square(right))
        elif ufunc is np.add and method == "reduce":
            options = {name: kwargs[name] for name in ("axis", "keepdims") if name in kwargs}
            arithmetic.disturb_sum(result, plain[0].size // result.size, np.add.reduce(np.square(plain[0]), **options))
        elif ufunc in _ELEMENTWISE and method == "__call__":
            if not any(getattr(x, "dtype", None) == np.bool_ for x in plain):  # a mask selects, it does not round
                arithmetic.disturb(result, _ELEMENTWISE[ufunc])
        elif ufunc not in _EXACT:
            raise TypeError(f"numpy.{ufunc.__name__} ({method}) has no rounding rule")
        return arithmetic.wrap(result)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func not in _MOVES:
            raise TypeError(f"{func.__module__}.{func.__name__} has no rounding rule")
        return self.arithmetic.wrap(func(*_plain(args), **kwargs))

    def dot(self, *_: Any, **__: Any) -> Any:
        """Refused: NumPy would compute it without rounding. Use `@`."""
        raise TypeError("numpy.ndarray.dot has no rounding rule")


def _plain(value: Any) -> Any:
    """The same memory as an ordinary array, also inside lists and tuples; anything else unchanged."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.view(np.ndarray) if isinstance(value, RoundedArray) else value
