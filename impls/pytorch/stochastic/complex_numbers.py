"""Operations on complex numbers, as equations in their real and imaginary parts; and Fourier transforms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from .rounding import Rounding

Tensor = torch.Tensor
Part: TypeAlias = Any
"""A tensor or a number; None of an imaginary part that is not there."""


def parts(x: Any) -> tuple[Part, Part]:
    """The real and the imaginary part of a tensor or number."""
    if not isinstance(x, Tensor):
        return (x.real, x.imag) if isinstance(x, complex) else (x, None)
    if not x.is_complex():
        return x, None
    return torch.view_as_real(x.resolve_conj()).unbind(-1)


def whole_of(real: Tensor, imaginary: Tensor) -> Tensor:
    """Both parts as one complex tensor."""
    return torch.complex(*torch.broadcast_tensors(real, imaginary))


def add(left: Any, right: Any, *, alpha: float = 1) -> Tensor:
    """left + alpha * right."""
    (a, b), (c, d) = parts(left), parts(right if alpha == 1 else right * alpha)
    return whole_of(a + c, b if d is None else d if b is None else b + d)


def sub(left: Any, right: Any, *, alpha: float = 1) -> Tensor:
    """left - alpha * right."""
    return add(left, right, alpha=-alpha)


def mul(left: Any, right: Any) -> Tensor:
    """(a + bi) (c + di)."""
    (a, b), (c, d) = parts(left), parts(right)
    if b is None:
        return whole_of(a * c, a * d)
    return whole_of(a * c, b * c) if d is None else whole_of(a * c - b * d, a * d + b * c)


def div(left: Any, right: Any) -> Tensor:
    """left / right, whose size is squared."""
    c, d = parts(right)
    if d is None:
        a, b = parts(left)
        return whole_of(a / c, b / c)
    size = c * c + d * d
    return mul(left, whole_of(c / size, -d / size))


def product(left: Tensor, right: Tensor) -> Tensor:
    """Of matrices, or a batch of them."""
    (a, b), (c, d) = parts(left), parts(right)
    return whole_of(a @ c - b @ d, a @ d + b @ c)


def total(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """As `aten.sum`."""
    a, b = parts(x)
    return whole_of(torch.ops.aten.sum(a, *args), torch.ops.aten.sum(b, *args))


def angle(x: Tensor) -> Tensor:
    """Of a + bi: the arctangent of b / a."""
    a, b = parts(x)
    return torch.atan2(b, a)


def size_of(x: Tensor) -> Tensor:
    """|a + bi|."""
    a, b = parts(x)
    return (a * a + b * b).sqrt()


COMPLEX: dict[str, Callable[..., Tensor]] = {
    "add": add, "sub": sub, "mul": mul, "div": div, "mm": product, "bmm": product, "sum": total, "abs": size_of,
    "angle": angle,
}  # fmt: skip
"""What is taken apart where a tensor is complex."""

TRANSFORMS = ("_fft_c2c", "_fft_r2c", "_fft_c2r")


def transform(rounding: Rounding, func: Callable[..., Tensor], x: Tensor, axes: Sequence[int], *args: Any) -> Tensor:
    """A fast Fourier transform of n numbers: log2(n) times each is rounded, and all are as large as their rms.

    Source: Gentleman and Sande 1966, "Fast Fourier transforms: for fun and profit", equation 35, whose factor is 0.6.
    """
    out = func(x, axes, *args)
    if not rounding.unit_roundoff or not out.numel():
        return out
    numbers = torch.view_as_real(out) if out.is_complex() else out.unsqueeze(-1)
    terms = math.prod(max(x.shape[axis], out.shape[axis]) for axis in axes)
    positive = [axis % out.dim() for axis in axes]
    size = numbers.square().mean([*positive, -1], keepdim=True).sqrt()
    least = size * (rounding.unit_roundoff * math.sqrt(math.log2(terms))) if terms > 1 else size * 0
    rounding.sums(numbers, 0, torch.zeros(()), least=least.expand_as(numbers))
    return out
