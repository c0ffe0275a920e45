"""LSTM layers in Flax NNX, and where their weights sit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from faceoff.core.spec import LstmSpec

from .gpu import on_gpu, steps_at_once

LEDGER = {
    "kernel": "scan over time, one matrix product a step (on a GPU unrolled, and one for all inputs first)",
    "layout": "time-major, kernels (input_size, output_size)",
}


class Cell(nnx.OptimizedLSTMCell):
    """Flax's LSTM cell with one matrix product a time step: of (x_t, h_{t-1}), on a GPU of h_{t-1}.

    On a CPU the joined product takes a seventh less time in inference than two, and in training there is one gradient
    to sum over time instead of two.
    """

    def project(self, sequence: jax.Array) -> jax.Array:
        """The inputs of all time steps as `sums` wants them: on a GPU their product and the bias, else as they are."""
        return self.dense_i(sequence) + self.dense_h.bias[...] if on_gpu() else sequence

    def sums(self, inputs: jax.Array, h: jax.Array) -> jax.Array:
        """What the gates are computed from, `(batch_size, 4 * hidden_size)`; `inputs` come from `project`."""
        if on_gpu():
            return inputs + h @ self.dense_h.kernel[...]
        kernel = jnp.concatenate([self.dense_i.kernel[...], self.dense_h.kernel[...]])
        return jnp.concatenate([inputs, h], axis=-1) @ kernel + self.dense_h.bias[...]

    def __call__(
        self, carry: tuple[jax.Array, jax.Array], inputs: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """One time step; `carry` is `(c, h)` as everywhere in Flax, each `(batch_size, hidden_size)`."""
        c, h = carry
        i, f, g, o = jnp.split(self.sums(inputs, h), 4, axis=-1)
        c = nnx.sigmoid(f) * c + nnx.sigmoid(i) * nnx.tanh(g)
        h = nnx.sigmoid(o) * nnx.tanh(c)
        return (c, h), h


class Network(nnx.Module):
    """LSTM layers, then one dense layer on the last hidden state or on all of them.

    Args:
        spec: the sizes.
        dtype: of the weights; the computation follows the weights and inputs.
        rngs: where Flax draws initial weights from.
    """

    CELL = Cell

    def __init__(self, spec: LstmSpec, dtype: Any, rngs: nnx.Rngs) -> None:
        sizes = [spec.input_size] + [spec.hidden_size] * (spec.num_layers - 1)
        # Values come later; an orthogonal start needs a decomposition that there is in wide dtypes alone.
        options: dict[str, Any] = {"recurrent_kernel_init": nnx.initializers.zeros_init(), "param_dtype": dtype}
        cells = [self.CELL(size, spec.hidden_size, rngs=rngs, **options) for size in sizes]
        unroll = steps_at_once(spec.sequence_length)
        self.layers = nnx.List(
            [nnx.RNN(cell, time_major=True, return_carry=True, unroll=unroll, rngs=False) for cell in cells]
        )
        self.head = nnx.Linear(spec.hidden_size, spec.output_size, param_dtype=dtype, rngs=rngs)
        self.many_to_many = spec.many_to_many

    def __call__(self, x: jax.Array, h0: jax.Array, c0: jax.Array) -> jax.Array:
        """Maps a sequence and the initial states to logits.

        Args:
            x: `(batch_size, sequence_length, input_size)`.
            h0, c0: `(num_layers, batch_size, hidden_size)`.

        Returns:
            `(batch_size, output_size)`, or `(batch_size, sequence_length, output_size)` for many-to-many.
        """
        hidden = x.swapaxes(0, 1)
        for index, layer in enumerate(self.layers):
            (_, last), hidden = layer(layer.cell.project(hidden), initial_carry=(c0[index], h0[index]))
            self.sow(nnx.Intermediate, f"layer.{index}", hidden.swapaxes(0, 1))
        return self.head(hidden.swapaxes(0, 1) if self.many_to_many else last)


def weight_map(spec: LstmSpec) -> dict[str, tuple[tuple[Any, ...], tuple[int, ...]]]:
    """Canonical name to the path of the Flax variable and the axes that transpose canonical to Flax."""
    found: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {}
    for index in range(spec.num_layers):
        cell = ("layers", index, "cell")
        found[f"layer.{index}.weight_ih"] = (*cell, "dense_i", "kernel"), (1, 0)
        found[f"layer.{index}.weight_hh"] = (*cell, "dense_h", "kernel"), (1, 0)
        found[f"layer.{index}.bias"] = (*cell, "dense_h", "bias"), (0,)
    found["head.weight"] = ("head", "kernel"), (1, 0)
    found["head.bias"] = ("head", "bias"), (0,)
    return found
