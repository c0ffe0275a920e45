"""Vanilla recurrent layers in Flax NNX, and where their weights sit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from faceoff.core.spec import RnnSpec

from .gpu import on_gpu, steps_at_once

ACTIVATIONS = {"relu": nnx.relu, "tanh": nnx.tanh}
LEDGER = {
    "kernel": "scan over time, two matrix products a step, in training one "
    "(on a GPU unrolled, and one for all inputs first)",
    "layout": "time-major, kernels (input_size, output_size)",
}


class Cell(nnx.SimpleCell):
    """Flax's simple cell, with its two matrix products joined in training, or on a GPU that of inputs made.

    One product of (x_t, h_{t-1}) has one gradient to sum over time where two have two: backward it is up to a fifth
    faster, forward on its own it gains nothing.
    """

    # What `Module.train` and `Module.eval` set in every layer that has it.
    deterministic = True

    def project(self, sequence: jax.Array) -> jax.Array:
        """The inputs of all time steps as a step wants them: on a GPU their product and the bias, else as they are."""
        return self.dense_i(sequence) if on_gpu() else sequence

    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One time step; `carry` is h `(batch_size, hidden_size)`, `inputs` come from `project`."""
        if on_gpu():
            h = self.activation_fn(inputs + self.dense_h(carry))
            return h, h
        if self.deterministic:
            return super().__call__(carry, inputs)
        kernel = jnp.concatenate([self.dense_i.kernel[...], self.dense_h.kernel[...]])
        h = self.activation_fn(jnp.concatenate([inputs, carry], axis=-1) @ kernel + self.dense_i.bias[...])
        return h, h


class Network(nnx.Module):
    """Recurrent layers, then one dense layer on the last hidden state or on all of them.

    Args:
        spec: the sizes and the activation.
        dtype: of the weights; the computation follows the weights and inputs.
        rngs: where Flax draws initial weights from.
    """

    def __init__(self, spec: RnnSpec, dtype: Any, rngs: nnx.Rngs) -> None:
        sizes = [spec.input_size] + [spec.hidden_size] * (spec.num_layers - 1)
        options: dict[str, Any] = {
            "activation_fn": ACTIVATIONS[spec.activation],
            # Values come later; an orthogonal start needs a decomposition that there is in wide dtypes alone.
            "recurrent_kernel_init": nnx.initializers.zeros_init(),
            # Without a dtype of its own a cell computes in that of its weights and inputs.
            "dtype": None,
            "param_dtype": dtype,
        }
        cells = [Cell(size, spec.hidden_size, rngs=rngs, **options) for size in sizes]
        unroll = steps_at_once(spec.sequence_length)
        self.layers = nnx.List(
            [nnx.RNN(cell, time_major=True, return_carry=True, unroll=unroll, rngs=False) for cell in cells]
        )
        self.head = nnx.Linear(spec.hidden_size, spec.output_size, param_dtype=dtype, rngs=rngs)
        self.many_to_many = spec.many_to_many

    def __call__(self, x: jax.Array, h0: jax.Array) -> jax.Array:
        """Maps a sequence and the initial states to logits.

        Args:
            x: `(batch_size, sequence_length, input_size)`.
            h0: `(num_layers, batch_size, hidden_size)`.

        Returns:
            `(batch_size, output_size)`, or `(batch_size, sequence_length, output_size)` for many-to-many.
        """
        hidden = x.swapaxes(0, 1)
        for index, layer in enumerate(self.layers):
            last, hidden = layer(layer.cell.project(hidden), initial_carry=h0[index])
            self.sow(nnx.Intermediate, f"layer.{index}", hidden.swapaxes(0, 1))
        return self.head(hidden.swapaxes(0, 1) if self.many_to_many else last)


def weight_map(spec: RnnSpec) -> dict[str, tuple[tuple[Any, ...], tuple[int, ...]]]:
    """Canonical name to the path of the Flax variable and the axes that transpose canonical to Flax."""
    found: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {}
    for index in range(spec.num_layers):
        cell = ("layers", index, "cell")
        found[f"layer.{index}.weight_ih"] = (*cell, "dense_i", "kernel"), (1, 0)
        found[f"layer.{index}.weight_hh"] = (*cell, "dense_h", "kernel"), (1, 0)
        found[f"layer.{index}.bias"] = (*cell, "dense_i", "bias"), (0,)
    found["head.weight"] = ("head", "kernel"), (1, 0)
    found["head.bias"] = ("head", "bias"), (0,)
    return found
