"""Operations as equations in simpler ones, where PyTorch's own decompositions have none or hide what is rounded.

Each function takes what the operation of its name takes. What it computes is seen by the mode again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .resampling import RESAMPLING

aten = torch.ops.aten
Tensor = torch.Tensor

# What is made of the rows of a bag.
SUM, MEAN, MAXIMUM = 0, 1, 2
# Which argument says so.
BAG_MODES = {
    "_embedding_bag": 4,
    "_embedding_bag_forward_only": 4,
    "_embedding_bag_backward": 8,
    "_embedding_bag_per_sample_weights_backward": 5,
}


def mean(x: Tensor, axes: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """The sum over the number of terms."""
    s = x.sum(_axes(x, axes), keepdim, dtype=dtype)
    return s / (x.numel() / max(1, s.numel()))


def var_mean(
    x: Tensor, axes: Any = None, correction: Any = None, keepdim: bool = False, plain: bool = False
) -> tuple[Tensor, Tensor]:
    """In two passes: the plain formula for a variance, mean(x^2) - mean(x)^2, cancels.

    With `plain` it is off by as much as that formula is, which Flax takes for every kind of norm.
    """
    axes = _axes(x, axes)
    m = mean(x, axes, True)
    d = x - m
    n = x.numel() / max(1, m.numel())
    left = max(0.0, n - (1 if correction is None else correction))
    v = _square(d).sum(axes, keepdim) / left
    m = m if keepdim else m.reshape(v.shape)
    if plain and left:
        # Each is rounded by itself; undisturbed they are the same.
        one, other = (mean(_square(x), axes, keepdim) - _square(m) for _ in range(2))
        v = (v + (one - other) * (n / left / math.sqrt(2))).clamp(min=0.0)
    return v, m


def _square(x: Tensor) -> Tensor:
    """Of complex numbers that of their size."""
    return (x * x.conj()).real if x.is_complex() else x * x


def _statistics(name: str, plain: bool) -> Callable[..., Any]:
    def compute(x: Tensor, axes: Any = None, *args: Any, **kw: Any) -> Any:
        if isinstance(axes, bool):  # Whether the variance is unbiased.
            axes, kw = None, {"correction": int(axes)}
        elif args:  # The same, and whether axes are kept.
            kw = {"correction": int(args[0]), "keepdim": args[1] if len(args) > 1 else False}
        variance, middle = var_mean(x, axes, kw.get("correction", 1), kw.get("keepdim", False), plain)
        spread = variance.sqrt() if name.startswith("std") else variance
        return (spread, middle) if name.endswith("mean") else spread

    return compute


def prims_sum(x: Tensor, axes: Any, *, output_dtype: torch.dtype | None = None) -> Tensor:
    """As `aten.sum`."""
    return x.sum(list(axes) if axes is not None else None, dtype=output_dtype)


def addmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * bias + alpha * left @ right: of matrices, a batch of them, or a matrix and a vector."""
    p = left @ right
    p = p if alpha == 1 else alpha * p
    if beta == 0:
        return p.expand(torch.broadcast_shapes(bias.shape, p.shape)).clone()
    return (bias if beta == 1 else beta * bias) + p


def addbmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """As `addmm`, summed over the batch: one long product."""
    return addmm(bias, left.transpose(0, 1).flatten(1), right.flatten(0, 1), beta=beta, alpha=alpha)


def mv(matrix: Tensor, vector: Tensor) -> Tensor:
    """A product of matrices, one of a single column."""
    return (matrix @ vector.unsqueeze(1)).squeeze(1)


def dot(left: Tensor, right: Tensor) -> Tensor:
    """A product of matrices, one of a single row and one of a single column."""
    return (left.unsqueeze(0) @ right.unsqueeze(1)).reshape(())


def convolution(x: Tensor, weight: Tensor, bias: Tensor, *kind: Any) -> Tensor:
    """With a bias: added at last."""
    y = aten.convolution(x, weight, None, *kind)
    return y + bias.reshape(-1, *[1] * (y.dim() - 2))


def convolution_backward(grad: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """With the gradient by the bias: a sum."""
    *args, wanted = args
    by_x, by_weight, _ = aten.convolution_backward(grad, *args, [*wanted[:2], False])
    return by_x, by_weight, grad.sum([0, *range(2, grad.dim())])


def native_dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """With the very mask that PyTorch draws for this seed."""
    if train is False or p == 0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    mask = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - p)
    return x * mask * (1 / (1 - p) if p < 1 else 0.0), mask


def trilinear(
    a: Tensor, b: Tensor, c: Tensor, expand_a: Any, expand_b: Any, expand_c: Any, axes: Any, unroll_dim: int = 1
) -> Tensor:
    """The sum over `axes` of the products of three tensors, each with axes of length 1 put in."""
    factors = [a, b, c]
    for number, places in enumerate((expand_a, expand_b, expand_c)):
        for place in sorted(places):
            factors[number] = factors[number].unsqueeze(place)
    a, b, c = factors
    return (a * b * c).sum(axes) if axes else a * b * c


def weight_norm_backward(grad: Tensor, v: Tensor, g: Tensor, norm: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Of w = v * g / norm, where norm is that of v over every axis but one (Salimans and Kingma 2016, equation 3)."""
    along = (grad * v).sum([other for other in range(v.dim()) if other != axis % v.dim()], keepdim=True)
    by_g = along / norm
    return g / norm * (grad - v * (by_g / norm)), by_g


def adaptive_average(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """Along one axis after the other: the windows of a mean have one size."""
    for axis, size in enumerate(output_size, x.dim() - len(output_size)):
        length = x.shape[axis]
        windows = [(number * length // size, -(-(number + 1) * length // size)) for number in range(size)]
        x = torch.stack([x.narrow(axis, begin, end - begin).mean(axis) for begin, end in windows], axis)
    return x


def logcumsumexp(x: Tensor, axis: int) -> Tensor:
    """Relative to the largest of all."""
    largest = x.amax(axis, keepdim=True) if x.dim() else x
    largest = torch.where(largest.abs() == math.inf, 0.0, largest)
    return (x - largest).exp().cumsum(axis).log() + largest


def scatter_reduce(
    onto: Tensor, axis: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Sums and means by `scatter_add`."""
    start = onto if include_self else onto.scatter(axis, index, 0.0)
    total = start.scatter_add(axis, index, source)
    if reduce == "sum":
        return total
    ones = torch.ones_like(onto, dtype=torch.int64)
    ones = ones if include_self else ones.scatter(axis, index, 0)
    count = ones.scatter_add(axis, index, torch.ones_like(source, dtype=torch.int64))
    return total / count.clamp(min=1)


def embedding_bag(
    weight: Tensor, indices: Tensor, offsets: Tensor, scale_grad_by_freq: bool = False, mode: int = SUM,
    sparse: bool = False, factors: Tensor | None = None, include_last_offset: bool = False, padding_index: int = -1,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Sums or means of rows of `weight`, each of the rows from an offset to the next.

    Returns:
        They, the bag of each row, the number of rows in each bag, and nothing.
    """
    count = len(offsets) - include_last_offset
    bags = torch.searchsorted(offsets[:count].contiguous(), torch.arange(len(indices)), right=True) - 1
    used = indices != padding_index
    rows = weight[indices] if factors is None else weight[indices] * factors.unsqueeze(1)
    rows = rows.masked_fill(~used.unsqueeze(1), 0.0)
    sizes = torch.zeros(count, dtype=torch.int64).index_add(0, bags, used.long())
    total = rows.new_zeros(count, rows.shape[1]).index_add(0, bags, rows)
    if mode == MEAN:
        total = total / sizes.clamp(min=1).unsqueeze(1)
    return total, bags, sizes, bags.new_empty(0)


def embedding_bag_backward(
    grad: Tensor, indices: Tensor, offsets: Tensor, bags: Tensor, sizes: Tensor, largest: Tensor, count: int,
    scale_grad_by_freq: bool, mode: int, sparse: bool, factors: Tensor | None, padding_index: int = -1,
) -> Tensor:  # fmt: skip
    """By the weight."""
    rows = grad[bags]
    if mode == MEAN:
        rows = rows / sizes[bags].clamp(min=1).unsqueeze(1)
    if factors is not None:
        rows = rows * factors.unsqueeze(1)
    return aten.embedding_dense_backward(rows, indices, count, padding_index, scale_grad_by_freq)


def embedding_bag_backward_by_factors(
    grad: Tensor, weight: Tensor, indices: Tensor, offsets: Tensor, bags: Tensor, mode: int, padding_index: int = -1
) -> Tensor:
    """By the factors."""
    along = (grad[bags] * weight[indices]).sum(1)
    return along.masked_fill(indices == padding_index, 0.0)


def cdist(x: Tensor, y: Tensor, p: float, compute_mode: int | None = None) -> Tensor:
    """The norm of the difference of every row of x and every row of y."""
    return _norm(x.unsqueeze(-2) - y.unsqueeze(-3), p)


def cdist_backward(grad: Tensor, x: Tensor, y: Tensor, p: float, distance: Tensor) -> Tensor:
    """By x."""
    return _norm_backward(grad, x.unsqueeze(-2) - y.unsqueeze(-3), p, distance).sum(-2)


def pdist(x: Tensor, p: float = 2.0) -> Tensor:
    """The norm of the difference of every two rows."""
    i, j = torch.triu_indices(len(x), len(x), 1)
    return _norm(x[i] - x[j], p)


def pdist_backward(grad: Tensor, x: Tensor, p: float, distance: Tensor) -> Tensor:
    """By x."""
    i, j = torch.triu_indices(len(x), len(x), 1)
    by_difference = _norm_backward(grad, x[i] - x[j], p, distance)
    return torch.zeros_like(x).index_add(0, i, by_difference).index_add(0, j, -by_difference)


def _norm(d: Tensor, p: float) -> Tensor:
    if p == 0:
        return (d != 0).sum(-1).double()
    if p in (1, math.inf):
        return d.abs().sum(-1) if p == 1 else d.abs().amax(-1)
    return (d * d).sum(-1).sqrt() if p == 2 else d.abs().pow(p).sum(-1).pow(1 / p)


def _norm_backward(grad: Tensor, d: Tensor, p: float, norm: Tensor) -> Tensor:
    grad, norm = grad.unsqueeze(-1), norm.unsqueeze(-1)
    if p == 0:
        return torch.zeros_like(d)
    if p == math.inf:
        return grad * (d.sign() * (d.abs() == norm))
    along = d.sign() if p == 1 else d / norm if p == 2 else d.sign() * (d.abs() / norm).pow(p - 1)
    return grad * torch.where(norm == 0, 0.0, along)


def _axes(x: Tensor, axes: Any) -> list[int]:
    axes = [axes] if isinstance(axes, int) else list(axes or [])
    return [axis % max(1, x.dim()) for axis in axes] or list(range(x.dim()))


# In narrow dtypes statistics are computed in a wider one, where the plain formula is not as far off.
WIDE_STATISTICS = {name: _statistics(name, plain=True) for name in ("var", "std", "var_mean", "std_mean")}
REWRITTEN: dict[str, Callable[..., Any]] = {
    "mean": mean,
    **{name: _statistics(name, plain=False) for name in WIDE_STATISTICS},
    "addmm": addmm,
    "baddbmm": addmm,
    "addmv": addmm,
    "addbmm": addbmm,
    "mv": mv,
    "dot": dot,
    "vdot": dot,
    "_efficientzerotensor": torch.zeros,  # It has no memory that could be looked at.
    "native_dropout": native_dropout,
    "_trilinear": trilinear,
    "_weight_norm_interface_backward": weight_norm_backward,
    "_adaptive_avg_pool3d": adaptive_average,
    "logcumsumexp": logcumsumexp,
    "_embedding_bag": embedding_bag,
    "_embedding_bag_forward_only": embedding_bag,
    "_embedding_bag_backward": embedding_bag_backward,
    "_embedding_bag_per_sample_weights_backward": embedding_bag_backward_by_factors,
    "_cdist_forward": cdist,
    "_cdist_backward": cdist_backward,
    "_pdist_forward": pdist,
    "_pdist_backward": pdist_backward,
    **RESAMPLING,
}
