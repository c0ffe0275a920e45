"""What TensorFlow and Keras do when nothing but the sizes is given: small pieces, written as their users write them.

The probes take and return what those of PyTorch do (`impls/pytorch/defaults.py`): kernels `(outputs, inputs)`,
gates stacked along the first axis in the order in which Keras stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Arrays = dict[str, np.ndarray]


def dense(inputs: int, outputs: int, seed: int) -> Arrays:
    """A new dense layer: `kernel (outputs, inputs)` and `bias (outputs,)`."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Dense(outputs)
    layer.build((None, inputs))
    return {"kernel": layer.kernel.numpy().T, "bias": layer.bias.numpy()}


def convolution(inputs: int, outputs: int, kernel_size: int, seed: int) -> Arrays:
    """A new square convolution: `kernel (outputs, height, width, inputs)` and `bias (outputs,)`."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Conv2D(outputs, kernel_size)
    layer.build((None, None, None, inputs))
    return {"kernel": layer.kernel.numpy().transpose(3, 0, 1, 2), "bias": layer.bias.numpy()}


def embedding(inputs: int, outputs: int, seed: int) -> Arrays:
    """A new table of `inputs` vectors: `kernel (inputs, outputs)`."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Embedding(inputs, outputs)
    layer.build((None,))
    return {"kernel": layer.embeddings.numpy()}


def recurrent(kind: str, inputs: int, hidden: int, seed: int, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Arrays:
    """A new recurrent layer (`rnn`, `lstm` or `gru`) and one step of it.

    Args:
        x: `(batch_size, inputs)`. h, c: `(batch_size, hidden)`.

    Returns:
        `input_kernel (gates * hidden, inputs)`, `recurrent_kernel (gates * hidden, hidden)`, one `bias.N` for each bias
        vector, the new state `hidden`, and `cell` where there is one.
    """
    keras.utils.set_random_seed(seed)
    kinds = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
    layer = kinds[kind](hidden, return_state=True)
    states = [tf.constant(h), tf.constant(c)] if kind == "lstm" else [tf.constant(h)]
    _, *states = layer(tf.constant(x)[:, None], initial_state=states)
    cell = layer.cell
    found = {"input_kernel": cell.kernel.numpy().T, "recurrent_kernel": cell.recurrent_kernel.numpy().T}
    for index, bias in enumerate(np.atleast_2d(cell.bias.numpy())):
        found[f"bias.{index}"] = bias
    return found | dict(zip(("hidden", "cell"), (state.numpy() for state in states), strict=False))


ACTIVATIONS: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": keras.activations.gelu,
    "leaky_relu layer": keras.layers.LeakyReLU(),
    "leaky_relu function": keras.activations.leaky_relu,
    "elu": keras.activations.elu,
    "selu": keras.activations.selu,
    "silu": keras.activations.silu,
    "sigmoid": keras.activations.sigmoid,
    "hard_sigmoid": keras.activations.hard_sigmoid,
    "softplus": keras.activations.softplus,
}


def activation(name: str, x: np.ndarray) -> Arrays:
    """`y` of an activation, the shape of x."""
    return {"y": ACTIVATIONS[name](tf.constant(x)).numpy()}


def batch_norm(x: np.ndarray, other: np.ndarray) -> Arrays:
    """One training step of a new batch norm on x `(batch_size, channels)`, then inference on `other`."""
    layer = keras.layers.BatchNormalization()
    layer.build(x.shape)
    before = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    y = layer(tf.constant(x), training=True)
    return {
        "mean_before": before[0],
        "variance_before": before[1],
        "training": y.numpy(),
        "mean": layer.moving_mean.numpy(),
        "variance": layer.moving_variance.numpy(),
        "inference": layer(tf.constant(other), training=False).numpy(),
    }


def layer_norm(x: np.ndarray) -> Arrays:
    """`y` of a new layer norm over the last axis of x."""
    return {"y": keras.layers.LayerNormalization()(tf.constant(x)).numpy()}


def padded(x: np.ndarray, kernel: np.ndarray, stride: int, by_number: bool) -> Arrays:
    """A convolution with padding `same`, or with the number `kernel_size // 2`.

    Args:
        x: one image `(height, width)`. kernel: `(kernel_size, kernel_size)`.
    """
    size = len(kernel)
    padding: Any = size // 2 if by_number else "same"
    layer = keras.layers.Conv2D(1, size, strides=stride, padding=padding, use_bias=False)
    layer.build((None, None, None, 1))
    layer.kernel.assign(kernel[:, :, None, None])
    return {"y": layer(tf.constant(x)[None, :, :, None])[0, :, :, 0].numpy()}


def array(x: np.ndarray) -> Arrays:
    """x handed over as a NumPy array, with no dtype given."""
    return {"y": tf.constant(x).numpy()}


def dense_output(x: np.ndarray) -> Arrays:
    """A new dense layer on x `(batch_size, inputs)`, whatever the dtype of x."""
    return {"y": keras.layers.Dense(4)(tf.constant(x)).numpy()}


def product(a: np.ndarray, b: np.ndarray) -> Arrays:
    """The matrix product on the default device."""
    return {"y": (tf.constant(a) @ tf.constant(b)).numpy()}


def convolved(x: np.ndarray, kernel: np.ndarray) -> Arrays:
    """x `(batch_size, height, width, channels)` with `kernel (outputs, height, width, channels)`, no padding."""
    return {"y": tf.nn.conv2d(tf.constant(x), tf.constant(kernel.transpose(1, 2, 3, 0)), 1, "VALID").numpy()}


OPTIMISERS: Mapping[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": lambda *rate: keras.optimizers.SGD(*rate),
    "momentum": lambda *rate: keras.optimizers.SGD(*rate, momentum=0.9),
    "nesterov": lambda *rate: keras.optimizers.SGD(*rate, momentum=0.9, nesterov=True),
    "adam": lambda *rate: keras.optimizers.Adam(*rate),
    "adamw": lambda *rate: keras.optimizers.AdamW(*rate),
    "rmsprop": lambda *rate: keras.optimizers.RMSprop(*rate),
}


def optimiser(name: str, start: np.ndarray, gradients: np.ndarray, rates: np.ndarray | None) -> Arrays:
    """Steps of an optimiser over given gradients, in float64.

    Args:
        start: parameters `(count,)`. gradients: `(steps, count)`.
        rates: the learning rate of every step, or None for the optimiser's own.

    Returns:
        `parameters (steps + 1, count)`.
    """
    parameter = keras.Variable(start, dtype="float64")
    rule = OPTIMISERS[name](*(() if rates is None else (float(rates[0]),)))
    found = [parameter.numpy().copy()]
    for step, gradient in enumerate(gradients):
        if rates is not None:
            rule.learning_rate = float(rates[step])
        rule.apply_gradients([(tf.constant(gradient, dtype=tf.float64), parameter)])
        found.append(parameter.numpy().copy())
    return {"parameters": np.stack(found)}


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> Arrays:
    """`loss` of logits `(batch_size, classes)` and class numbers `(batch_size,)`."""
    loss = keras.losses.SparseCategoricalCrossentropy()
    return {"loss": loss(tf.constant(targets), tf.constant(logits)).numpy()}


def dropout(x: np.ndarray, rate: float, seed: int) -> Arrays:
    """x in training and in inference."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Dropout(rate)
    training = layer(tf.constant(x), training=True).numpy()
    return {"training": training, "inference": layer(tf.constant(x), training=False).numpy()}


PROBES: Mapping[str, Callable[..., Arrays]] = {
    probe.__name__: probe
    for probe in (
        dense, convolution, embedding, recurrent, activation, batch_norm, layer_norm, padded, array, dense_output,
        product, convolved, optimiser, cross_entropy, dropout,
    )
}  # fmt: skip
