"""The matrix products of recurrent layers: on a CPU one a time step, on a GPU the inputs' before the loop.

A GPU reads a kernel anew in every time step, so the fewer the better. On a CPU it gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .gpu import on_gpu

Sums = Callable[[jax.Array, jax.Array], jax.Array]


def over_time(x: jax.Array, w_x: jax.Array, w_h: jax.Array, bias: jax.Array) -> tuple[jax.Array, Sums]:
    """What a loop over time goes over, and what makes a time step's sums of its part and the state before.

    Args:
        x: `(sequence_length, batch_size, input_size)`.
        w_x, w_h: kernels, `(input_size, output_size)`.
        bias: `(output_size,)`.
    """
    if on_gpu():
        return x @ w_x + bias, lambda x_t, h: x_t + h @ w_h
    kernel = jnp.concatenate([w_x, w_h])
    return x, lambda x_t, h: jnp.concatenate([x_t, h], axis=-1) @ kernel + bias
