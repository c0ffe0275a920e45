"""Arrays whose every operation is seen by their arithmetic, and the arithmetic that only looks on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from faceoff.reference.arithmetic import Arithmetic, Array
from faceoff.reference.branches import Branches

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

BLOCK = 2**14
"""Elements that are looked at or disturbed at a time, so that all of it stays in the processor's cache."""


class Product(Protocol):
    """What an arithmetic makes of one matrix product, which may be made in pieces."""

    def add(self, left: Array, right: Array) -> None:
        """Takes note of left @ right, `(m, k) @ (k, n)`, as one piece of the sum."""

    def finish(self, total: Array) -> None:
        """Rounds the sum of all pieces, `(m, n)`, in place."""


class Following(Arithmetic):
    """An arithmetic that sees each operation's result.

    Args:
        branches: which way ReLUs go.
    """

    def __init__(self, branches: Branches | None = None) -> None:
        self.branches = branches or Branches()

    def array(self, values: Any) -> Array:
        """A copy of `values`, which are taken to be exact in the dtype."""
        return self.wrap(np.array(values, dtype=np.float64, order="C"))

    def wrap(self, values: Array) -> FollowedArray:
        """The same memory as an array of this arithmetic."""
        view = values.view(FollowedArray)
        view.arithmetic = self
        return view

    def begin(self, part: str) -> None:
        """Says which part of a computation comes now."""
        self.branches.begin(part)

    @abstractmethod
    def elementwise(self, values: Array, units: float) -> None:
        """Rounds the results of an elementwise operation, in place; its error is `units` unit roundoffs."""

    def accumulated(self, values: Array, start: Array, terms: int) -> None:
        """Rounds what comes of adding a product to `start`, in place, beyond the two operations themselves.

        Args:
            values: the results.
            start: what was there, such as a bias; it broadcasts to the results.
            terms: of each of the product's sums.
        """
        return

    @abstractmethod
    def summed(self, sums: Array, terms: Array, axis: Any) -> None:
        """Rounds sums of `terms` over `axis`, in place; the summed axes may be kept as length 1."""

    @abstractmethod
    def product(self, short: bool) -> Product:
        """For one matrix product.

        Args:
            short: one of very many, whose terms are as many as a layer has units.
        """


class Observed(Following):
    """Exact float64 that notes the smallest and the largest size of what occurs, zeros aside, and the ReLUs' sides."""

    def __init__(self, branches: Branches | None = None) -> None:
        super().__init__(branches)
        self.smallest, self.largest = np.inf, 0.0

    def elementwise(self, values: Array, units: float) -> None:
        """Takes note of `values`."""
        for (part,) in blocks(values):
            size = np.abs(part)
            self.largest = max(self.largest, float(np.max(size, initial=0.0)))
            size[size == 0] = np.inf
            self.smallest = min(self.smallest, float(np.min(size, initial=np.inf)))

    def summed(self, sums: Array, terms: Array, axis: Any) -> None:
        """Takes note of the sums."""
        self.elementwise(sums, 1.0)

    def product(self, short: bool) -> Product:
        """Takes note of its result."""
        return _ObservedProduct(self)


class _ObservedProduct:
    def __init__(self, arithmetic: Observed) -> None:
        self._arithmetic = arithmetic

    def add(self, left: Array, right: Array) -> None:
        return

    def finish(self, total: Array) -> None:
        self._arithmetic.elementwise(total, 1.0)


class FollowedArray(np.ndarray):
    """An array of a `Following` arithmetic. Slices, views and copies of it stay in that arithmetic.

    An operation without a rounding rule is refused, because it would pass as exact.
    """

    arithmetic: Following
    # Of `for_many_products` alone, what its arithmetic found of it once; slices and views have none.
    found: Any = None
    # Of a matrix product alone, the terms of each of its sums; slices and views have none.
    terms: int = 0

    def __array_finalize__(self, parent: Any) -> None:
        if isinstance(parent, FollowedArray):
            self.arithmetic = parent.arithmetic

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arithmetic = self.arithmetic
        operands = [x.view(np.ndarray) if isinstance(x, FollowedArray) else x for x in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(plain(kwargs["out"]))
        if ufunc is np.maximum and method == "__call__" and not isinstance(operands[1], np.ndarray):
            return arithmetic.wrap(arithmetic.branches.rectify(operands[0]))
        call = ufunc if method == "__call__" else getattr(ufunc, method)
        result = np.asarray(call(*operands, **kwargs))
        if ufunc is np.matmul and method == "__call__":
            product = arithmetic.product(short=any(getattr(x, "found", None) is not None for x in inputs))
            product.add(*inputs)
            product.finish(result)
            made = arithmetic.wrap(result)
            made.terms = operands[0].shape[-1]
            return made
        if ufunc is np.add and method == "reduce":
            arithmetic.summed(result, operands[0], kwargs.get("axis", 0))
        elif ufunc in _ELEMENTWISE and method == "__call__":
            if not any(getattr(x, "dtype", None) == np.bool_ for x in operands):  # a mask selects, it does not round
                arithmetic.elementwise(result, _ELEMENTWISE[ufunc])
                for at in (0, 1) if ufunc is np.add else ():
                    if terms := getattr(inputs[at], "terms", 0):
                        arithmetic.accumulated(result, operands[1 - at], terms)
        elif ufunc not in _EXACT:
            raise TypeError(f"numpy.{ufunc.__name__} ({method}) has no rounding rule")
        return arithmetic.wrap(result)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func not in _MOVES:
            raise TypeError(f"{func.__module__}.{func.__name__} has no rounding rule")
        return self.arithmetic.wrap(func(*plain(args), **kwargs))

    def dot(self, *_: Any, **__: Any) -> Any:
        """Refused: NumPy would compute it without rounding. Use `@`."""
        raise TypeError("numpy.ndarray.dot has no rounding rule")


def for_many_products(matrix: Array) -> Array:
    """The same matrix, read-only, with what the rounding of its products takes found once, not in every time step."""
    if isinstance(matrix, FollowedArray):
        matrix = matrix.arithmetic.wrap(plain(matrix))
        matrix.found = relative_squares(plain(matrix))
        matrix.flags.writeable = False
    return matrix


def sum_of_products(pairs: Iterable[tuple[Array, Array]]) -> Array:
    """The sum of left @ right over all pairs, rounded as one product of all lefts side by side with all rights.

    So a long product is made in pieces that stay in the processor's cache.
    """
    total: Array | None = None
    product: Product | None = None
    arithmetic: Following | None = None
    for left, right in pairs:
        piece = plain(left) @ plain(right)
        total = piece if total is None else total + piece
        if isinstance(left, FollowedArray):
            if product is None:
                arithmetic = left.arithmetic
                product = arithmetic.product(short=False)
            product.add(left, right)
    if total is None:
        raise ValueError("no product to sum")
    if product is None or arithmetic is None:
        return total
    product.finish(total)
    return arithmetic.wrap(total)


def relative_squares(x: Array) -> tuple[Array, np.float64]:
    """The squares of `x` over its largest element, in float32, whose range they might leave otherwise; and that one."""
    largest = np.float64(np.max(np.abs(x), initial=0.0)) or np.float64(1.0)
    relative = np.divide(x, largest, dtype=np.float64).astype(np.float32)
    return np.square(relative, out=relative), largest


def plain(value: Any) -> Any:
    """The same memory as an ordinary array, also inside lists and tuples; anything else unchanged."""
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value.view(np.ndarray) if isinstance(value, FollowedArray) else value


def blocks(values: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """Flat views of at most `BLOCK` elements that together are all of `values`, with the same elements of `others`."""
    contiguous = values.flags.c_contiguous
    if contiguous and values.size <= BLOCK:
        yield (values.reshape(-1), *(other.reshape(-1) for other in others))
        return
    if not contiguous:
        order = np.argsort([-stride for stride in values.strides], kind="stable")
        values, others = values.transpose(order), tuple(other.transpose(order) for other in others)
    if not values.flags.c_contiguous:
        # Something is left out between the elements, as in a slice.
        copy = np.ascontiguousarray(values)
        yield from blocks(copy, *others)
        values[...] = copy
        return
    flat = [array.reshape(-1) for array in (values, *others)]
    for begin in range(0, values.size, BLOCK):
        yield tuple(array[begin : begin + BLOCK] for array in flat)
