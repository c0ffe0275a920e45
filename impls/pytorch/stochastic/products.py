"""The rounding of products: of matrices, and convolutions of any kind.

Their noise needs the sum of the squared terms of each element: the same operation on the squared operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .rounding import Rounding, relative_squares, roots_of
from .running_sums import SAMPLES, times_as_far

Operation = Callable[..., Any]

# Of long products fewer elements are summed again.
FEWEST_SAMPLES, MOST_TERMS = 2, 2**21


def matrices(rounding: Rounding, func: Operation, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`(m, k) @ (k, n)`, or as many of them as a batch has: `(b, m, k) @ (b, k, n)`."""
    out = func(left, right)
    if not rounding.unit_roundoff or not out.numel() or not left.numel():
        return out
    (a, largest_a), (b, largest_b) = relative_squares(left), relative_squares(right)
    roots = roots_of(func(a, b), largest_a * largest_b)
    drawn = [
        torch.from_numpy(rounding.rng.integers(size, size=SAMPLES)) for size in (*left.shape[:-1], right.shape[-1])
    ]
    rows = left[tuple(drawn[:-1])]
    columns = right.transpose(-1, -2)[(*drawn[:-2], drawn[-1])]
    return rounding.sums(out, left.shape[-1], roots, times=times_as_far(rows * columns, rounding.rng))


class Convolution:
    """What all convolutions of one size and kind have in common.

    Args:
        stride, padding, dilation: of each of the spatial axes, or one for all of them.
        transposed: whether it is the gradient of a convolution.
        output_padding: of transposed ones.
        groups: of channels.
    """

    def __init__(
        self,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool,
        output_padding: Sequence[int],
        groups: int,
    ) -> None:
        self._arguments = stride, padding, dilation, transposed, output_padding, groups
        self._transposed, self._groups = transposed, groups

    def forward(self, rounding: Rounding, func: Operation, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Without bias. `x` is `(n, channels, ...)`; `weight` `(outputs, channels / groups, ...)`, or transposed
        `(channels, outputs / groups, ...)`.
        """
        out = func(x, weight, None, *self._arguments)
        if not rounding.unit_roundoff or not out.numel():
            return out
        (a, largest_a), (b, largest_b) = relative_squares(x), relative_squares(weight)
        roots = roots_of(func(a, b, None, *self._arguments), largest_a * largest_b)
        if self._transposed:
            return rounding.sums(out, self._spread_terms(weight), roots)
        times = times_as_far(self._window_terms(rounding, x, weight, out.shape[2:]), rounding.rng)
        return rounding.sums(out, weight[0].numel(), roots, times=times)

    def backward(
        self,
        rounding: Rounding,
        func: Operation,
        grad: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        wanted: Sequence[bool],
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The gradients by x and by the weight, those that are `wanted`, from the one by the output."""
        mask = [*wanted[:2], False]
        by_x, by_weight, _ = func(grad, x, weight, None, *self._arguments, mask)
        if not rounding.unit_roundoff or not grad.numel():
            return by_x, by_weight
        (g, largest_g), (a, largest_a), (b, largest_b) = map(relative_squares, (grad, x, weight))
        squares_x, squares_weight, _ = func(g, a, b, None, *self._arguments, mask)
        if by_x is not None:
            roots = roots_of(squares_x, largest_g * largest_b)
            if self._transposed:
                times = times_as_far(self._window_terms(rounding, grad, weight, x.shape[2:]), rounding.rng)
                rounding.sums(by_x, weight[0].numel(), roots, times=times)
            else:
                rounding.sums(by_x, self._spread_terms(weight), roots)
        if by_weight is not None:
            # A transposed one has the roles of its input and output changed.
            windows, places = (grad, x) if self._transposed else (x, grad)
            times = times_as_far(self._weight_terms(rounding, windows, places, weight.shape[2:]), rounding.rng)
            roots = roots_of(squares_weight, largest_g * largest_a)
            rounding.sums(by_weight, places.numel() // places.shape[1], roots, times=times)
        return by_x, by_weight

    def _spread_terms(self, weight: torch.Tensor) -> int:
        """Terms of a sum over the windows that a pixel is in."""
        strides = math.prod(self._of_axes(self._arguments[0], weight.dim() - 2))
        return max(1, len(weight) // self._groups * weight[0, 0].numel() // strides)

    def _window_terms(
        self, rounding: Rounding, x: torch.Tensor, weight: torch.Tensor, places: Sequence[int]
    ) -> torch.Tensor:
        """The terms of some elements of a convolution, drawn at random, all at one place: `(samples, terms)`."""
        stride, padding, dilation = self._axes(x)
        window = x
        for axis, (size, s, p, d, kernel) in enumerate(
            zip(places, stride, padding, dilation, weight.shape[2:], strict=True), 2
        ):
            begin = s * int(rounding.rng.integers(size)) - p
            window = _taken(window, axis, range(begin, begin + d * kernel, d))
        examples, outputs = (rounding.rng.integers(size, size=SAMPLES) for size in (len(x), len(weight)))
        by_group = window[examples].unflatten(1, (self._groups, -1))
        groups = outputs // (len(weight) // self._groups)
        return (by_group[torch.arange(SAMPLES), groups] * weight[outputs]).flatten(1)

    def _weight_terms(
        self, rounding: Rounding, x: torch.Tensor, grad: torch.Tensor, kernel: Sequence[int]
    ) -> torch.Tensor:
        """The same of the gradient by the weight, all at one place of the kernel."""
        stride, padding, dilation = self._axes(x)
        outputs, channels = grad.shape[1], x.shape[1] // self._groups
        terms = grad.numel() // outputs
        samples = min(SAMPLES, max(FEWEST_SAMPLES, MOST_TERMS // terms))
        chosen = rounding.rng.integers(outputs, size=samples)
        incoming = chosen // (outputs // self._groups) * channels + rounding.rng.integers(channels, size=samples)
        window = x[:, incoming]
        for axis, (size, s, p, d, places) in enumerate(
            zip(kernel, stride, padding, dilation, grad.shape[2:], strict=True), 2
        ):
            begin = d * int(rounding.rng.integers(size)) - p
            window = _taken(window, axis, range(begin, begin + s * places, s))
        return (window * grad[:, chosen]).transpose(0, 1).flatten(1)

    def _axes(self, x: torch.Tensor) -> list[Sequence[int]]:
        return [self._of_axes(sizes, x.dim() - 2) for sizes in self._arguments[:3]]

    @staticmethod
    def _of_axes(sizes: Sequence[int], axes: int) -> Sequence[int]:
        return list(sizes) * axes if len(sizes) == 1 else sizes


def _taken(x: torch.Tensor, axis: int, places: range) -> torch.Tensor:
    """What stands at these places along an axis; zeros outside, as of padding."""
    at = torch.tensor(places)
    inside = (at >= 0) & (at < x.shape[axis])
    found = x.index_select(axis, at.clamp(0, x.shape[axis] - 1))
    return found * inside.view(-1, *[1] * (x.dim() - axis - 1))


def convolution(rounding: Rounding, func: Operation, *args: Any) -> torch.Tensor:
    """`aten.convolution` without a bias."""
    x, weight, _, *kind = args
    return Convolution(*kind).forward(rounding, func, x, weight)


def convolution_backward(rounding: Rounding, func: Operation, *args: Any) -> tuple[Any, Any, None]:
    """`aten.convolution_backward` without the gradient by a bias."""
    grad, x, weight, _, *kind, wanted = args
    return *Convolution(*kind).backward(rounding, func, grad, x, weight, wanted), None
