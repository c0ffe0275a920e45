"""Exact and rounding arithmetic for the reference models.

The models are plain NumPy: `c = f * c + i * g`. Which arithmetic they run in is decided by the arrays they are given.
`Exact.array` gives ordinary float64 arrays. `Rounded.array` gives arrays whose every operation is followed by a random
rounding of a narrower dtype (stochastic arithmetic; Parker 1997, "Monte Carlo arithmetic"), so that the spread of many
such runs is the rounding noise of the computation itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from harness.core.precision import storage_dtype
from harness.core.spec import require_choice

Array: TypeAlias = np.ndarray

UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "tf32": 2.0**-11,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "mixed_bfloat16": 2.0**-8,
}
"""Half the distance from 1 to the next number, by dtype: the largest relative error of one rounding.

Of `tf32` that of a product's operands, of `mixed_bfloat16` that of what is computed; both hold weights in float32.
"""

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

    def narrow(self, values: Array) -> Array:
        """Weights or inputs as they enter a pass; rounded where that is computed in a narrower dtype."""
        return values

    def widen(self, values: Array) -> Array:
        """What a pass has found, in the arithmetic of the weights."""
        return values


class Exact(Arithmetic):
    """Plain float64. Complex values stay complex, for the complex-step derivative."""

    def array(self, values: Any) -> Array:
        """A copy of `values` in float64, or in complex128 when they are complex."""
        return np.array(values, dtype=np.result_type(values, np.float64), order="C")


class Rounded(Arithmetic):
    """Float64 with every result disturbed by a random rounding of `dtype`.

    With the unit roundoff u and independent draws: an elementwise result is off by a relative u * uniform(-1, 1), twice
    that for exp, log, tanh and powers; a sum S over n terms t_k, or a product with t_k = a_k * b_k, by the rounding of
    a running sum, of variance u^2 * n / 18 * (2 * S^2 + sum(t_k^2)) (see `disturb_sum`). Selecting, comparing and
    negating are exact, so a disturbed ReLU takes the other side by itself.

    Args:
        dtype: a key of `UNIT_ROUNDOFF`; mixed precision has two of these (`Mixed`).
        rng: draws the disturbances; see `noise_generator`.
        times: how many times as large as a rounding they are.

    Raises:
        InputError: an unknown dtype.
    """

    def __init__(self, dtype: str, rng: np.random.Generator, times: float = 1.0) -> None:
        require_choice(dtype, tuple(name for name in UNIT_ROUNDOFF if name != "mixed_bfloat16"), "reference.dtype")
        self.unit_roundoff = unit_roundoff(storage_dtype(dtype)) * times
        # Of both operands of a product, before they are multiplied.
        self._operands = unit_roundoff(dtype) * times if dtype == "tf32" else 0.0
        # Only float16 has so few exponents that values of everyday size meet its smallest number.
        self._spacing = 2.0**-24 if dtype == "float16" else 0.0
        self._draws = Draws(rng, self.unit_roundoff)
        self._shift, self._draw = np.empty(_BLOCK), np.empty(_BLOCK)

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
        for (part,) in _blocks(values):
            shift = np.multiply(part, self._draws.take(part.size), out=self._shift[: part.size])
            if units != 1:
                shift *= units
            part += shift
            if self._spacing:
                part += self._draws.take(part.size) * (units * self._spacing / 2 / self.unit_roundoff)

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
        # The sum of two draws is bell-shaped enough: the sums that follow make it normal. Its variance is 2/3 ...
        variance = terms / 18 * 3 / 2
        # ... and a uniform error over one spacing has 1/12.
        floor = terms / 12 * 3 / 2 * (self._spacing / self.unit_roundoff) ** 2
        for part, square in _blocks(values, squares):
            shift = np.square(part, out=self._shift[: part.size])
            shift += shift
            shift += square
            shift *= variance
            if floor:
                shift += floor
            np.sqrt(shift, out=shift)
            first, second = self._draws.take(part.size), self._draws.take(part.size)
            shift *= np.add(first, second, out=self._draw[: part.size])
            part += shift

    def disturb_product(self, values: Array, terms: int, squares: Array) -> None:
        """As `disturb_sum`, and where operands are rounded before they meet, by that too, in place.

        Each term t_k is then off by two relative u * uniform(-1, 1), so the sum by a variance of 2/3 u^2 sum(t_k^2).
        """
        self.disturb_sum(values, terms, squares)
        if self._operands:
            for part, square in _blocks(values, squares):
                # The sum of two draws has the variance 2/3.
                draws = self._draws.take(part.size) + self._draws.take(part.size)
                part += np.sqrt(square) * draws * (self._operands / self.unit_roundoff)


class Mixed(Arithmetic):
    """Weights and their updates in float32, passes in bfloat16: the noise of mixed precision.

    Args:
        rng: draws the disturbances.
        times: how many times as large as a rounding they are.
    """

    def __init__(self, rng: np.random.Generator, times: float = 1.0) -> None:
        self._wide, self._narrow = Rounded("float32", rng, times), Rounded("bfloat16", rng, times)

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


def stochastic(dtype: str, rng: np.random.Generator, times: float = 1.0) -> Arithmetic:
    """The arithmetic whose spread is the rounding noise of a precision policy (see `Rounded`)."""
    return Mixed(rng, times) if dtype == "mixed_bfloat16" else Rounded(dtype, rng, times)


_BLOCK = 2**14
"""Elements that are disturbed at a time, so that all of it stays in the processor's cache."""


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
        self._ring = np.concatenate([half, -half, half[:_BLOCK]])
        self._rng = rng
        self._places: list[int] = []

    def take(self, count: int) -> Array:
        """`count` draws, at most `_BLOCK`, not to be written to."""
        if not self._places:
            self._places = self._rng.integers(self.SIZE, size=1024).tolist()
        place = self._places.pop()
        return self._ring[place : place + count]


def _blocks(values: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """Flat views of at most `_BLOCK` elements that together are all of `values`, with the same elements of `others`."""
    contiguous = values.flags.c_contiguous
    if contiguous and values.size <= _BLOCK:
        yield (values.reshape(-1), *(other.reshape(-1) for other in others))
        return
    if not contiguous:
        order = np.argsort([-stride for stride in values.strides], kind="stable")
        values, others = values.transpose(order), tuple(other.transpose(order) for other in others)
    if not values.flags.c_contiguous:
        # Something is left out between the elements, as in a slice.
        copy = np.ascontiguousarray(values)
        yield from _blocks(copy, *others)
        values[...] = copy
        return
    flat = [array.reshape(-1) for array in (values, *others)]
    for begin in range(0, values.size, _BLOCK):
        yield tuple(array[begin : begin + _BLOCK] for array in flat)


def noise_generator(*seed: int) -> np.random.Generator:
    """The fastest generator in NumPy; one or more whole numbers as its seed."""
    return np.random.Generator(np.random.SFC64(seed))


class RoundedArray(np.ndarray):
    """An array of a `Rounded` arithmetic. Slices, views and copies of it stay in that arithmetic.

    An operation without a rounding rule is refused, because it would pass as exact.
    """

    arithmetic: Rounded
    # Of `for_many_products` alone; slices and views have none.
    squares: tuple[Array, np.float64] | None = None

    def __array_finalize__(self, parent: Any) -> None:
        if isinstance(parent, RoundedArray):
            self.arithmetic = parent.arithmetic

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arithmetic = self.arithmetic
        plain = [x.view(np.ndarray) if isinstance(x, RoundedArray) else x for x in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(_plain(kwargs["out"]))
        call = ufunc if method == "__call__" else getattr(ufunc, method)
        result = np.asarray(call(*plain, **kwargs))
        if ufunc is np.matmul and method == "__call__":
            arithmetic.disturb_product(result, plain[0].shape[-1], _squared_terms(*inputs))
        elif ufunc is np.add and method == "reduce":
            arithmetic.disturb_sum(result, plain[0].size // result.size, _sum_squares(plain[0], **kwargs))
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


def for_many_products(matrix: Array) -> Array:
    """The same matrix, read-only, with what the rounding of its products takes found once, not in every time step."""
    if isinstance(matrix, RoundedArray):
        matrix = matrix.arithmetic.wrap(_plain(matrix))
        matrix.squares = _relative_squares(matrix)
        matrix.flags.writeable = False
    return matrix


def sum_of_products(pairs: Iterable[tuple[Array, Array]]) -> Array:
    """The sum of left @ right over all pairs, rounded as one product of all lefts side by side with all rights.

    So a long product is made in pieces that stay in the processor's cache.
    """
    total: Array | None = None
    squares: Array = np.zeros(())
    terms = 0
    arithmetic: Rounded | None = None
    for left, right in pairs:
        a, b = _plain(left), _plain(right)
        total = a @ b if total is None else total + a @ b
        if isinstance(left, RoundedArray):
            arithmetic = left.arithmetic
            squares = squares + _squared_terms(a, b)
            terms += a.shape[-1]
    if total is None:
        raise ValueError("no product to sum")
    if arithmetic is None:
        return total
    arithmetic.disturb_product(total, terms, squares)
    return arithmetic.wrap(total)


def _sum_squares(x: Array, axis: Any = 0, keepdims: bool = False, **_: Any) -> Array:
    """As `np.add.reduce(np.square(x))`, with its options."""
    if x.ndim == 2 and axis == 0 and not keepdims:
        by_column: Array = np.einsum("kj,kj->j", x, x)
        return by_column
    squares: Array = np.square(x).sum(axis=axis, keepdims=keepdims)
    return squares


def _squared_terms(left: Array, right: Array) -> Array:
    """The sum over k of (left_ik * right_kj)^2, to the digits of float32, in which a product takes half the time.

    Term by term, for a sum whose every term is zero is exact: no rounding may make it anything else.
    """
    a, largest_a = _relative_squares(left)
    b, largest_b = _relative_squares(right)
    squares: Array = (a @ b) * (largest_a * largest_b) ** 2
    return squares


def _relative_squares(x: Array) -> tuple[Array, np.float64]:
    """The squares of `x` over its largest element, in float32, whose range they might leave otherwise; and that one."""
    if isinstance(x, RoundedArray):
        if x.squares is not None:
            return x.squares
        x = _plain(x)
    largest = np.float64(np.max(np.abs(x), initial=0.0)) or np.float64(1.0)
    relative = np.divide(x, largest, dtype=np.float64).astype(np.float32)
    return np.square(relative, out=relative), largest


def _plain(value: Any) -> Any:
    """The same memory as an ordinary array, also inside lists and tuples; anything else unchanged."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.view(np.ndarray) if isinstance(value, RoundedArray) else value
