"""One operation of a JAX program in stochastic arithmetic: its result, and the rounding of that."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .stochastic_primitives import (
    BITWISE,
    ELEMENTWISE,
    EXACT,
    KERNELS_ELEMENTWISE,
    KERNELS_EXACT,
    RUNNING,
    SUMS,
    is_key,
    power_units,
    wide,
    widened,
)
from .stochastic_rounding import Array, Rounding

SCATTERS = {
    "scatter": lax.scatter,
    "scatter-add": lax.scatter_add,
    "scatter-max": lax.scatter_max,
    "scatter-min": lax.scatter_min,
    "scatter-mul": lax.scatter_mul,
    "scatter-sub": lax.scatter_sub,
}


def is_taken_apart(equation: Any) -> bool:
    """Whether there is a rule for the rounding of this operation's results."""
    name = equation.primitive.name
    if name in EXACT or name in KERNELS_EXACT or name in BITWISE or name == "convert_element_type":
        return True
    kinds = [variable.aval.dtype for variable in equation.outvars if hasattr(variable.aval, "dtype")]
    if not any(jnp.issubdtype(kind, np.inexact) for kind in kinds):
        return True
    known = name in ELEMENTWISE or name in KERNELS_ELEMENTWISE or name in SUMS or name in RUNNING
    return known and not any(jnp.issubdtype(kind, np.complexfloating) for kind in kinds)


def apply(rounding: Rounding, equation: Any, ins: Sequence[Any]) -> list[Any]:
    """The results of one operation, rounded.

    Args:
        rounding: of this run.
        equation: of a jaxpr.
        ins: operands, wide.
    """
    name, p = equation.primitive.name, equation.params
    avals = [variable.aval for variable in equation.outvars]
    if not avals:
        # Printing and the like.
        return []
    if any(is_key(atom.aval) for atom in [*equation.invars, *equation.outvars]):
        return [widened(value) for value in _kernel(equation, ins)]
    grain = rounding.grain(next((aval.dtype for aval in avals if jnp.issubdtype(aval.dtype, np.floating)), np.float64))
    bind = partial(_bind, equation)
    if name in EXACT:
        found = EXACT[name](p, *ins)
    elif name == "convert_element_type":
        found = _cast(rounding, equation, ins[0])
    elif name in BITWISE or not is_taken_apart(equation):
        found = _as_declared(rounding, equation, ins)
    elif name in KERNELS_EXACT:
        found = _kernel(equation, ins)
    elif name in ELEMENTWISE:
        compute, units = ELEMENTWISE[name]
        found = compute(p, *ins)
        if jnp.issubdtype(avals[0].dtype, np.floating):
            units = power_units(p["y"]) if name == "integer_pow" else units
            found = rounding.elementwise(np.asarray(found), units, grain)
    elif not jnp.issubdtype(avals[0].dtype, np.floating):
        found = _kernel(equation, ins)
    elif name in KERNELS_ELEMENTWISE:
        found = rounding.elementwise(bind(*ins), KERNELS_ELEMENTWISE[name], grain)
    elif name in SUMS:
        found = rounding.summed(SUMS[name](rounding, p, bind, *ins), grain)
    else:
        found = RUNNING[name](rounding, grain, p, *ins)
    several = isinstance(found, (list, tuple))
    return [_as(value, aval.dtype) for value, aval in zip(found if several else [found], avals, strict=True)]


def _as(value: Any, dtype: Any) -> Array:
    found = np.asarray(value)
    return found.astype(wide(dtype), copy=False)


def _kernel(equation: Any, ins: Sequence[Any], **changed: Any) -> list[Any]:
    """JAX's own kernel, on operands of other dtypes."""
    if scatter := SCATTERS.get(equation.primitive.name):
        # The primitive itself holds a program for the dtypes that it was traced with.
        options = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        return [scatter(*ins, **{name: equation.params[name] for name in options})]
    found = equation.primitive.bind(*ins, **{**equation.params, **changed})
    return list(found) if equation.primitive.multiple_results else [found]


def _bind(equation: Any, *ins: Array) -> Array:
    """The same with whatever else its result would be cast to left out."""
    changed = {"preferred_element_type": None} if "preferred_element_type" in equation.params else {}
    return np.asarray(_kernel(equation, ins, **changed)[0])


def _cast(rounding: Rounding, equation: Any, x: Array) -> Array:
    (source,), (aval,) = equation.invars, equation.outvars
    before, after = source.aval.dtype, aval.aval.dtype
    if jnp.issubdtype(after, np.complexfloating):
        return x.astype(np.complex128)
    if not jnp.issubdtype(after, np.floating):
        # Towards zero, and what does not fit is the nearest that does.
        return np.asarray(_kernel(equation, [x])[0]) if x.dtype == np.float64 else x
    coarser = not jnp.issubdtype(before, np.floating) or rounding.grain(after).unit > rounding.grain(before).unit
    x = x.astype(np.float64)
    return rounding.elementwise(x, 1.0, rounding.grain(after)) if coarser else x


def _as_declared(rounding: Rounding, equation: Any, ins: Sequence[Any]) -> list[Array]:
    """An operation on numbers as the program writes them; unless it is about how they are written, rounded once."""
    narrow = [np.asarray(x).astype(atom.aval.dtype) for x, atom in zip(ins, equation.invars, strict=True)]
    if equation.primitive.name == "reduce_precision" and _is_own(equation):
        return [ins[0]]
    found = equation.primitive.bind(*narrow, **equation.primitive.get_bind_params(equation.params))
    results = [widened(value) for value in (found if equation.primitive.multiple_results else [found])]
    if equation.primitive.name in BITWISE:
        return results
    return [_disturbed(rounding, x, variable.aval) for x, variable in zip(results, equation.outvars, strict=True)]


def _is_own(equation: Any) -> bool:
    """Whether a number is to be rounded to its own dtype, which JAX asks for where it saves one for later."""
    kind = jnp.finfo(equation.outvars[0].aval.dtype)
    return (equation.params["exponent_bits"], equation.params["mantissa_bits"]) == (kind.nexp, kind.nmant)


def _disturbed(rounding: Rounding, x: Array, aval: Any) -> Array:
    if x.dtype == np.complex128:
        parts = [rounding.elementwise(part, 1.0, rounding.grain(aval.dtype)) for part in (x.real, x.imag)]
        return parts[0] + 1j * parts[1]
    return rounding.elementwise(x, 1.0, rounding.grain(aval.dtype)) if x.dtype == np.float64 else x
