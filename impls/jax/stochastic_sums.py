"""Sums inside a JAX program: their totals, and what the rounding of these depends on.

A product is the sum of its terms; so are a convolution, a pooling window, and what a scatter adds up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .stochastic_rounding import FEWEST_TERMS, Array, Grain, Rounding, Sum

Parameters = dict[str, Any]
Bind = Callable[..., Array]
"""Runs JAX's own kernel of an operation on other operands of the same shapes."""

# Elements of a product that are summed again, one by one.
SAMPLES = 16


def relative(values: Array, axis: int | None = None) -> tuple[Array, Any]:
    """Values over a power of two near their largest, so that their squares stay in any range; and that power.

    Args:
        values: any shape.
        axis: which has a largest for each of the others; None: one for all.

    Returns:
        The same shape; a number, or an array with `axis` kept.
    """
    size = np.abs(values)
    largest = np.max(size, axis=axis, keepdims=axis is not None, initial=0.0)
    if not np.isfinite(largest).all():
        values = np.where(np.isfinite(values), values, 0.0)
        largest = np.max(np.abs(values), axis=axis, keepdims=axis is not None, initial=0.0)
    exponent = np.frexp(largest)[1]
    return np.asarray(np.ldexp(values, -exponent)), np.ldexp(1.0, exponent)


def squares_of(values: Array, axis: int | None = None) -> tuple[Array, Any]:
    """The squares of `relative` values in float32, in which a product takes half the time; and the scale."""
    scaled, scale = relative(values, axis)
    narrow = scaled.astype(np.float32)
    return np.square(narrow, out=narrow), scale


def excess(of: Sum, terms: Array, totals: Array, roots: Array, rng: np.random.Generator) -> float:
    """How many times as far plain running sums in float32 are off as random roundings would be, but at least 1.

    Args:
        of: the sums that these are samples of.
        terms: `(samples, n)`.
        totals, roots: of the samples.
        rng: draws where the terms stand between two powers of two, on which the rounding of equal ones depends.
    """
    errors = _running_errors(terms.T, rng)
    expected = np.sqrt(terms.shape[1] / 18) * np.hypot(np.sqrt(2.0) * totals, roots) * 2.0**-24
    known = expected > 0
    ratios = errors[known] / expected[known]
    return max(1.0, float(np.sqrt(np.mean(np.square(ratios))))) if ratios.size else 1.0


def _running_errors(rows: Array, rng: np.random.Generator) -> Array:
    """How far running sums over the first axis of `(n, sums)` are off in float32, absolute."""
    largest = np.max(np.abs(rows), axis=0, initial=0.0)
    largest[(largest == 0) | ~np.isfinite(largest)] = 1.0
    scale = rng.uniform(1, 2) / largest
    narrow = (rows * scale).astype(np.float32)
    # Several sums side by side are running ones in NumPy; of one alone it makes many short ones.
    running = np.add.reduce(narrow, axis=0) if rows.shape[1] > 1 else np.add.accumulate(narrow[:, 0])[-1:]
    errors: Array = np.abs(running - np.add.reduce(narrow, axis=0, dtype=np.float64)) / scale
    return errors


def product(rounding: Rounding, p: Parameters, bind: Bind, left: Array, right: Array) -> Sum:
    """`dot_general`: batch dimensions first, then what is left of either side."""
    (left_summed, right_summed), (left_batch, right_batch) = p["dimension_numbers"]
    a, left_free = _matrices(left, left_batch, left_summed, summed_last=True)
    b, right_free = _matrices(right, right_batch, right_summed, summed_last=False)
    shape = [*(left.shape[axis] for axis in left_batch), *left_free, *right_free]
    totals = a @ b
    count = a.shape[-1]
    if not rounding.times:
        return Sum(totals.reshape(shape), totals.reshape(shape), count)
    (a_squares, a_scale), (b_squares, b_scale) = squares_of(a, axis=2), squares_of(b, axis=1)
    roots = np.sqrt(a_squares @ b_squares).astype(np.float64) * a_scale * b_scale
    found = Sum(totals.reshape(shape), roots.reshape(shape), count)
    if count >= FEWEST_TERMS and totals.size:
        places = tuple(rounding.rng.integers(size, size=SAMPLES) for size in totals.shape)
        terms = a[places[0], places[1]] * b[places[0], :, places[2]]
        found.factor = excess(found, terms, totals[places], roots[places], rounding.rng)
    return found


def _matrices(x: Array, batch: Sequence[int], summed: Sequence[int], summed_last: bool) -> tuple[Array, list[int]]:
    """`(batch, free, summed)` or `(batch, summed, free)`, and the sizes of the free axes."""
    free = [axis for axis in range(x.ndim) if axis not in batch and axis not in summed]
    order = [*batch, *free, *summed] if summed_last else [*batch, *summed, *free]
    sizes = [math.prod(x.shape[axis] for axis in axes) for axes in (batch, free, summed)]
    rows = (sizes[0], sizes[1], sizes[2]) if summed_last else (sizes[0], sizes[2], sizes[1])
    return np.ascontiguousarray(x.transpose(order)).reshape(rows), [x.shape[axis] for axis in free]


def reduction(rounding: Rounding, p: Parameters, bind: Bind, x: Array) -> Sum:
    """`reduce_sum`."""
    axes = tuple(int(axis) for axis in p["axes"])
    totals = np.asarray(x.sum(axis=axes))
    if not rounding.times or not axes:
        return Sum(totals, np.abs(totals), 1, single=False)
    scaled, scale = relative(x)
    roots = np.asarray(np.sqrt(np.square(scaled).sum(axis=axes)) * scale)
    count = math.prod(x.shape[axis] for axis in axes)
    found = Sum(totals, roots, count, single=False)
    if count >= FEWEST_TERMS and totals.size:
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        rows = x.transpose([*axes, *kept]).reshape(count, -1)
        found.least = _running_errors(rows, rounding.rng).reshape(totals.shape)
    return found


def convolution(rounding: Rounding, p: Parameters, bind: Bind, left: Array, right: Array) -> Sum:
    """`conv_general_dilated` of any number of dimensions, grouped, strided and dilated on either side."""
    totals = bind(left, right)
    if not rounding.times:
        return Sum(totals, totals, 1)
    window = _Window(p, left, right, totals.shape)
    (a, a_scale), (b, b_scale) = squares_of(left), squares_of(right)
    roots = np.sqrt(np.maximum(bind(a, b), 0)).astype(np.float64) * a_scale * b_scale
    found = Sum(totals, roots, window.counts())
    if window.most_terms >= FEWEST_TERMS and totals.size:
        places = [rounding.rng.integers(size, size=SAMPLES) for size in totals.shape]
        terms = [window.terms([int(place[sample]) for place in places]) for sample in range(SAMPLES)]
        rows = np.zeros((SAMPLES, window.most_terms))
        for row, some in zip(rows, terms, strict=True):
            row[: some.size] = some
        at = tuple(places)
        found.factor = excess(found, rows, totals[at], roots[at], rounding.rng)
    return found


class _Window:
    """Which products each element of a convolution's result is the sum of.

    Args:
        p: of `conv_general_dilated`.
        left, right: operands.
        shape: of the result.
    """

    def __init__(self, p: Parameters, left: Array, right: Array, shape: tuple[int, ...]) -> None:
        of_left, of_right, self._of_result = p["dimension_numbers"]
        self._left, self._right = left.transpose(of_left), right.transpose(of_right)
        self._shape = [shape[axis] for axis in self._of_result]
        self._groups, self._batches = p["feature_group_count"], p["batch_group_count"]
        self._reach = [
            met(length, size, count, stride, padding[0], dilation, spread)
            for length, size, count, stride, padding, dilation, spread in zip(
                self._left.shape[2:], self._right.shape[2:], self._shape[2:], p["window_strides"], p["padding"],
                p["lhs_dilation"], p["rhs_dilation"], strict=True,
            )
        ]  # fmt: skip
        self.most_terms = math.prod(self._right.shape[1:])

    def counts(self) -> Array:
        """The number of terms of each element, in the layout of the result; products with padding are none."""
        found = np.full([1, 1, *self._shape[2:]], float(self._right.shape[1]))
        for axis, places in enumerate(self._reach):
            of_axis = (places >= 0).sum(axis=1)
            found *= of_axis.reshape([-1 if number == axis + 2 else 1 for number in range(found.ndim)])
        return np.broadcast_to(found, self._shape).transpose(np.argsort(self._of_result))

    def terms(self, place: Sequence[int]) -> Array:
        """The products that one element of the result is the sum of."""
        batch, feature, *where = (place[axis] for axis in self._of_result)
        features, inner = self._right.shape[:2]
        channel = feature // (features // self._groups) * inner
        batch += feature // (features // self._batches) * self._shape[0]
        rows = [places[at] for places, at in zip(self._reach, where, strict=True)]
        met = np.ix_(range(channel, channel + inner), *(row[row >= 0] for row in rows))
        kernel = np.ix_(range(inner), *(np.flatnonzero(row >= 0) for row in rows))
        found: Array = (self._left[batch][met] * self._right[feature][kernel]).reshape(-1)
        return found


def met(length: int, size: int, count: int, stride: int, before: int, dilation: int, spread: int) -> Array:
    """Where along one axis each element of a window lies in the operand; -1 for padding and the gaps of a dilation.

    Args:
        length: of the operand.
        size: of the window.
        count: of windows.
        stride: between windows.
        before: padding, may be negative.
        dilation: of the operand.
        spread: of the window.

    Returns:
        `(count, size)`.
    """
    places = np.arange(count)[:, np.newaxis] * stride - before + np.arange(size) * spread
    inside = (places >= 0) & (places <= (length - 1) * dilation) & (places % dilation == 0)
    return np.where(inside, places // dilation, -1)


def pooling(rounding: Rounding, p: Parameters, bind: Bind, x: Array) -> Sum:
    """`reduce_window_sum`."""
    totals = bind(x)
    if not rounding.times:
        return Sum(totals, totals, 1)
    squares, scale = squares_of(x)
    counts = np.ones([1] * x.ndim)
    for axis in range(x.ndim):
        places = met(
            x.shape[axis], p["window_dimensions"][axis], totals.shape[axis], p["window_strides"][axis],
            p["padding"][axis][0], p["base_dilation"][axis], p["window_dilation"][axis],
        )  # fmt: skip
        of_axis = (places >= 0).sum(axis=1)
        counts = counts * of_axis.reshape([-1 if number == axis else 1 for number in range(x.ndim)])
    found = Sum(totals, np.sqrt(bind(squares)).astype(np.float64) * scale, counts, single=False)
    if np.max(counts, initial=0.0) >= FEWEST_TERMS:
        found.least = _kernel_errors(rounding, bind, x)
    return found


def scattered(rounding: Rounding, p: Parameters, bind: Bind, operand: Array, indices: Array, updates: Array) -> Sum:
    """`scatter-add`: as many terms as updates meet in an element, and what was there."""
    totals = bind(operand, indices, updates)
    if not rounding.times:
        return Sum(totals, totals, 1)
    zeros = np.zeros(operand.shape, np.float32)
    counts = bind(zeros, indices, np.ones(updates.shape, np.float32)) + (operand != 0)
    a, scale = squares_of(updates)
    own, own_scale = squares_of(operand)
    roots = np.hypot(np.sqrt(bind(zeros, indices, a)) * scale, np.sqrt(own).astype(np.float64) * own_scale)
    found = Sum(totals, roots, counts, single=False)
    if np.max(counts, initial=0.0) >= FEWEST_TERMS:
        found.least = _kernel_errors(rounding, lambda *parts: bind(parts[0], indices, parts[1]), operand, updates)
    return found


def scattered_away(
    rounding: Rounding, p: Parameters, bind: Bind, operand: Array, indices: Array, updates: Array
) -> Sum:
    """`scatter-sub`, as `scattered` has it with the other sign."""
    return scattered(rounding, p, lambda x, at, terms: bind(x, at, -terms), operand, indices, -updates)


def of_picked(rounding: Rounding, p: Parameters, bind: Bind, source: Array, operand: Array) -> Sum:
    """`select_and_scatter_add`: an element gets a term from every window that picks it."""
    totals = bind(source, operand)
    if not rounding.times:
        return Sum(totals, totals, 1)
    scaled, scale = relative(source)
    roots = np.sqrt(bind(np.square(scaled), operand)) * scale
    return Sum(totals, roots, bind(np.ones_like(source), operand), single=False)


def _kernel_errors(rounding: Rounding, bind: Bind, *operands: Array) -> Array:
    """What JAX's own kernel, which takes the terms in their order, is off by in float32."""
    largest = max(float(np.max(np.abs(x), initial=0.0)) for x in operands)
    if not largest or not np.isfinite(largest):
        return np.zeros(())
    scale = rounding.rng.uniform(1, 2) / largest
    narrow = [(x * scale).astype(np.float32) for x in operands]
    errors: Array = np.abs(bind(*narrow) - bind(*(x.astype(np.float64) for x in narrow))) / scale
    return errors


def so_far(rounding: Rounding, grain: Grain, p: Parameters, x: Array) -> Array:
    """`cumsum`, each partial sum rounded before the next term is added; equal terms as `reduction` has them."""
    axis = p["axis"]
    ordered = np.flip(x, axis) if p["reverse"] else x
    totals = np.cumsum(ordered, axis=axis)
    # The first is a term itself.
    steps = np.abs(totals) * grain.unit
    steps[(slice(None),) * axis + (slice(0, 1),)] = 0.0
    errors = rounding.walked(steps, axis)
    if rounding.times and x.shape[axis] >= FEWEST_TERMS:
        deviation = np.sqrt(np.sum(np.square(steps), axis=axis, keepdims=True) / 3)
        rows = np.moveaxis(ordered, axis, 0)
        found = _running_errors(rows.reshape(len(rows), -1), rounding.rng) * (grain.unit * 2.0**24)
        found = np.expand_dims(found.reshape(rows.shape[1:]), axis)
        errors *= np.maximum(1.0, np.divide(found, deviation, out=np.ones_like(deviation), where=deviation > 0))
    totals = np.where(np.isfinite(totals), totals + errors, totals)
    return np.flip(totals, axis) if p["reverse"] else totals


def product_so_far(rounding: Rounding, grain: Grain, p: Parameters, x: Array) -> Array:
    """`cumprod`: relative errors add up."""
    axis = p["axis"]
    ordered = np.flip(x, axis) if p["reverse"] else x
    steps = np.full(x.shape, grain.unit)
    steps[(slice(None),) * axis + (slice(0, 1),)] = 0.0
    found = np.cumprod(ordered, axis=axis) * (1 + rounding.walked(steps, axis))
    return np.flip(found, axis) if p["reverse"] else found


def whole_product(rounding: Rounding, grain: Grain, p: Parameters, x: Array) -> Array:
    """`reduce_prod`."""
    axes = tuple(int(axis) for axis in p["axes"])
    found = np.asarray(x.prod(axis=axes))
    count = math.prod(x.shape[axis] for axis in axes)
    return rounding.elementwise(found, math.sqrt(max(0, count - 1)), grain)


def log_so_far(rounding: Rounding, grain: Grain, p: Parameters, x: Array) -> Array:
    """`cumlogsumexp`: each step is off by the roundings of its exponential, its logarithm, and the sum."""
    axis = p["axis"]
    ordered = np.flip(x, axis) if p["reverse"] else x
    totals = np.logaddexp.accumulate(ordered, axis=axis)
    steps = (np.abs(np.where(np.isfinite(totals), totals, 0.0)) + 2.0) * grain.unit
    steps[(slice(None),) * axis + (slice(0, 1),)] = 0.0
    totals = totals + rounding.walked(steps, axis)
    return np.flip(totals, axis) if p["reverse"] else totals
