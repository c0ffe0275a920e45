"""What is known of PyTorch's operations by name: which are exact, which round once, which twice."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch

# They select, compare, move or make numbers, or change a sign: no result needs rounding.
_EXACT = """
    relu threshold threshold_backward hardtanh hardtanh_backward neg abs sign sgn maximum minimum fmax fmin where clamp
    clamp_min clamp_max amax amin aminmax max min argmax argmin topk sort msort kthvalue median nanmedian mode cummax
    cummin floor ceil round trunc heaviside isnan isinf isfinite nan_to_num copysign masked_fill masked_scatter
    masked_select eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not
    bitwise_xor bitwise_left_shift bitwise_right_shift any all nonzero searchsorted bucketize bincount histc one_hot
    max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d
    fractional_max_pool3d max_unpool2d max_unpool3d gather index _unsafe_index index_select index_fill index_copy
    embedding take put scatter select_backward slice_backward diagonal_backward select_scatter slice_scatter
    diagonal_scatter as_strided_scatter constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d im2col tril triu tril_indices triu_indices cat stack flip roll
    repeat rot90 channel_shuffle pixel_shuffle pixel_unshuffle unsafe_split unsafe_split_with_sizes unsafe_chunk
    split_copy split_with_sizes_copy unbind_copy view_copy expand_copy permute_copy upsample_nearest1d
    upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    copy copy_ clone contiguous lift_fresh lift_fresh_copy _to_copy convert_element_type detach _unsafe_view reshape
    _reshape_alias set resize resize_as fill zero zeros ones full empty empty_like zeros_like ones_like full_like
    new_zeros new_ones new_full new_empty new_empty_strided empty_strided empty_permuted scalar_tensor arange eye iota
    hardshrink hardshrink_backward softshrink_backward masked_scatter_backward _unique2 unique_consecutive unique_dim
    frexp complex _pack_padded_sequence _pack_padded_sequence_backward
    _conj_physical lu_unpack histogram
    item _local_scalar_dense is_same_size equal randperm randint rand_like randn_like randint_like bernoulli
    copy_strided uniform normal normal_functional exponential multinomial random geometric log_normal
    cauchy broadcast_in_dim
"""

# Functions that libraries compute to about two unit roundoffs; basic operations are correctly rounded.
_TWICE = """
    exp exp2 expm1 log log1p log2 log10 tanh sigmoid pow erf erfc erfinv sin cos tan sinh cosh asin acos atan atan2
    asinh acosh atanh rsqrt lgamma digamma polygamma mvlgamma hypot special_erfcx special_ndtri special_log_ndtr
    special_i0e special_i1 special_i1e special_bessel_j0 special_bessel_j1 igamma igammac i0 xlogy fmod remainder
"""
_ONCE = "add sub rsub mul div true_divide reciprocal sqrt square"
EXACT, TWICE, ONCE = (frozenset(names.split()) for names in (_EXACT, _TWICE, _ONCE))

# They change how a tensor lies, in place.
VIEWS_IN_PLACE = frozenset(
    ["transpose_", "t_", "squeeze_", "unsqueeze_", "as_strided_", "detach_", "swapaxes_", "swapdims_", "requires_grad_"]
)
# They draw other numbers in another dtype.
RANDOM = frozenset(["rand", "randn"])


def name_of(func: Any) -> str:
    """`add_` for `aten.add_.Tensor`."""
    return str(func._schema.name).split("::")[1]


@functools.cache
def is_view(func: Any) -> bool:
    """Whether it returns a view of what it is given, and changes nothing."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


@functools.cache
def is_in_place(func: Any) -> bool:
    """Whether it changes its first argument, and returns that."""
    first = func._schema.arguments[0].alias_info if func._schema.arguments else None
    return name_of(func).endswith("_") and first is not None and first.is_write


@functools.cache
def functional_twin(func: Any) -> Any | None:
    """The operation that returns what this one writes into an argument; None where there is none."""
    schema = func._schema
    given = [(a.name, str(a.type)) for a in schema.arguments if not a.is_out]
    packet = getattr(getattr(torch.ops, func.namespace), name_of(func).removesuffix("_"), None)
    for overload in packet.overloads() if packet is not None else ():
        twin = getattr(packet, overload)
        if not twin._schema.is_mutable and [(a.name, str(a.type)) for a in twin._schema.arguments] == given:
            return twin
    return None


@functools.cache
def outputs_of(func: Any) -> tuple[str, ...]:
    """The names of the arguments that an operation with `out` writes into."""
    return tuple(argument.name for argument in func._schema.arguments if argument.is_out)


def is_exact_here(name: str, args: Any, kwargs: Any) -> bool:
    """Whether an operation needs no rounding with these arguments."""
    if name in ("scatter_reduce", "index_reduce"):
        return args[4] in ("amax", "amin")
    if name == "div" and kwargs.get("rounding_mode") is not None:
        return True  # A whole number.
    if name not in ("mul", "div"):
        return False
    if name == "mul" and any(isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in args[:2]):
        return True  # A mask selects.
    factor = args[1]
    return isinstance(factor, (int, float)) and is_power_of_two(factor)


def is_power_of_two(value: float) -> bool:
    """Whether a product with it is exact; with zero too."""
    return math.frexp(abs(value))[0] in (0.0, 0.5)


def tensors_in(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors among arguments or results, also inside lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def rounds_wide(x: torch.Tensor) -> bool:
    """Whether its numbers are rounded to float64, or whole ones, and all of them stored."""
    wide = x.dtype == torch.float64 or not (x.is_floating_point() or x.is_complex())
    return wide and x.layout == torch.strided


def is_complex(value: Any) -> bool:
    """Whether it is a complex number, or a tensor of them."""
    return isinstance(value, complex) or (isinstance(value, torch.Tensor) and value.is_complex())


def kind_of(x: torch.Tensor) -> str:
    """What is unusual of it, in a word: `bfloat16`, `sparse_coo`."""
    return str(x.dtype if x.layout == torch.strided else x.layout).removeprefix("torch.")
