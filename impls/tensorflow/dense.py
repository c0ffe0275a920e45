"""Fully connected layers in Keras, and where their weights sit."""

from __future__ import annotations

import keras
import tensorflow as tf

from faceoff.core.spec import DenseSpec


class Network(keras.Model):
    """Dense layers with an activation after each but the last.

    Args:
        spec: the sizes and the activation.
        mode: not needed, the layers are the same in every mode.
    """

    def __init__(self, spec: DenseSpec, mode: str) -> None:
        super().__init__(name="network")
        activations = [spec.activation] * (spec.num_layers - 1) + [None]
        self.stack = [
            keras.layers.Dense(size, activation=activation, name=f"layer.{index}")
            for index, (size, activation) in enumerate(zip(spec.layer_sizes[1:], activations, strict=True))
        ]

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps `x` `(batch_size, input_size)` to logits `(batch_size, output_size)`."""
        for layer in self.stack:
            x = layer(x)
        return x


def weight_map(spec: DenseSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the path of the Keras variable and the axes that transpose canonical to Keras."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for index in range(spec.num_layers):
        found[f"layer.{index}.weight"] = f"network/layer.{index}/kernel", (1, 0)
        found[f"layer.{index}.bias"] = f"network/layer.{index}/bias", (0,)
    return found


def ledger(spec: DenseSpec, mode: str) -> dict[str, str]:
    """Kernel and layout."""
    return {"kernel": "one matrix product a layer", "layout": "kernels (input_size, output_size)"}
