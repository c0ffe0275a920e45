"""How many operations the matrix products and convolutions of a program take, counted in its jaxpr."""

from __future__ import annotations

import math
from typing import Any

from .stochastic import inner_programs

# Products of which this knows no count.
UNCOUNTED = ("ragged_dot", "ragged_dot_general", "pallas_call")


def count_products(program: Any) -> int | None:
    """Multiplications and additions of all products and convolutions of a jaxpr, in its loops too.

    XLA's own estimate has loops only once, and counts additions of other kinds. None where a loop, of which nobody
    knows how often it is run, has products, or where something has them that is not known here.
    """
    total = 0
    for equation in program.eqns:
        found = _of_equation(equation)
        if found is None:
            return None
        total += found
    return total


def _of_equation(equation: Any) -> int | None:
    name, p = equation.primitive.name, equation.params
    inner = [count_products(getattr(part, "jaxpr", part)) for part in inner_programs(equation)]
    if name in UNCOUNTED or None in inner:
        return None
    counts = [count for count in inner if count is not None]
    if name == "scan":
        return int(p["length"]) * sum(counts)
    if name == "while":
        return None if any(counts) else 0
    if name == "cond":
        return max(counts)
    if inner:
        return sum(counts)
    if name == "dot_general":
        (contracted, _), _ = p["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    return _of_convolution(equation) if name == "conv_general_dilated" else 0


def _of_convolution(equation: Any) -> int:
    p, right, result = equation.params, equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    _, inputs, *kernel = p["dimension_numbers"].rhs_spec
    batch, features, *places = p["dimension_numbers"].out_spec
    total = 2 * result[batch] * result[features] * right[inputs]
    for number, (place, within) in enumerate(zip(places, kernel, strict=True)):
        step, (low, _) = p["window_strides"][number], p["padding"][number]
        apart, spread = p["lhs_dilation"][number], p["rhs_dilation"][number]
        # Between the numbers of a transposed convolution stand zeros, with which nothing need be multiplied.
        met = ((at * step + tap * spread - low) % apart for at in range(result[place]) for tap in range(right[within]))
        total *= sum(not rest for rest in met)
    return total
