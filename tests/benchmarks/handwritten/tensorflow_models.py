"""The four models by hand in TensorFlow, each step on its own: what a contender is measured against.

Nothing here imports one. `build` and `place` are all that a runner needs:

    steps = build(workload, weights, "graph")
    steps["training"](place(batch, workload))

Eager execution runs Keras layers, one after the other; their cost for each call belongs to that mode. The graph modes
are plain functions on tensors, one graph a step: there the weights of inference are constants, up to a size. On a GPU
recurrent layers are cuDNN's, called directly (see `tensorflow_cudnn`), in eager mode too; XLA, which cannot compile
them, has its own loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, RecurrentSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import Batch, is_statistic
from tests.benchmarks.handwritten import tensorflow_cudnn
from tests.benchmarks.handwritten.tensorflow_eager import eager_steps
from tests.benchmarks.handwritten.tensorflow_update import Placed, Steps, Tensors, Update, mean_loss, on_gpu

MODES = ("eager", "graph", "graph-onednn", "xla")
ACTIVATIONS = {"relu": tf.nn.relu, "tanh": tf.tanh}
AXES = {1: (0,), 2: (1, 0), 4: (1, 2, 3, 0)}
# A graph with its constants must stay under 2 GiB.
CONSTANTS_LIMIT_BYTES = 2**29


def place(batch: Batch, workload: Workload) -> Placed:
    """Inputs and targets as tensors; TensorFlow puts them on the GPU if it sees one."""
    inputs = {name: tf.cast(tf.constant(value), workload.dtype) for name, value in batch.inputs.items()}
    return inputs, tf.constant(batch.targets)


def build(workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Steps:
    """The three steps as functions of a placed batch, all of one batch size.

    Args:
        workload: what to compute.
        weights: canonical weights and running statistics.
        mode: one of `MODES`; `graph-onednn` is `graph` in a process that started with `TF_ENABLE_ONEDNN_OPTS=1`.

    Returns:
        `inference` gives logits, `gradients` `(loss, weight gradients, input gradients)`, `training` the loss before
        its step. Graphs of inference keep the weights given here.

    Raises:
        UnsupportedError: another mode.
    """
    if mode not in MODES:
        raise UnsupportedError("no such mode by hand", where="mode", got=mode, expected=", ".join(MODES))
    # cuDNN's recurrent layers compute in float32 what is in bfloat16; TF32 rounds no coarser than that.
    exact = workload.device == "gpu" and workload.dtype == "bfloat16"
    tf.config.experimental.enable_tensor_float_32_execution(exact)
    by_cudnn = workload.device == "gpu" and mode != "xla" and isinstance(workload.model, RecurrentSpec)
    if mode == "eager" and not by_cudnn:
        turned = {name: value.transpose(AXES[value.ndim]) for name, value in weights.items()}
        return eager_steps(workload, turned)
    network = tensorflow_cudnn.recurrent if by_cudnn else NETWORKS[type(workload.model)]
    turned = {
        name: value if by_cudnn and name.startswith("layer.") else value.transpose(AXES[value.ndim])
        for name, value in weights.items()
    }
    return function_steps(workload, network, turned, mode)


def function_steps(
    workload: Workload, network: Callable[..., tf.Tensor], turned: Mapping[str, np.ndarray], mode: str
) -> Steps:
    """Functions over plain variables, in all modes but eager one graph each."""
    spec, compiles, dtype = workload.model, mode == "xla", workload.dtype
    variables = {name: tf.Variable(tf.cast(tf.constant(value), dtype)) for name, value in turned.items()}
    trained = {name: value for name, value in variables.items() if not is_statistic(name)}
    update = Update(workload.optimiser, list(trained.values()))
    size_bytes = sum(value.size for value in turned.values()) * tf.as_dtype(dtype).size
    freezes = mode != "eager" and size_bytes <= CONSTANTS_LIMIT_BYTES

    def read() -> Tensors:
        return {name: tf.convert_to_tensor(value) for name, value in variables.items()}

    def infer(inputs: Tensors, targets: tf.Tensor) -> tf.Tensor:
        held = {name: tf.constant(value, dtype) for name, value in turned.items()} if freezes else read()
        return network(spec, held, inputs, None, compiles)

    def differentiate(inputs: Tensors, targets: tf.Tensor) -> Any:
        held = read()
        by = {name: held[name] for name in trained}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((by, inputs))
            loss = mean_loss(network(spec, held, inputs, {}, compiles), targets)
        return loss, *tape.gradient(loss, (by, inputs))

    def train(inputs: Tensors, targets: tf.Tensor) -> tf.Tensor:
        held, moved = read(), {}
        by = [held[name] for name in trained]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(by)
            loss = mean_loss(network(spec, held, inputs, moved, compiles), targets)
        gradients = tape.gradient(loss, by)
        # A weight whose value is still held somewhere would be copied before its update.
        del held, by, tape
        update(gradients)
        for name, value in moved.items():
            variables[name].assign(value)
        return loss

    def compiled(step: Callable[..., Any]) -> Callable[[Placed], Any]:
        if mode == "eager":
            return lambda batch: step(*batch)
        function = tf.function(step, jit_compile=compiles, autograph=False)
        graphs: list[Callable[..., Any]] = []

        def run(batch: Placed) -> Any:
            if not graphs:
                graphs.append(function.get_concrete_function(*batch))
            return graphs[0](*batch)

        return run

    return {"inference": compiled(infer), "gradients": compiled(differentiate), "training": compiled(train)}


def dense(spec: DenseSpec, w: Tensors, inputs: Tensors, moved: Tensors | None, compiles: bool) -> tf.Tensor:
    """Logits `(batch_size, output_size)`."""
    x = inputs["x"]
    for index in range(spec.num_layers):
        x = tf.nn.bias_add(tf.matmul(x, w[f"layer.{index}.weight"]), w[f"layer.{index}.bias"])
        if index < spec.num_layers - 1:
            x = ACTIVATIONS[spec.activation](x)
    return x


def residual(spec: ResidualSpec, w: Tensors, inputs: Tensors, moved: Tensors | None, compiles: bool) -> tf.Tensor:
    """Logits `(batch_size, output_size)`; new running statistics go into `moved`, which None leaves as they are."""

    def conv(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        kernel = w[f"{name}.weight"]
        if stride > 1 and kernel.shape[0] == 3:
            return tf.nn.conv2d(tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel, stride, "VALID")
        return tf.nn.conv2d(x, kernel, stride, "SAME")

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        scale, bias, mean, variance = (w[f"{name}.{part}"] for part in ("scale", "bias", "mean", "variance"))
        old = mean, variance
        if compiles or x.dtype == tf.float64:
            if moved is not None:
                mean, variance = tf.nn.moments(x, (0, 1, 2))
            y = tf.nn.batch_normalization(x, mean, variance, bias, scale, spec.epsilon)
        else:
            # The kernel takes narrow images, but scales and statistics in float32 alone.
            scale, bias, mean, variance = (tf.cast(part, tf.float32) for part in (scale, bias, mean, variance))
            known = (tf.zeros((0,)),) * 2 if moved is not None else (mean, variance)
            y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x, scale=scale, offset=bias, mean=known[0], variance=known[1], epsilon=spec.epsilon,
                is_training=moved is not None,
            )  # fmt: skip
            n = math.prod(x.shape[:-1])
            mean, variance = tf.cast(mean, x.dtype), tf.cast(variance * ((n - 1) / n), x.dtype)
        if moved is not None:
            for part, before, now in zip(("mean", "variance"), old, (mean, variance), strict=True):
                moved[f"{name}.{part}"] = before + spec.momentum * (now - before)
        return y

    x = tf.nn.relu(norm(conv(inputs["x"], "stem.conv"), "stem.norm"))
    for name, incoming, outgoing, stride in spec.blocks():
        y = tf.nn.relu(norm(conv(x, f"{name}.conv1", stride), f"{name}.norm1"))
        y = norm(conv(y, f"{name}.conv2"), f"{name}.norm2")
        if stride != 1 or incoming != outgoing:
            x = norm(conv(x, f"{name}.shortcut.conv", stride), f"{name}.shortcut.norm")
        x = tf.nn.relu(y + x)
    return tf.matmul(tf.reduce_mean(x, (1, 2)), w["head.weight"]) + w["head.bias"]


def recurrent(
    spec: RnnSpec | LstmSpec, w: Tensors, inputs: Tensors, moved: Tensors | None, compiles: bool
) -> tf.Tensor:
    """Logits of the last time step, or of all: `(batch_size, sequence_length, output_size)`.

    XLA gains from its own loop on a CPU, but not in training the vanilla cell; elsewhere loops are written out.
    """
    steps = tf.unstack(inputs["x"], axis=1)
    # One product for the inputs of all time steps: a fifth faster for a written-out LSTM, slower for the others. A GPU
    # reads the weights anew in every step.
    projects = on_gpu() or (isinstance(spec, LstmSpec) and not compiles)
    loops = compiles and not on_gpu() and (isinstance(spec, LstmSpec) or moved is None)
    for index in range(spec.num_layers):
        w_ih, w_hh, bias = (w[f"layer.{index}.{part}"] for part in ("weight_ih", "weight_hh", "bias"))

        def cell(x: tf.Tensor, h: tf.Tensor, *c: tf.Tensor, weights: Any = (w_ih, w_hh, bias)) -> tuple[tf.Tensor, ...]:
            inputs_product = x if projects else tf.matmul(x, weights[0])
            z = inputs_product + tf.matmul(h, weights[1])
            z = z if projects else z + weights[2]
            if isinstance(spec, RnnSpec):
                return (ACTIVATIONS[spec.activation](z),)
            i, f, g, o = tf.split(z, 4, axis=1)
            new = tf.sigmoid(f) * c[0] + tf.sigmoid(i) * tf.tanh(g)
            return tf.sigmoid(o) * tf.tanh(new), new

        state = tuple(inputs[name][index] for name in spec.state_names)
        needs_all = spec.many_to_many or index < spec.num_layers - 1
        if projects:
            steps = tf.unstack(tf.tensordot(tf.stack(steps), w_ih, 1) + bias)
        steps = loop(cell, steps, state, needs_all) if loops else list(write_out(cell, steps, state))
    hidden = tf.stack(steps, axis=1) if spec.many_to_many else steps[-1]
    return tf.tensordot(hidden, w["head.weight"], 1) + w["head.bias"]


def write_out(cell: Callable[..., Any], steps: list[tf.Tensor], state: tuple[tf.Tensor, ...]) -> Iterator[tf.Tensor]:
    """The hidden state after each step."""
    for x in steps:
        state = cell(x, *state)
        yield state[0]


def loop(
    cell: Callable[..., Any], steps: list[tf.Tensor], state: tuple[tf.Tensor, ...], needs_all: bool
) -> list[tf.Tensor]:
    """Likewise by a while loop; only the last one if that is enough."""
    count = len(steps)
    read = tf.TensorArray(steps[0].dtype, count).unstack(tf.stack(steps))
    written = (tf.TensorArray(steps[0].dtype, count),) if needs_all else ()

    def body(t: tf.Tensor, written: tuple[Any, ...], state: tuple[tf.Tensor, ...]) -> tuple[Any, ...]:
        state = cell(read.read(t), *state)
        return t + 1, tuple(array.write(t, state[0]) for array in written), state

    start = (tf.constant(0), written, state)
    _, written, state = tf.while_loop(lambda t, *_: t < count, body, start, maximum_iterations=count)
    return tf.unstack(written[0].stack(), num=count) if needs_all else [state[0]]


NETWORKS: dict[type[ModelSpec], Callable[..., tf.Tensor]] = {
    DenseSpec: dense, ResidualSpec: residual, RnnSpec: recurrent, LstmSpec: recurrent,
}  # fmt: skip
