"""Vanilla recurrent layers in Keras, and where their weights sit."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from faceoff.core.spec import RnnSpec

from .recurrent import CUDNN_KERNEL, CudnnLayer, ProjectedLayer, by_cudnn, on_gpu

# A graph grows with every time step, and so does the time to build or compile it.
UNROLL_LIMIT = 128


class Cell(keras.layers.SimpleRNNCell):
    """Keras' simple cell with the bias added last: oneDNN takes a sixth less time for that order in inference."""

    def call(self, sequence: tf.Tensor, states: list[tf.Tensor], training: bool = False) -> tuple[tf.Tensor, Any]:
        """One time step; `states` is `[h]`, `(batch_size, hidden_size)`."""
        products = tf.matmul(sequence, self.kernel) + tf.matmul(states[0], self.recurrent_kernel)
        h = self.activation(products + self.bias)
        return h, [h]


class ProjectedCell(keras.layers.SimpleRNNCell):
    """Keras' simple cell for inputs that its kernel and bias have met already."""

    def call(self, sequence: tf.Tensor, states: list[tf.Tensor], training: bool = False) -> tuple[tf.Tensor, Any]:
        """One time step; `sequence` is `(batch_size, hidden_size)`, `states` is `[h]`."""
        h = self.activation(sequence + tf.matmul(states[0], self.recurrent_kernel))
        return h, [h]


class Network(keras.Model):
    """Recurrent layers, then one dense layer on the last hidden state or on all of them.

    Args:
        spec: the sizes and the activation.
        mode: XLA's own loop is the faster one for inference on a CPU; else it is unrolled, in a graph up to a limit.
    """

    def __init__(self, spec: RnnSpec, mode: str) -> None:
        super().__init__(name="network")
        self.recurrent = []
        for index in range(spec.num_layers):
            every = spec.many_to_many or index < spec.num_layers - 1
            options = {"return_sequences": every, "name": f"layer.{index}"}
            # Values come later; an orthogonal start would take minutes for wide layers.
            cell = {"activation": spec.activation, "recurrent_initializer": "zeros", "name": "cell"}
            if by_cudnn(mode):
                kind = f"rnn_{spec.activation}"
                layer = CudnnLayer(keras.layers.SimpleRNNCell(spec.hidden_size, **cell), kind, **options)
            elif on_gpu():
                layer = ProjectedLayer(ProjectedCell(spec.hidden_size, **cell), **options)
            else:
                layer = keras.layers.RNN(Cell(spec.hidden_size, **cell), **options)
            self.recurrent.append(layer)
        self.head = keras.layers.Dense(spec.output_size, name="head")
        self.unrolls = {training: unrolls(spec, mode, training) for training in (False, True)}

    def call(self, x: tf.Tensor, h0: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps a sequence and the initial state to logits.

        Args:
            x: `(batch_size, sequence_length, input_size)`.
            h0: `(num_layers, batch_size, hidden_size)`.
            training: selects the loop; the values are the same.

        Returns:
            `(batch_size, output_size)`, or `(batch_size, sequence_length, output_size)` for many-to-many.
        """
        hidden = x
        for index, layer in enumerate(self.recurrent):
            layer.unroll = self.unrolls[training]
            hidden = layer(hidden, initial_state=[h0[index]], training=training)
        return self.head(hidden)


def unrolls(spec: RnnSpec, mode: str, training: bool) -> bool:
    """Whether the loop over time is unrolled."""
    short = spec.num_layers * spec.sequence_length <= UNROLL_LIMIT
    return {"eager": True, "xla": (training or on_gpu()) and short}.get(mode, short)


def weight_map(spec: RnnSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the path of the Keras variable and the axes that transpose canonical to Keras."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for index in range(spec.num_layers):
        path = f"network/layer.{index}/cell"
        found[f"layer.{index}.weight_ih"] = f"{path}/kernel", (1, 0)
        found[f"layer.{index}.weight_hh"] = f"{path}/recurrent_kernel", (1, 0)
        found[f"layer.{index}.bias"] = f"{path}/bias", (0,)
    found["head.weight"] = "network/head/kernel", (1, 0)
    found["head.bias"] = "network/head/bias", (0,)
    return found


def ledger(spec: RnnSpec, mode: str) -> dict[str, str]:
    """Kernel and layout."""
    if by_cudnn(mode):
        return {"kernel": CUDNN_KERNEL, "layout": "sequences (batch_size, sequence_length, input_size)"}
    products = "one matrix product for all inputs, one a step" if on_gpu() else "two matrix products a step"
    loops = {training: "unrolled" if unrolls(spec, mode, training) else "while loop" for training in (False, True)}
    return {
        "kernel": f"{products}; inference {loops[False]}, gradients and training {loops[True]}",
        "layout": "sequences (batch_size, sequence_length, input_size), time-major inside",
    }
