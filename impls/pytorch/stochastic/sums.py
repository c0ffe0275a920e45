"""The rounding of sums: over axes, running, scattered to where an index says, over windows, and of long products."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .rounding import Rounding, relative_squares, roots_of
from .running_sums import FLOAT32, running_sum_errors

Operation = Callable[..., Any]

SCATTERS = {
    "embedding_dense_backward": 0,
    "index_add": 3,
    "scatter_add": 3,
    "index_put": 2,
    "_unsafe_index_put": 2,
    "_index_put_impl": 2,
    "max_pool2d_with_indices_backward": 0,
    "max_pool3d_with_indices_backward": 0,
    "adaptive_max_pool2d_backward": 0,
    "adaptive_max_pool3d_backward": 0,
    "fractional_max_pool2d_backward": 0,
    "fractional_max_pool3d_backward": 0,
    "col2im": 0,
    "unfold_backward": 0,
    **{f"{kind}{axes}d_backward": 0 for kind in ("upsample_nearest", "_upsample_nearest_exact") for axes in (1, 2, 3)},
    **{f"{kind}_pad{axes}d_backward": 0 for kind in ("reflection", "replication") for axes in (1, 2, 3)},
}
"""Sums of as many numbers as the data say, and which argument holds these numbers."""

# Their first argument takes part in the sums.
ONTO = {"index_add", "scatter_add", "index_put", "_unsafe_index_put", "_index_put_impl"}
# Which argument says whether they add up; the last one otherwise takes the place of all before it.
ACCUMULATE = {"index_put": 3, "_unsafe_index_put": 3, "_index_put_impl": 3}

AVERAGES = {"avg_pool2d": 2, "avg_pool3d": 3}
"""Means over windows, and their number of axes; their backward passes have the window's size one argument later."""


def total(rounding: Rounding, func: Operation, x: torch.Tensor, *given: Any, **kw: Any) -> Any:
    """`aten.sum`, of all or over some axes; no less than plain sums in float32 err, as equal terms do."""
    out = func(x, *given, **kw)
    terms = x.numel() // max(1, out.numel())
    if not rounding.unit_roundoff or out.dtype != torch.float64 or x.dtype != torch.float64 or terms < 2:
        return out
    squares, largest = relative_squares(x)
    roots = roots_of(func(squares, *given, **kw), largest)
    axes = given[0] if given else None
    errors = running_sum_errors(x, [axes] if isinstance(axes, int) else axes or [], rounding.rng)
    return rounding.sums(out, terms, roots, least=_least(rounding, errors, out))


def running(rounding: Rounding, func: Operation, x: torch.Tensor, axis: int, **kw: Any) -> torch.Tensor:
    """`aten.cumsum`. The first one of each row is exact."""
    out = func(x, axis, **kw)
    if not rounding.unit_roundoff or out.dtype != torch.float64 or x.dtype != torch.float64 or not x.dim():
        return out
    squares, largest = relative_squares(x)
    roots = roots_of(func(squares, axis, **kw), largest)
    errors = running_sum_errors(x, [axis], rounding.rng, every=True)
    if errors is not None:
        errors = errors.view(x.movedim(axis, 0).shape).movedim(0, axis)
    return rounding.sums(out, _positions(out, axis), roots, least=_least(rounding, errors, out))


def product(
    rounding: Rounding, func: Operation, x: torch.Tensor, axis: int | None = None, *args: Any, **kw: Any
) -> Any:
    """`aten.prod` of all, or along one axis."""
    given = () if axis is None else (axis, *args)
    out = func(x, *given, **kw)
    return _multiplied(rounding, out, x.numel() // max(1, out.numel()) - 1)


def running_product(rounding: Rounding, func: Operation, x: torch.Tensor, axis: int, **kw: Any) -> torch.Tensor:
    """`aten.cumprod`."""
    out = func(x, axis, **kw)
    return _multiplied(rounding, out, _positions(out, axis) if out.dim() else 0)


def scattered(rounding: Rounding, func: Operation, name: str, args: Sequence[Any], kw: Mapping[str, Any]) -> Any:
    """An operation of `SCATTERS`."""
    out = func(*args, **kw)
    adds = name not in ACCUMULATE or [*args, *kw.values()][ACCUMULATE[name] :][:1] == [True]
    if not rounding.unit_roundoff or out.dtype != torch.float64 or not adds or not out.numel():
        return out
    squared, ones = list(args), list(args)
    places = (0, SCATTERS[name]) if name in ONTO else (SCATTERS[name],)
    largest = max((float(args[place].abs().max()) for place in places if args[place].numel()), default=0.0)
    scale = largest if 0 < largest < math.inf else 1.0
    for place in places:
        squared[place], ones[place] = (args[place] / scale).square(), torch.ones_like(args[place])
    plain = {key: value for key, value in kw.items() if key != "alpha"}
    if alpha := kw.get("alpha", 1) != 1:
        rounding.elementwise(out)
    roots = roots_of(func(*squared, **plain, **({"alpha": kw["alpha"] ** 2} if alpha else {})), scale)
    return rounding.sums(out, (func(*ones, **plain) - 1).clamp_(min=0), roots)


def average(rounding: Rounding, func: Operation, x: torch.Tensor, *args: Any, axes: int, backward: bool = False) -> Any:
    """Means over windows, or the gradient by what they are means of: a sum over the windows that an element is in."""
    out = func(x, *args)
    if not rounding.unit_roundoff:
        return out
    kernel = args[1] if backward else args[0]
    size = math.prod(kernel) if len(kernel) == axes else kernel[0] ** axes
    return _averaged(rounding, func, out, x, args, size, backward)


def adaptive_average_backward(rounding: Rounding, func: Operation, grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """As `average`, of windows whose sizes follow from those of input and output."""
    out = func(grad, x)
    if not rounding.unit_roundoff or not grad.numel():
        return out
    return _averaged(rounding, func, out, grad, (x,), max(1, x.numel() // grad.numel()), True)


def _averaged(
    rounding: Rounding,
    func: Operation,
    out: torch.Tensor,
    x: torch.Tensor,
    args: Sequence[Any],
    size: int,
    backward: bool,
) -> torch.Tensor:
    squares, largest = relative_squares(x, narrow=False)
    # A mean of n terms t is a sum of n terms t / n.
    roots = roots_of(func(squares, *args), largest / math.sqrt(size))
    terms = (func(torch.ones_like(x), *args) * size - 1).round_().clamp_(min=0) if backward else size
    # Divided at last, or each term of its own.
    return rounding.elementwise(rounding.sums(out, terms, roots))


def _multiplied(rounding: Rounding, out: torch.Tensor, products: int | torch.Tensor) -> torch.Tensor:
    """Each is off by the rounding of so many products, of variance u^2 / 3 each."""
    if out.dtype != torch.float64:
        return out
    # As a sum of no terms: its variance is a ninth of their number, times u^2.
    return rounding.sums(out, products * 3, torch.zeros(()))


def _positions(x: torch.Tensor, axis: int) -> torch.Tensor:
    """0, 1, 2 ... along an axis of a tensor of this shape."""
    shape = [1] * x.dim()
    shape[axis] = -1
    return torch.arange(x.shape[axis], dtype=torch.float64).view(shape)


def _least(rounding: Rounding, errors: torch.Tensor | None, out: torch.Tensor) -> torch.Tensor | None:
    """Errors in float32 as the least deviations in the dtype."""
    return None if errors is None else errors.reshape(out.shape) * (rounding.unit_roundoff / FLOAT32)
