"""cuDNN's recurrent layers in TensorFlow by hand: its operation called directly, for the vanilla cell as well."""

from __future__ import annotations

import tensorflow as tf

from faceoff.core.spec import LstmSpec, RecurrentSpec, RnnSpec
from tests.benchmarks.handwritten.tensorflow_update import Tensors


def recurrent(
    spec: RecurrentSpec, w: Tensors, inputs: Tensors, moved: Tensors | None, compiles: bool = False
) -> tf.Tensor:
    """Logits of the last time step, or of all: `(batch_size, sequence_length, output_size)`.

    Args:
        spec: the sizes.
        w: canonical weights of the layers, which is how cuDNN wants them; the head's transposed.
        inputs: `x` and the initial states.
        moved: None in inference, which needs no gradient.
        compiles: never.
    """
    hidden = inputs["x"]
    for index in range(spec.num_layers):
        weights = [w[f"layer.{index}.{part}"] for part in ("weight_ih", "weight_hh", "bias")]
        states = [inputs[name][index] for name in spec.state_names]
        hidden, last = layer(spec, hidden, states, weights, moved is not None)
    return tf.tensordot(hidden if spec.many_to_many else last, w["head.weight"], 1) + w["head.bias"]


def layer(
    spec: RecurrentSpec, x: tf.Tensor, states: list[tf.Tensor], weights: list[tf.Tensor], training: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """All hidden states of a layer, and the last one."""
    dtype, (weight_ih, weight_hh, bias) = x.dtype, weights
    flat = tf.concat([tf.reshape(weight_ih, [-1]), tf.reshape(weight_hh, [-1]), bias, tf.zeros_like(bias)], 0)
    # cuDNN's recurrent layers have no bfloat16 in TensorFlow.
    wide = tf.float32 if dtype == tf.bfloat16 else dtype
    mode = "lstm" if isinstance(spec, LstmSpec) else f"rnn_{spec.activation}" if isinstance(spec, RnnSpec) else ""
    # One layer, behind the batch as the time steps are.
    held = [tf.cast(state, wide)[:, None] for state in states]
    hidden, last, *_ = tf.raw_ops.CudnnRNNV3(
        input=tf.cast(x, wide), input_h=held[0], input_c=held[1] if len(held) > 1 else tf.zeros((), wide),
        params=tf.cast(flat, wide), sequence_lengths=tf.fill([x.shape[0]], x.shape[1]), rnn_mode=mode,
        is_training=training, time_major=False,
    )  # fmt: skip
    return tf.cast(hidden, dtype), tf.cast(last[:, 0], dtype)
