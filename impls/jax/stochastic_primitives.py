"""JAX's primitive operations one by one: what each computes, and by how many unit roundoffs its result may be off.

What NumPy has is done in NumPy: it needs no compilation, and in a loop over time it starts ten times as fast. The rest
are JAX's own kernels, which stay compiled between runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import stochastic_sums as sums
from .stochastic_rounding import Array
from .stochastic_sums import Parameters

Compute = Callable[..., Any]


def _plain(function: Callable[..., Any]) -> Compute:
    return lambda p, *x: function(*x)


def _divide(p: Parameters, x: Array, y: Array) -> Array:
    if np.issubdtype(x.dtype, np.inexact):
        return np.asarray(x / y)
    # Towards zero, where NumPy's floors.
    quotient = np.abs(x) // np.abs(y)
    return np.asarray(np.where((x < 0) != (y < 0), -quotient, quotient))


def _select(p: Parameters, which: Array, *cases: Array) -> Array:
    if len(cases) == 1:
        return cases[0]
    if which.dtype == np.bool_:
        return np.where(which, cases[1], cases[0])
    return np.choose(which, cases)


def _broadcast(p: Parameters, x: Array, *_: Any) -> Array:
    sizes = [1] * len(p["shape"])
    for axis, size in zip(p["broadcast_dimensions"], x.shape, strict=True):
        sizes[axis] = size
    return np.broadcast_to(x.reshape(sizes), p["shape"])


def _reshape(p: Parameters, x: Array, *_: Any) -> Array:
    ordered = x if p["dimensions"] is None else x.transpose(p["dimensions"])
    return ordered.reshape(p["new_sizes"])


def _slice(p: Parameters, x: Array) -> Array:
    strides = p["strides"] or (1,) * x.ndim
    return x[tuple(slice(*cut) for cut in zip(p["start_indices"], p["limit_indices"], strides, strict=True))]


def _window(shape: Sequence[int], sizes: Sequence[int], starts: Sequence[Array]) -> tuple[slice, ...]:
    # A window that would stick out is moved inside.
    begins = [min(max(int(at), 0), length - size) for at, length, size in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=True))


def _update(p: Parameters, x: Array, update: Array, *starts: Array) -> Array:
    found = np.array(x)
    found[_window(x.shape, update.shape, starts)] = update
    return found


def _pad(p: Parameters, x: Array, value: Array) -> Array:
    """Padding before, after and between elements; a negative one cuts off."""
    widths = p["padding_config"]
    sizes = [
        max(0, low) + max(0, high) + length + max(0, length - 1) * between
        for (low, high, between), length in zip(widths, x.shape, strict=True)
    ]
    found = np.full(sizes, value, dtype=x.dtype)
    places = [
        slice(max(0, low), max(0, low) + max(0, length - 1) * (between + 1) + min(1, length), between + 1)
        for (low, _, between), length in zip(widths, x.shape, strict=True)
    ]
    found[tuple(places)] = x
    kept = [slice(max(0, -low), size - max(0, -high)) for (low, high, _), size in zip(widths, found.shape, strict=True)]
    return found[tuple(kept)]


def _iota(p: Parameters, *_: Any) -> Array:
    sizes = [1] * len(p["shape"])
    sizes[p["dimension"]] = -1
    return np.broadcast_to(np.arange(p["shape"][p["dimension"]]).reshape(sizes), p["shape"])


def _split(p: Parameters, x: Array) -> list[Array]:
    return np.split(x, np.cumsum(p["sizes"])[:-1], axis=p["axis"])


def _argument(find: Callable[..., Any]) -> Compute:
    def of(p: Parameters, x: Array) -> Any:
        (axis,) = p["axes"]
        return find(x, axis=axis)

    return of


def _over_axes(reduce: Callable[..., Any]) -> Compute:
    return lambda p, x: reduce(x, axis=tuple(int(axis) for axis in p["axes"]))


def _running(ufunc: np.ufunc) -> Compute:
    def of(p: Parameters, x: Array) -> Array:
        ordered = np.flip(x, p["axis"]) if p["reverse"] else x
        found = ufunc.accumulate(ordered, axis=p["axis"])
        return np.flip(found, p["axis"]) if p["reverse"] else found

    return of


def _round(p: Parameters, x: Array) -> Array:
    if int(p["rounding_method"]) == 1:
        return np.round(x)
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def _power(p: Parameters, x: Array) -> Array:
    y = p["y"]
    # By products, as libraries do it, and not by a logarithm.
    found = np.ones_like(x)
    for _ in range(abs(y)) if abs(y) <= 4 else ():
        found = found * x
    if abs(y) > 4:
        found = np.power(x, abs(y))
    return 1 / found if y < 0 else found


def _logical(of_numbers: np.ufunc, of_truths: np.ufunc) -> Compute:
    return lambda p, *x: (of_truths if x[0].dtype == np.bool_ else of_numbers)(*x)


EXACT: dict[str, Compute] = {
    "abs": _plain(np.abs),
    "and": _logical(np.bitwise_and, np.logical_and),
    "argmax": _argument(np.argmax),
    "argmin": _argument(np.argmin),
    "broadcast_in_dim": _broadcast,
    "ceil": _plain(np.ceil),
    "clamp": lambda p, low, x, high: np.minimum(np.maximum(x, low), high),
    "complex": lambda p, x, y: x + 1j * y,
    "concatenate": lambda p, *x: np.concatenate(x, axis=p["dimension"]),
    "conj": _plain(np.conj),
    "copy": _plain(np.asarray),
    "copy_p": _plain(np.asarray),
    "cummax": _running(np.maximum),
    "cummin": _running(np.minimum),
    "device_put": lambda p, *x: list(x),
    "dynamic_slice": lambda p, x, *starts: x[_window(x.shape, p["slice_sizes"], starts)],
    "dynamic_update_slice": _update,
    "empty": lambda p: np.zeros(p["shape"], wide(p["dtype"])),
    "empty2": lambda p: np.zeros((), wide(p["dtype"])),
    "eq": _plain(np.equal),
    "expand_dims": lambda p, x: np.expand_dims(x, tuple(p["dimensions"])),
    "floor": _plain(np.floor),
    "ge": _plain(np.greater_equal),
    "gt": _plain(np.greater),
    "imag": _plain(np.imag),
    "iota": _iota,
    "is_finite": _plain(np.isfinite),
    "le": _plain(np.less_equal),
    "lt": _plain(np.less),
    "max": _plain(np.maximum),
    "min": _plain(np.minimum),
    "ne": _plain(np.not_equal),
    "neg": _plain(np.negative),
    "not": _logical(np.invert, np.logical_not),
    "optimization_barrier": lambda p, *x: list(x),
    "or": _logical(np.bitwise_or, np.logical_or),
    "pad": _pad,
    "real": _plain(np.real),
    "reduce_and": _over_axes(np.all),
    "reduce_max": _over_axes(np.max),
    "reduce_min": _over_axes(np.min),
    "reduce_or": _over_axes(np.any),
    "rem": _plain(np.fmod),
    "reshape": _reshape,
    "rev": lambda p, x: np.flip(x, tuple(p["dimensions"])),
    "round": _round,
    "select_n": _select,
    "sharding_constraint": _plain(np.asarray),
    "sign": _plain(np.sign),
    "slice": _slice,
    "split": _split,
    "squeeze": lambda p, x: x.reshape([size for axis, size in enumerate(x.shape) if axis not in p["dimensions"]]),
    "stack": lambda p, *x: np.stack(x, axis=p["axis"]),
    "stop_gradient": _plain(np.asarray),
    "tile": lambda p, x: np.tile(x, p["reps"]),
    "transpose": lambda p, x: x.transpose(p["permutation"]),
    "unstack": lambda p, x: [np.take(x, at, axis=p["axis"]) for at in range(x.shape[p["axis"]])],
    "xor": _logical(np.bitwise_xor, np.logical_xor),
}
"""They select, compare, count or move numbers: nothing needs rounding."""

KERNELS_EXACT = {
    "clz", "gather", "population_count", "random_bits", "random_clone", "random_fold_in", "random_seed", "random_split",
    "random_unwrap", "random_wrap", "reduce_window_max", "reduce_window_min", "reduce_xor", "rng_bit_generator",
    "scatter", "scatter-max", "scatter-min", "select_and_gather_add", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sort", "threefry2x32", "top_k",
}  # fmt: skip
"""As `EXACT`, by JAX's own kernels."""

BITWISE = {
    "bitcast_convert_type", "nextafter", "reduce_precision",
}  # fmt: skip
"""They depend on how a number is written: they get it in the dtype that the program says."""

ELEMENTWISE: dict[str, tuple[Compute, float]] = {
    "add": (_plain(np.add), 1),
    "add_any": (_plain(np.add), 1),
    "cbrt": (_plain(np.cbrt), 2),
    "cos": (_plain(np.cos), 2),
    "cosh": (_plain(np.cosh), 2),
    "acos": (_plain(np.arccos), 2),
    "acosh": (_plain(np.arccosh), 2),
    "asin": (_plain(np.arcsin), 2),
    "asinh": (_plain(np.arcsinh), 2),
    "atan": (_plain(np.arctan), 2),
    "atan2": (_plain(np.arctan2), 2),
    "atanh": (_plain(np.arctanh), 2),
    "div": (_divide, 1),
    "exp": (_plain(np.exp), 2),
    "exp2": (_plain(np.exp2), 2),
    "expm1": (_plain(np.expm1), 2),
    "log": (_plain(np.log), 2),
    "log1p": (_plain(np.log1p), 2),
    "integer_pow": (_power, 1),
    "logistic": (lambda p, x: 1 / (1 + np.exp(-x)), 2),
    "mul": (_plain(np.multiply), 1),
    "pow": (lambda p, x, y: np.power(x, y), 2),
    "rsqrt": (lambda p, x: 1 / np.sqrt(x), 2),
    "sin": (_plain(np.sin), 2),
    "sinh": (_plain(np.sinh), 2),
    "sqrt": (_plain(np.sqrt), 1),
    "square": (_plain(np.square), 1),
    "sub": (_plain(np.subtract), 1),
    "tan": (_plain(np.tan), 2),
    "tanh": (_plain(np.tanh), 2),
}
"""In unit roundoffs: basic operations are correctly rounded, mathematical libraries miss by about one more."""

KERNELS_ELEMENTWISE = {"erf": 2.0, "erf_inv": 2.0, "erfc": 2.0, "scatter-mul": 2.0}
"""As `ELEMENTWISE`, by JAX's own kernels."""

SUMS = {
    "conv_general_dilated": sums.convolution,
    "dot_general": sums.product,
    "reduce_sum": sums.reduction,
    "reduce_window_sum": sums.pooling,
    "scatter-add": sums.scattered,
    "scatter-sub": sums.scattered_away,
    "select_and_scatter_add": sums.of_picked,
}

RUNNING = {
    "cumlogsumexp": sums.log_so_far,
    "cumprod": sums.product_so_far,
    "cumsum": sums.so_far,
    "reduce_prod": sums.whole_product,
}

CALLS = {
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call",
    "custom_vjp_call_jaxpr", "custom_vmap_call", "composite",
}  # fmt: skip
"""They do what the program inside them does."""

RANDOM = {
    "_uniform", "_normal", "_normal_real", "_truncated_normal", "_bernoulli", "_gumbel", "_exponential", "_laplace",
    "_logistic", "_cauchy", "_rademacher", "_randint", "_shuffle", "_permutation", "_choice", "_categorical", "_beta",
    "_dirichlet", "_t", "_rayleigh",
}  # fmt: skip
"""Functions of `jax.random` as a program names them: what they draw is given, not computed."""


def power_units(exponent: int) -> float:
    """Of `integer_pow`: a rounding for each product, and one for a quotient."""
    products = min(abs(exponent) - 1, 2 * math.log2(max(1, abs(exponent))))
    return max(1.0, products + (exponent < 0))


def is_key(aval: Any) -> bool:
    """Whether a value is of random keys, which NumPy does not have."""
    return hasattr(aval, "dtype") and bool(jnp.issubdtype(aval.dtype, jax.dtypes.extended))


def wide(dtype: Any) -> Any:
    """The dtype in which values of `dtype` are held."""
    if jnp.issubdtype(dtype, np.floating):
        return np.dtype(np.float64)
    return np.dtype(np.complex128) if jnp.issubdtype(dtype, np.complexfloating) else dtype


def widened(value: Any) -> Any:
    """An argument, a literal or what a kernel returned, as it is held here."""
    if isinstance(value, jax.Array) and is_key(value):
        return value
    found = np.asarray(value)
    return found.astype(wide(found.dtype), copy=False)
