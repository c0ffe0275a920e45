"""Fully connected layers in Flax NNX, and where their weights sit."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from faceoff.core.spec import DenseSpec

ACTIVATIONS = {"relu": nnx.relu, "tanh": nnx.tanh}
LEDGER = {"kernel": "one matrix product a layer", "layout": "kernels (input_size, output_size)"}


class Network(nnx.Module):
    """Linear layers with an activation after each but the last.

    Args:
        spec: the sizes and the activation.
        dtype: of the weights; the computation follows the weights and inputs.
        rngs: where Flax draws initial weights from.
    """

    def __init__(self, spec: DenseSpec, dtype: Any, rngs: nnx.Rngs) -> None:
        sizes = zip(spec.layer_sizes[:-1], spec.layer_sizes[1:], strict=True)
        self.layers = nnx.List([nnx.Linear(fan_in, fan_out, param_dtype=dtype, rngs=rngs) for fan_in, fan_out in sizes])
        self.activation = ACTIVATIONS[spec.activation]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `x` `(batch_size, input_size)` to logits `(batch_size, output_size)`."""
        *hidden, last = self.layers
        for index, layer in enumerate(hidden):
            x = self.activation(layer(x))
            self.sow(nnx.Intermediate, f"layer.{index}", x)
        return last(x)


def weight_map(spec: DenseSpec) -> dict[str, tuple[tuple[Any, ...], tuple[int, ...]]]:
    """Canonical name to the path of the Flax variable and the axes that transpose canonical to Flax."""
    found: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {}
    for index in range(spec.num_layers):
        found[f"layer.{index}.weight"] = ("layers", index, "kernel"), (1, 0)
        found[f"layer.{index}.bias"] = ("layers", index, "bias"), (0,)
    return found
