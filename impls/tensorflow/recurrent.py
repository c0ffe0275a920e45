"""Recurrent layers beyond Keras' own: by cuDNN, or with the input product of all time steps made at once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

CUDNN_KERNEL = "cuDNN, one call a layer, its weights copied together at every call; bfloat16 in float32"


def on_gpu() -> bool:
    """Whether this process computes on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def by_cudnn(mode: str) -> bool:
    """Whether cuDNN's kernels run the time steps; XLA cannot compile them."""
    return mode != "xla" and on_gpu()


class ProjectedLayer(keras.layers.RNN):
    """Makes the input product of all time steps at once, bias added, for a cell that wants it so.

    Up to a fifth faster for an LSTM on a CPU, but not under XLA. A GPU reads weights anew in every time step.
    """

    def call(self, sequences: tf.Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Hidden states from `(batch_size, sequence_length, input_size)`."""
        projected = tf.tensordot(sequences, self.cell.kernel, 1) + self.cell.bias
        return super().call(projected, initial_state=initial_state, mask=mask, training=training)


class CudnnLayer(keras.layers.RNN):
    """cuDNN's kernel for the weights of a Keras cell, which itself is never called.

    Keras calls it for LSTM alone, and in inference too as if gradients were wanted. bfloat16 is cast to float32, as
    TensorFlow's kernel does by itself, but version 2.21 takes gradients from memory then that nobody has written.

    Args:
        cell: whose weights and sizes count.
        kind: `lstm`, `rnn_tanh` or `rnn_relu`.
        options: as of `keras.layers.RNN`.
    """

    def __init__(self, cell: keras.layers.Layer, kind: str, **options: Any) -> None:
        super().__init__(cell, **options)
        self.kind = kind

    def call(self, sequences: tf.Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Hidden states, or the last one, from `(batch_size, sequence_length, input_size)`."""
        bias = tf.convert_to_tensor(self.cell.bias)
        kernels = tf.transpose(self.cell.kernel), tf.transpose(self.cell.recurrent_kernel)
        # cuDNN has a second bias.
        flat = tf.concat([tf.reshape(part, [-1]) for part in (*kernels, bias, tf.zeros_like(bias))], 0)
        narrow = sequences.dtype == tf.bfloat16
        dtype = tf.float32 if narrow else sequences.dtype
        # One layer, behind the batch as the time steps are.
        h, *c = (tf.cast(state[:, None], dtype) for state in initial_state)
        batch_size, steps = sequences.shape[:2]
        hidden, last, *_ = tf.raw_ops.CudnnRNNV3(
            input=tf.cast(sequences, dtype), input_h=h, input_c=c[0] if c else tf.zeros((), dtype),
            params=tf.cast(flat, dtype), sequence_lengths=tf.constant(np.full(batch_size, steps, np.int32)),
            rnn_mode=self.kind, is_training=training, time_major=False,
            # Of dropout, which there is none of. A kernel of other attributes is another one, with TF32 or without.
            seed=int(narrow),
        )  # fmt: skip
        return tf.cast(hidden if self.return_sequences else last[:, 0], sequences.dtype)
