"""Backpropagation through time by hand: what recurrent layers do in the mode `tuned`.

What JAX derives from a scan adds up each weight's gradient in every time step. Here the backward scan only passes the
gradient of the state on, and one matrix product over all time steps makes each weight's gradient afterwards. All arrays
are time-major.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .gpu import steps_at_once
from .products import over_time

SLOPES = {"tanh": lambda h: 1 - h * h, "relu": lambda h: (h > 0).astype(h.dtype)}
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}
Arrays = tuple[jax.Array, ...]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rnn(activation: str, x: jax.Array, h0: jax.Array, w_x: jax.Array, w_h: jax.Array, bias: jax.Array) -> jax.Array:
    """Hidden states `(sequence_length, batch_size, hidden_size)`; kernels are `(input_size, output_size)`."""
    return _rnn_forward(activation, x, h0, w_x, w_h, bias)[0]


def _rnn_forward(activation: str, x: jax.Array, h0: jax.Array, *weights: jax.Array) -> tuple[jax.Array, Any]:
    w_x, w_h, _ = weights
    inputs, sums = over_time(x, *weights)

    def step(h: jax.Array, x_t: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = ACTIVATIONS[activation](sums(x_t, h))
        return h, h

    hidden = _scan(step, h0, inputs)[1]
    return hidden, (x, h0, w_x, w_h, hidden)


def _rnn_backward(activation: str, saved: Any, gradient: jax.Array) -> Arrays:
    x, h0, w_x, w_h, hidden = saved

    def step(arriving: jax.Array, at: Arrays) -> tuple[jax.Array, jax.Array]:
        leaving, h = at
        by_sum = (arriving + leaving) * SLOPES[activation](h)
        return by_sum @ w_h.T, by_sum

    by_h0, by_sums = _scan(step, jnp.zeros_like(h0), (gradient, hidden), reverse=True)
    before = jnp.concatenate([h0[None], hidden[:-1]])
    return by_sums @ w_x.T, by_h0, _over_time(x, by_sums), _over_time(before, by_sums), by_sums.sum((0, 1))


rnn.defvjp(_rnn_forward, _rnn_backward)


def separately(sums: jax.Array) -> Arrays:
    """The gates i, f, g, o, each by its own function."""
    i, f, g, o = jnp.split(sums, 4, axis=-1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


def by_one_tanh(sums: jax.Array) -> Arrays:
    """The gates i, f, g, o by one tanh, as σ(x) = ½ + ½ tanh(x/2)."""
    size = sums.shape[-1] // 4
    # Halved for the three sigmoid ones, whole for g.
    scale = jnp.concatenate([jnp.full(2 * size, 0.5), jnp.ones(size), jnp.full(size, 0.5)]).astype(sums.dtype)
    i, f, g, o = jnp.split(jnp.tanh(sums * scale), 4, axis=-1)
    return 0.5 + 0.5 * i, 0.5 + 0.5 * f, g, 0.5 + 0.5 * o


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def lstm(
    gates: Callable[[jax.Array], Arrays],
    x: jax.Array,
    h0: jax.Array,
    c0: jax.Array,
    w_x: jax.Array,
    w_h: jax.Array,
    bias: jax.Array,
) -> jax.Array:
    """Hidden states of an LSTM whose gates are `separately` or `by_one_tanh`."""
    return _lstm_forward(gates, x, h0, c0, w_x, w_h, bias)[0]


def _lstm_forward(
    gates: Callable[[jax.Array], Arrays], x: jax.Array, h0: jax.Array, c0: jax.Array, *weights: jax.Array
) -> tuple[jax.Array, Any]:
    w_x, w_h, _ = weights
    inputs, sums = over_time(x, *weights)

    def step(carry: Arrays, x_t: jax.Array) -> tuple[Arrays, Arrays]:
        h, c = carry
        i, f, g, o = gates(sums(x_t, h))
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, jnp.concatenate([i, f, g, o], axis=-1))

    hidden, cells, opened = _scan(step, (h0, c0), inputs)[1]
    return hidden, (x, h0, c0, w_x, w_h, hidden, cells, opened)


def _lstm_backward(gates: Callable[[jax.Array], Arrays], saved: Any, gradient: jax.Array) -> Arrays:
    x, h0, c0, w_x, w_h, hidden, cells, opened = saved
    cells_before = jnp.concatenate([c0[None], cells[:-1]])

    def step(arriving: Arrays, at: Arrays) -> tuple[Arrays, jax.Array]:
        by_h, by_c = arriving
        leaving, c, c_before, at_once = at
        i, f, g, o = jnp.split(at_once, 4, axis=-1)
        by_h, curved = by_h + leaving, jnp.tanh(c)
        by_c = by_c + by_h * o * (1 - curved * curved)
        by_sum = jnp.concatenate(
            [
                by_c * g * i * (1 - i),
                by_c * c_before * f * (1 - f),
                by_c * i * (1 - g * g),
                by_h * curved * o * (1 - o),
            ],
            axis=-1,
        )
        return (by_sum @ w_h.T, by_c * f), by_sum

    start = (jnp.zeros_like(h0), jnp.zeros_like(c0))
    (by_h0, by_c0), by_sums = _scan(step, start, (gradient, cells, cells_before, opened), reverse=True)
    before = jnp.concatenate([h0[None], hidden[:-1]])
    return by_sums @ w_x.T, by_h0, by_c0, _over_time(x, by_sums), _over_time(before, by_sums), by_sums.sum((0, 1))


lstm.defvjp(_lstm_forward, _lstm_backward)


def _scan(step: Callable[..., Any], start: Any, over: Any, reverse: bool = False) -> tuple[Any, Any]:
    steps = len(jax.tree.leaves(over)[0])
    return jax.lax.scan(step, start, over, reverse=reverse, unroll=steps_at_once(steps))


def _over_time(values: jax.Array, by_sums: jax.Array) -> jax.Array:
    """The gradient of a kernel that `values` were multiplied with: one product over all time steps and examples."""
    return values.reshape(-1, values.shape[-1]).T @ by_sums.reshape(-1, by_sums.shape[-1])
