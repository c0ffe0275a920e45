"""What JAX, Flax NNX and optax do when nothing but the sizes is given: small pieces, written as their users write them.

The probes take and return what those of PyTorch do (`impls/pytorch/defaults.py`): kernels `(outputs, inputs)`,
gates stacked along the first axis. Flax keeps a matrix for each gate; they are stacked in the order in which its cell
makes them. JAX works in float32 unless x64 is switched on, which only the optimisers do here, to show their formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

Arrays = dict[str, np.ndarray]


def dense(inputs: int, outputs: int, seed: int) -> Arrays:
    """A new dense layer: `kernel (outputs, inputs)` and `bias (outputs,)`."""
    layer = nnx.Linear(inputs, outputs, rngs=nnx.Rngs(seed))
    return {"kernel": np.array(layer.kernel[...]).T, "bias": np.array(layer.bias[...])}


def convolution(inputs: int, outputs: int, kernel_size: int, seed: int) -> Arrays:
    """A new square convolution: `kernel (outputs, height, width, inputs)` and `bias (outputs,)`."""
    layer = nnx.Conv(inputs, outputs, (kernel_size, kernel_size), rngs=nnx.Rngs(seed))
    return {"kernel": np.array(layer.kernel[...]).transpose(3, 0, 1, 2), "bias": np.array(layer.bias[...])}


def embedding(inputs: int, outputs: int, seed: int) -> Arrays:
    """A new table of `inputs` vectors: `kernel (inputs, outputs)`."""
    return {"kernel": np.array(nnx.Embed(inputs, outputs, rngs=nnx.Rngs(seed)).embedding[...])}


def recurrent(kind: str, inputs: int, hidden: int, seed: int, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Arrays:
    """A new recurrent cell (`rnn`, `lstm` or `gru`) and one step of it.

    Args:
        x: `(batch_size, inputs)`. h, c: `(batch_size, hidden)`.

    Returns:
        `input_kernel (gates * hidden, inputs)`, `recurrent_kernel (gates * hidden, hidden)`, one `bias.N` for each bias
        vector, the new state `hidden`, and `cell` where there is one.
    """
    cell = {"rnn": nnx.SimpleCell, "lstm": nnx.LSTMCell, "gru": nnx.GRUCell}[kind](inputs, hidden, rngs=nnx.Rngs(seed))
    state: Any = (jnp.asarray(c), jnp.asarray(h)) if kind == "lstm" else jnp.asarray(h)
    state, _ = cell(state, jnp.asarray(x))
    after = {"hidden": state[1], "cell": state[0]} if kind == "lstm" else {"hidden": state}
    if kind == "lstm":
        input_layers, hidden_layers = [cell.ii, cell.if_, cell.ig, cell.io], [cell.hi, cell.hf, cell.hg, cell.ho]
    else:
        input_layers, hidden_layers = [cell.dense_i], [cell.dense_h]
    found = {
        "input_kernel": np.concatenate([np.array(layer.kernel[...]).T for layer in input_layers]),
        "recurrent_kernel": np.concatenate([np.array(layer.kernel[...]).T for layer in hidden_layers]),
    }
    biased = [layers for layers in (input_layers, hidden_layers) if layers[0].bias is not None]
    for index, layers in enumerate(biased):
        found[f"bias.{index}"] = np.concatenate([np.array(layer.bias[...]) for layer in layers])
    return found | {name: np.array(value) for name, value in after.items()}


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": nnx.gelu,
    "leaky_relu layer": nnx.leaky_relu,
    "leaky_relu function": jax.nn.leaky_relu,
    "elu": nnx.elu,
    "selu": nnx.selu,
    "silu": nnx.silu,
    "sigmoid": nnx.sigmoid,
    "hard_sigmoid": nnx.hard_sigmoid,
    "softplus": nnx.softplus,
}


def activation(name: str, x: np.ndarray) -> Arrays:
    """`y` of an activation, the shape of x."""
    return {"y": np.array(ACTIVATIONS[name](jnp.asarray(x)))}


def batch_norm(x: np.ndarray, other: np.ndarray) -> Arrays:
    """One training step of a new batch norm on x `(batch_size, channels)`, then inference on `other`."""
    layer = nnx.BatchNorm(x.shape[1], rngs=nnx.Rngs(0))
    before = np.array(layer.mean[...]), np.array(layer.var[...])
    y = layer(jnp.asarray(x), use_running_average=False)
    return {
        "mean_before": before[0],
        "variance_before": before[1],
        "training": np.array(y),
        "mean": np.array(layer.mean[...]),
        "variance": np.array(layer.var[...]),
        "inference": np.array(layer(jnp.asarray(other), use_running_average=True)),
    }


def layer_norm(x: np.ndarray) -> Arrays:
    """`y` of a new layer norm over the last axis of x."""
    return {"y": np.array(nnx.LayerNorm(x.shape[-1], rngs=nnx.Rngs(0))(jnp.asarray(x)))}


def padded(x: np.ndarray, kernel: np.ndarray, stride: int, by_number: bool) -> Arrays:
    """A convolution with padding `same`, or with the number `kernel_size // 2`.

    Args:
        x: one image `(height, width)`. kernel: `(kernel_size, kernel_size)`.
    """
    size = len(kernel)
    padding: Any = size // 2 if by_number else "SAME"
    layer = nnx.Conv(1, 1, (size, size), strides=stride, padding=padding, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(kernel)[:, :, None, None]
    return {"y": np.array(layer(jnp.asarray(x)[None, :, :, None])[0, :, :, 0])}


def array(x: np.ndarray) -> Arrays:
    """x handed over as a NumPy array, with no dtype given."""
    return {"y": np.array(jnp.asarray(x))}


def dense_output(x: np.ndarray) -> Arrays:
    """A new dense layer on x `(batch_size, inputs)`, whatever the dtype of x."""
    return {"y": np.array(nnx.Linear(x.shape[1], 4, rngs=nnx.Rngs(0))(x))}


def product(a: np.ndarray, b: np.ndarray) -> Arrays:
    """The matrix product on the default device."""
    return {"y": np.array(jnp.asarray(a) @ jnp.asarray(b))}


def convolved(x: np.ndarray, kernel: np.ndarray) -> Arrays:
    """x `(batch_size, height, width, channels)` with `kernel (outputs, height, width, channels)`, no padding."""
    y = jax.lax.conv_general_dilated(
        jnp.asarray(x), jnp.asarray(kernel), (1, 1), "VALID", dimension_numbers=("NHWC", "OHWI", "NHWC")
    )
    return {"y": np.array(y)}


OPTIMISERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda *rate: optax.sgd(*rate),
    "momentum": lambda *rate: optax.sgd(*rate, momentum=0.9),
    "nesterov": lambda *rate: optax.sgd(*rate, momentum=0.9, nesterov=True),
    "adam": lambda *rate: optax.adam(*rate),
    "adamw": lambda *rate: optax.adamw(*rate),
    "rmsprop": lambda *rate: optax.rmsprop(*rate),
}


def optimiser(name: str, start: np.ndarray, gradients: np.ndarray, rates: np.ndarray | None) -> Arrays:
    """Steps of an optimiser over given gradients, in float64.

    Args:
        start: parameters `(count,)`. gradients: `(steps, count)`.
        rates: the learning rate of every step, or None for the optimiser's own.

    Returns:
        `parameters (steps + 1, count)`.
    """
    with jax.enable_x64(True):
        # A schedule is optax's way to change the rate between steps.
        rate = () if rates is None else (lambda count: jnp.asarray(rates)[count],)
        rule = OPTIMISERS[name](*rate)
        parameters = jnp.asarray(start, dtype=jnp.float64)
        state = rule.init(parameters)
        found = [np.array(parameters)]
        for gradient in gradients:
            updates, state = rule.update(jnp.asarray(gradient, dtype=jnp.float64), state, parameters)
            parameters = optax.apply_updates(parameters, updates)
            found.append(np.array(parameters))
    return {"parameters": np.stack(found)}


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> Arrays:
    """`loss` of logits `(batch_size, classes)` and class numbers `(batch_size,)`."""
    labels = jnp.asarray(targets, dtype=jnp.int32)
    return {"loss": np.array(optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), labels))}


def dropout(x: np.ndarray, rate: float, seed: int) -> Arrays:
    """x in training and in inference."""
    layer = nnx.Dropout(rate, rngs=nnx.Rngs(seed))
    training = np.array(layer(jnp.asarray(x), deterministic=False))
    return {"training": training, "inference": np.array(layer(jnp.asarray(x), deterministic=True))}


PROBES: Mapping[str, Callable[..., Arrays]] = {
    probe.__name__: probe
    for probe in (
        dense, convolution, embedding, recurrent, activation, batch_norm, layer_norm, padded, array, dense_output,
        product, convolved, optimiser, cross_entropy, dropout,
    )
}  # fmt: skip
