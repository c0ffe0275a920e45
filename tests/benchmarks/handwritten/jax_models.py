"""The four models by hand in JAX: plain functions on dicts of arrays, one `jax.jit` per step, donated buffers.

What a contender is measured against, so nothing here imports one. `build` and `place` are all that a runner needs:

    steps = build(workload, weights, "jit")
    steps["training"](place(batch))

Products are true float32, and weights are kept the way the kernels read them: `(input_size, output_size)` and
`(kernel_height, kernel_width, input_channels, output_channels)`, for cuDNN `(output_channels, kernel_height,
kernel_width, input_channels)`. Mode `cudnn`, on a GPU, is `jit` with cuDNN's LSTM where JAX reaches it (see
`jax_cudnn`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, Optimiser, RecurrentSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import Batch, is_statistic
from tests.benchmarks.handwritten import jax_cudnn

Arrays = dict[str, jax.Array]
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}
# On a GPU; it takes long to compile.
MOST_STEPS_UNROLLED = 128


def place(batch: Batch, workload: Workload) -> tuple[Arrays, jax.Array]:
    """Inputs and int32 targets on the workload's device; waits."""
    device = jax.devices(workload.device)[0]
    with jax.enable_x64(True):
        inputs = {name: jnp.array(value, workload.dtype, device=device) for name, value in batch.inputs.items()}
        placed = inputs, jnp.array(batch.targets, jnp.int32, device=device)
    return jax.block_until_ready(placed)


def build(workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> dict[str, Callable[[Any], Any]]:
    """The three steps as functions of a placed batch; none of them waits.

    Args:
        workload: what to compute.
        weights: canonical weights and running statistics.
        mode: `jit` or `cudnn`.

    Returns:
        `inference` gives logits, `gradients` `(loss, weight gradients, input gradients)`, `training` the loss before
        its step, which changes the weights that all three share.

    Raises:
        UnsupportedError: another mode.
    """
    if mode not in ("jit", "cudnn"):
        raise UnsupportedError("no such mode by hand", where="mode", got=mode, expected="jit or cudnn")
    jax.config.update("jax_enable_x64", workload.dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")
    device = jax.devices(workload.device)[0]
    network, held = make(workload, weights, mode)
    held = jax.tree.map(lambda value: jnp.array(value, workload.dtype, device=device), held)
    infer, differentiate, train = compiled(workload, network)

    def train_step(batch: Any) -> jax.Array:
        value, *held[:] = train(*held, *batch)
        return value

    return {
        "inference": lambda batch: infer(held[0], held[1], batch[0]),
        "gradients": lambda batch: differentiate(held[0], held[1], *batch),
        "training": train_step,
    }


def make(workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> tuple[Callable[..., Any], list[Any]]:
    """The network, and what a training step changes: weights, running statistics, the optimiser's state."""
    spec, network = workload.model, NETWORKS[type(workload.model)]
    on_gpu = workload.device == "gpu"
    turned = {name: _turn(value, on_gpu) for name, value in weights.items()}
    if mode == "cudnn" and jax_cudnn.serves(workload):
        assert isinstance(spec, LstmSpec)
        head = {name: value for name, value in turned.items() if name.startswith("head.")}
        network, turned = jax_cudnn.lstm, {**head, jax_cudnn.FLAT: jax_cudnn.flatten(spec, weights)}
    elif not isinstance(spec, DenseSpec):
        network = partial(network, on_gpu=on_gpu)
    statistics = {name: turned.pop(name) for name in list(turned) if is_statistic(name)}
    count = {"sgd": 0, "momentum": 1, "adam": 2}[workload.optimiser.kind]
    slots = [{name: np.zeros_like(value) for name, value in turned.items()} for _ in range(count)]
    return partial(network, spec), [turned, statistics, (slots, np.zeros(()))]


def compiled(workload: Workload, network: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """The three steps as programs of everything that they read: weights, statistics, in training the optimiser's state,
    inputs, and but for inference the targets.
    """
    spec, rule = workload.model, workload.optimiser

    def loss(trained: Arrays, inputs: Arrays, statistics: Arrays, targets: jax.Array) -> tuple[jax.Array, Arrays]:
        logits, moved = network(trained | statistics, inputs, True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)
        return -chosen.mean(), moved

    @jax.jit
    def infer(trained: Arrays, statistics: Arrays, inputs: Arrays) -> jax.Array:
        return network(trained | statistics, inputs, False)[0]

    @jax.jit
    def differentiate(trained: Arrays, statistics: Arrays, inputs: Arrays, targets: jax.Array) -> Any:
        (value, _), (by, by_inputs) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            trained, inputs, statistics, targets
        )
        return value, jax_cudnn.without_second_bias(spec, by), by_inputs

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def train(trained: Arrays, statistics: Arrays, state: Any, inputs: Arrays, targets: jax.Array) -> Any:
        (value, moved), by = jax.value_and_grad(loss, has_aux=True)(trained, inputs, statistics, targets)
        trained, state = _update(rule, trained, jax_cudnn.without_second_bias(spec, by), state)
        return value, trained, moved, state

    return infer, differentiate, train


def _turn(value: np.ndarray, on_gpu: bool) -> np.ndarray:
    return value.transpose({1: (0,), 2: (1, 0), 4: (0, 1, 2, 3) if on_gpu else (1, 2, 3, 0)}[value.ndim])


def _update(rule: Optimiser, trained: Arrays, gradients: Arrays, state: Any) -> tuple[Arrays, Any]:
    slots, count = state
    rate = rule.learning_rate
    if rule.kind == "sgd":
        return jax.tree.map(lambda w, g: w - rate * g, trained, gradients), state
    if rule.kind == "momentum":
        velocity = jax.tree.map(lambda v, g: rule.momentum * v + g, slots[0], gradients)
        return jax.tree.map(lambda w, v: w - rate * v, trained, velocity), ([velocity], count)
    count = count + 1
    mean = jax.tree.map(lambda m, g: rule.beta1 * m + (1 - rule.beta1) * g, slots[0], gradients)
    square = jax.tree.map(lambda s, g: rule.beta2 * s + (1 - rule.beta2) * g * g, slots[1], gradients)
    by_mean, by_square = 1 / (1 - rule.beta1**count), 1 / (1 - rule.beta2**count)

    kept = 1 - rate * rule.weight_decay if rule.kind == "adamw" else 1.0

    def move(w: jax.Array, m: jax.Array, s: jax.Array) -> jax.Array:
        return kept * w - rate * (m * by_mean) / (jnp.sqrt(s * by_square) + rule.epsilon)

    return jax.tree.map(move, trained, mean, square), ([mean, square], count)


def dense(spec: DenseSpec, w: Arrays, inputs: Arrays, training: bool) -> tuple[jax.Array, Arrays]:
    """Logits `(batch_size, output_size)`."""
    x = inputs["x"]
    for index in range(spec.num_layers):
        x = x @ w[f"layer.{index}.weight"] + w[f"layer.{index}.bias"]
        if index < spec.num_layers - 1:
            x = ACTIVATIONS[spec.activation](x)
    return x, {}


def residual(
    spec: ResidualSpec, w: Arrays, inputs: Arrays, training: bool, on_gpu: bool = False
) -> tuple[jax.Array, Arrays]:
    """Logits `(batch_size, output_size)`, and in training the running statistics moved on."""
    moved: Arrays = {}

    def conv(x: jax.Array, name: str, stride: int = 1) -> jax.Array:
        kernel = w[f"{name}.weight"]
        pad = kernel.shape[1] // 2
        numbers = ("NHWC", "OHWI" if on_gpu else "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=numbers)

    def norm(x: jax.Array, name: str) -> jax.Array:
        scale, bias, mean, variance = (w[f"{name}.{part}"] for part in ("scale", "bias", "mean", "variance"))
        if training:
            old = mean, variance
            mean = x.mean((0, 1, 2))
            if on_gpu:  # In one pass over the images.
                variance = jnp.maximum(jnp.square(x).mean((0, 1, 2)) - jnp.square(mean), 0)
            else:
                variance = jnp.square(x - mean).mean((0, 1, 2))
            for part, before, now in zip(("mean", "variance"), old, (mean, variance), strict=True):
                moved[f"{name}.{part}"] = before + spec.momentum * (now - before)
        # One product and one sum: gradients took 0.7 of the time of (x - mean) * factor + bias.
        factor = scale * lax.rsqrt(variance + spec.epsilon)
        return x * factor + (bias - mean * factor)

    x = jax.nn.relu(norm(conv(inputs["x"], "stem.conv"), "stem.norm"))
    for name, incoming, outgoing, stride in spec.blocks():
        y = jax.nn.relu(norm(conv(x, f"{name}.conv1", stride), f"{name}.norm1"))
        y = norm(conv(y, f"{name}.conv2"), f"{name}.norm2")
        if stride != 1 or incoming != outgoing:
            x = norm(conv(x, f"{name}.shortcut.conv", stride), f"{name}.shortcut.norm")
        x = jax.nn.relu(x + y)
    return x.mean((1, 2)) @ w["head.weight"] + w["head.bias"], moved


def _recurrent(
    spec: RecurrentSpec, w: Arrays, x: jax.Array, states: list[Any], cell: Any, training: bool, on_gpu: bool
) -> tuple[jax.Array, Arrays]:
    """Runs `cell(state, pre-activations)` over time, layer by layer; the first part of the state is h.

    On a GPU the inputs of all time steps are multiplied at once before the loop, whose product is then as small as can
    be, as the weights are read anew in every step; and the loop is unrolled, as XLA launches straight code together.
    """
    unroll = spec.sequence_length if on_gpu and spec.sequence_length <= MOST_STEPS_UNROLLED else 1
    sequence = x.swapaxes(0, 1)
    for index, state in enumerate(states):
        ih, hh, bias = (w[f"layer.{index}.{part}"] for part in ("weight_ih", "weight_hh", "bias"))

        def sums(x_t: jax.Array, h: jax.Array, ih: Any = ih, hh: Any = hh, bias: Any = bias) -> jax.Array:
            if on_gpu:
                return x_t + h @ hh
            if not training and isinstance(spec, RnnSpec):
                return x_t @ ih + h @ hh + bias
            # One product is faster in the LSTM, and in training has one gradient to sum over time. XLA lifts the
            # joining of the weights out of the loop; joined before the scan, the gradient was a tenth slower.
            return jnp.concatenate([x_t, h], axis=-1) @ jnp.concatenate([ih, hh]) + bias

        def step(state: Any, x_t: jax.Array, sums: Any = sums) -> tuple[Any, jax.Array]:
            state = cell(state, sums(x_t, state[0]))
            return state, state[0]

        if on_gpu:
            sequence = sequence @ ih + bias
        state, sequence = lax.scan(step, state, sequence, unroll=unroll)
    out = sequence.swapaxes(0, 1) if spec.many_to_many else state[0]
    return out @ w["head.weight"] + w["head.bias"], {}


def rnn(spec: RnnSpec, w: Arrays, inputs: Arrays, training: bool, on_gpu: bool = False) -> tuple[jax.Array, Arrays]:
    """Logits `(batch_size, output_size)`, or with `sequence_length` in between for many-to-many."""
    activation = ACTIVATIONS[spec.activation]
    states = [(h,) for h in inputs["h0"]]
    return _recurrent(spec, w, inputs["x"], states, lambda _, z: (activation(z),), training, on_gpu)


def lstm(spec: LstmSpec, w: Arrays, inputs: Arrays, training: bool, on_gpu: bool = False) -> tuple[jax.Array, Arrays]:
    """Logits `(batch_size, output_size)`, or with `sequence_length` in between for many-to-many."""

    def cell(state: tuple[jax.Array, jax.Array], z: jax.Array) -> tuple[jax.Array, jax.Array]:
        i, f, g, o = jnp.split(z, 4, axis=-1)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    states = list(zip(inputs["h0"], inputs["c0"], strict=True))
    return _recurrent(spec, w, inputs["x"], states, cell, training, on_gpu)


NETWORKS: dict[type[ModelSpec], Any] = {DenseSpec: dense, ResidualSpec: residual, RnnSpec: rnn, LstmSpec: lstm}
