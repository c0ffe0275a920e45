"""LSTM layers in Keras, and where their weights sit."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from faceoff.core.spec import LstmSpec

from .recurrent import CUDNN_KERNEL, CudnnLayer, ProjectedLayer, by_cudnn, on_gpu

# A graph grows with every time step, and so does the time to build it.
UNROLL_LIMIT = 128


class ProjectedCell(keras.layers.LSTMCell):
    """Keras' LSTM cell for inputs that its kernel and bias have met already."""

    def call(self, sequence: tf.Tensor, states: list[tf.Tensor], training: bool = False) -> tuple[tf.Tensor, Any]:
        """One time step; `sequence` is `(batch_size, 4 * hidden_size)`, `states` is `[h, c]`."""
        h, c = states
        i, f, g, o = tf.split(sequence + tf.matmul(h, self.recurrent_kernel), 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        return h, [h, c]


class Network(keras.Model):
    """LSTM layers, then one dense layer on the last hidden state or on all of them.

    Args:
        spec: the sizes.
        mode: see `kernel_in`.
    """

    def __init__(self, spec: LstmSpec, mode: str) -> None:
        super().__init__(name="network")
        kernel = kernel_in(spec, mode)
        self.recurrent = []
        for index in range(spec.num_layers):
            options = {
                "return_sequences": spec.many_to_many or index < spec.num_layers - 1,
                "unroll": kernel == "unrolled",
                "name": f"layer.{index}",
            }
            # Values come later; an orthogonal start would take minutes for wide layers.
            zeros = {"recurrent_initializer": "zeros"}
            cell = {"name": "lstm_cell", **zeros}
            if by_cudnn(mode):
                layer = CudnnLayer(keras.layers.LSTMCell(spec.hidden_size, **cell), "lstm", **options)
            elif projects(mode):
                layer = ProjectedLayer(ProjectedCell(spec.hidden_size, **cell), **options)
            else:
                layer = keras.layers.LSTM(spec.hidden_size, use_cudnn=False, **zeros, **options)
            self.recurrent.append(layer)
        self.head = keras.layers.Dense(spec.output_size, name="head")

    def call(self, x: tf.Tensor, h0: tf.Tensor, c0: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps a sequence and the initial states to logits.

        Args:
            x: `(batch_size, sequence_length, input_size)`.
            h0, c0: `(num_layers, batch_size, hidden_size)`.
            training: makes no difference, there is no dropout.

        Returns:
            `(batch_size, output_size)`, or `(batch_size, sequence_length, output_size)` for many-to-many.
        """
        hidden = x
        for index, layer in enumerate(self.recurrent):
            hidden = layer(hidden, initial_state=[h0[index], c0[index]], training=training)
        return self.head(hidden)


def kernel_in(spec: LstmSpec, mode: str) -> str:
    """What runs the time steps: `cuDNN`, `unrolled` or `while loop`.

    XLA takes long for an unrolled loop, and gains nothing by it on a CPU; on a GPU it joins the kernels of successive
    time steps and launches them together. Without a graph nothing grows.
    """
    if by_cudnn(mode):
        return "cuDNN"
    short = spec.num_layers * spec.sequence_length <= UNROLL_LIMIT
    return "unrolled" if {"eager": True, "xla": on_gpu() and short}.get(mode, short) else "while loop"


def projects(mode: str) -> bool:
    """Whether the input product of all time steps is made at once, before a loop."""
    return mode != "xla" or on_gpu()


def weight_map(spec: LstmSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the path of the Keras variable and the axes that transpose canonical to Keras.

    Keras names its gates i, f, c, o: its c is the canonical g, so the order is the same.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for index in range(spec.num_layers):
        cell = f"network/layer.{index}/lstm_cell"
        found[f"layer.{index}.weight_ih"] = f"{cell}/kernel", (1, 0)
        found[f"layer.{index}.weight_hh"] = f"{cell}/recurrent_kernel", (1, 0)
        found[f"layer.{index}.bias"] = f"{cell}/bias", (0,)
    found["head.weight"] = "network/head/kernel", (1, 0)
    found["head.bias"] = "network/head/bias", (0,)
    return found


def ledger(spec: LstmSpec, mode: str) -> dict[str, str]:
    """Kernel and layout."""
    kernel = kernel_in(spec, mode)
    products = "one matrix product for all inputs, one a step" if projects(mode) else "two matrix products a step"
    return {
        "kernel": CUDNN_KERNEL if kernel == "cuDNN" else f"{products}, {kernel}",
        "layout": "sequences (batch_size, sequence_length, input_size), "
        f"{'' if kernel == 'cuDNN' else 'time-major inside; '}gates i, f, c (g), o",
    }
