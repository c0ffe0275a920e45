"""The four models by hand in TensorFlow, each step on its own: what a contender is measured against.

Nothing here imports one. `build` and `place` are all that a runner needs:

    steps = build(workload, weights, "graph")
    steps["training"](place(batch))

Eager execution runs Keras layers, one after the other; their cost for each call belongs to that mode. The graph modes
are plain functions on tensors, one graph a step: there the weights of dense and residual inference are constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from harness.core.errors import UnsupportedError
from harness.core.spec import DenseSpec, LstmSpec, ModelSpec, Optimiser, ResidualSpec, RnnSpec, Workload
from harness.core.weights import Batch, is_statistic

Tensors = dict[str, tf.Tensor]
Placed = tuple[Tensors, tf.Tensor]
Steps = dict[str, Callable[[Placed], Any]]
MODES = ("eager", "graph", "graph-onednn", "xla")
ACTIVATIONS = {"relu": tf.nn.relu, "tanh": tf.tanh}
AXES = {1: (0,), 2: (1, 0), 4: (1, 2, 3, 0)}


def place(batch: Batch) -> Placed:
    """Inputs and targets as tensors."""
    return {name: tf.constant(value) for name, value in batch.inputs.items()}, tf.constant(batch.targets)


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
    turned = {name: value.transpose(AXES[value.ndim]).astype(workload.dtype) for name, value in weights.items()}
    if mode == "eager":
        return eager_steps(workload, turned)
    return graph_steps(workload, turned, mode)


def mean_loss(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean softmax cross-entropy."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))


class Update:
    """An optimiser by TensorFlow's fused kernels.

    Args:
        rule: its constants.
        variables: what it moves.
    """

    def __init__(self, rule: Optimiser, variables: list[tf.Variable]) -> None:
        self.rule, self.variables = rule, variables
        count = {"sgd": 0, "momentum": 1, "adam": 2}[rule.kind]
        self.slots = [[tf.Variable(tf.zeros_like(v)) for v in variables] for _ in range(count)]
        self.step = tf.Variable(0, dtype=variables[0].dtype)

    def __call__(self, gradients: list[tf.Tensor]) -> None:
        """Moves the variables in place."""
        rule, ops = self.rule, tf.raw_ops
        rate, momentum, beta1, beta2 = (
            tf.constant(v, self.step.dtype) for v in (rule.learning_rate, rule.momentum, rule.beta1, rule.beta2)
        )
        if rule.kind == "sgd":
            for w, g in zip(self.variables, gradients, strict=True):
                ops.ResourceApplyGradientDescent(var=w.handle, alpha=rate, delta=g)
        elif rule.kind == "momentum":
            for w, v, g in zip(self.variables, *self.slots, gradients, strict=True):
                ops.ResourceApplyMomentum(var=w.handle, accum=v.handle, lr=rate, grad=g, momentum=momentum)
        else:
            self.step.assign_add(1)
            power1, power2 = beta1**self.step, beta2**self.step
            # The kernel corrects the root after adding epsilon.
            epsilon = rule.epsilon * tf.sqrt(1 - power2)
            for w, m, v, g in zip(self.variables, *self.slots, gradients, strict=True):
                ops.ResourceApplyAdam(
                    var=w.handle, m=m.handle, v=v.handle, beta1_power=power1, beta2_power=power2, lr=rate,
                    beta1=beta1, beta2=beta2, epsilon=epsilon, grad=g,
                )  # fmt: skip


def graph_steps(workload: Workload, turned: Mapping[str, np.ndarray], mode: str) -> Steps:
    """One graph a step over plain variables."""
    spec, compiles = workload.model, mode == "xla"
    network = NETWORKS[type(spec)]
    variables = {name: tf.Variable(value) for name, value in turned.items()}
    trained = {name: value for name, value in variables.items() if not is_statistic(name)}
    update = Update(workload.optimiser, list(trained.values()))

    def read() -> Tensors:
        return {name: tf.convert_to_tensor(value) for name, value in variables.items()}

    def infer(inputs: Tensors, targets: tf.Tensor) -> tf.Tensor:
        return network(spec, {name: tf.constant(value) for name, value in turned.items()}, inputs, None, compiles)

    def differentiate(inputs: Tensors, targets: tf.Tensor) -> Any:
        held = read()
        by = {name: held[name] for name in trained}
        with tf.GradientTape() as tape:
            tape.watch((by, inputs))
            loss = mean_loss(network(spec, held, inputs, {}, compiles), targets)
        return loss, *tape.gradient(loss, (by, inputs))

    def train(inputs: Tensors, targets: tf.Tensor) -> tf.Tensor:
        held, moved = read(), {}
        by = [held[name] for name in trained]
        with tf.GradientTape() as tape:
            tape.watch(by)
            loss = mean_loss(network(spec, held, inputs, moved, compiles), targets)
        update(tape.gradient(loss, by))
        for name, value in moved.items():
            variables[name].assign(value)
        return loss

    def compiled(step: Callable[..., Any]) -> Callable[[Placed], Any]:
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
        if compiles or x.dtype != tf.float32:
            if moved is not None:
                mean, variance = tf.nn.moments(x, (0, 1, 2))
            y = tf.nn.batch_normalization(x, mean, variance, bias, scale, spec.epsilon)
        else:
            known = (tf.zeros((0,)),) * 2 if moved is not None else old
            y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x, scale=scale, offset=bias, mean=known[0], variance=known[1], epsilon=spec.epsilon,
                is_training=moved is not None,
            )  # fmt: skip
            n = math.prod(x.shape[:-1])
            variance *= (n - 1) / n
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

    XLA gains from its own loop, but not in training the vanilla cell; elsewhere loops are written out.
    """
    steps = tf.unstack(inputs["x"], axis=1)
    # One product for the inputs of all time steps: a fifth faster for a written-out LSTM, slower for the others.
    projects = isinstance(spec, LstmSpec) and not compiles
    loops = compiles and (isinstance(spec, LstmSpec) or moved is None)
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


def eager_steps(workload: Workload, turned: Mapping[str, np.ndarray]) -> Steps:
    """Keras layers without a graph."""
    network = EagerNetwork(workload)
    values = iter(turned.values())
    for layer in network.canonical:
        layer.set_weights([next(values) for _ in layer.weights])
    trained = [variable.value for layer in network.canonical for variable in layer.trainable_weights]
    update = Update(workload.optimiser, trained)

    def loss_of(batch: Placed) -> tf.Tensor:
        return mean_loss(network(batch[0], training=True), batch[1])

    def gradients(batch: Placed) -> Any:
        with keras.StatelessScope(), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((trained, batch[0]))
            loss = loss_of(batch)
        return loss, *tape.gradient(loss, (trained, batch[0]))

    def training(batch: Placed) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained)
            loss = loss_of(batch)
        update(tape.gradient(loss, trained))
        return loss

    return {"inference": lambda batch: network(batch[0], training=False), "gradients": gradients, "training": training}


class EagerNetwork(keras.Model):
    """Any of the four models in Keras layers.

    Attributes:
        canonical: the layers that hold weights, in canonical order.
    """

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.spec, kinds = workload.model, keras.layers
        keras.config.set_dtype_policy(workload.dtype)
        spec = self.spec
        if isinstance(spec, DenseSpec):
            activations = [spec.activation] * (spec.num_layers - 1) + [None]
            self.canonical = [kinds.Dense(n, a) for n, a in zip(spec.layer_sizes[1:], activations, strict=True)]
        elif isinstance(spec, ResidualSpec):
            self.pad = kinds.ZeroPadding2D(1)
            self.canonical = list(self.convolutions(spec))
        else:
            options = {"activation": spec.activation} if isinstance(spec, RnnSpec) else {}
            kind = kinds.SimpleRNN if isinstance(spec, RnnSpec) else kinds.LSTM
            last = spec.num_layers - 1
            self.canonical = [
                kind(spec.hidden_size, return_sequences=spec.many_to_many or index < last, unroll=True, **options)
                for index in range(spec.num_layers)
            ]
        if not isinstance(spec, DenseSpec):
            self.canonical.append(kinds.Dense(spec.output_size))
        shapes = {"x": (1, *self.input_shape_of(spec))}
        for name in getattr(spec, "state_names", ()):
            shapes[name] = (spec.num_layers, 1, spec.hidden_size)
        self({name: tf.zeros(shape, workload.dtype) for name, shape in shapes.items()})

    @staticmethod
    def input_shape_of(spec: Any) -> tuple[int, ...]:
        """The shape of one example; one time step is enough to make the weights."""
        if isinstance(spec, ResidualSpec):
            return spec.height, spec.width, spec.channels
        return (spec.input_size,) if isinstance(spec, DenseSpec) else (1, spec.input_size)

    def convolutions(self, spec: ResidualSpec) -> Iterator[keras.layers.Layer]:
        """Convolutions and batch norms, without the dense layer."""

        def pair(filters: int, kernel: int, stride: int) -> Iterator[keras.layers.Layer]:
            padding = "valid" if stride > 1 and kernel == 3 else "same"
            yield keras.layers.Conv2D(filters, kernel, stride, padding, use_bias=False)
            yield keras.layers.BatchNormalization(momentum=1 - spec.momentum, epsilon=spec.epsilon)

        yield from pair(spec.stage_widths[0], 3, 1)
        for _, incoming, outgoing, stride in spec.blocks():
            yield from pair(outgoing, 3, stride)
            yield from pair(outgoing, 3, 1)
            if stride != 1 or incoming != outgoing:
                yield from pair(outgoing, 1, stride)

    def call(self, inputs: Tensors, training: bool = False) -> tf.Tensor:
        """Logits."""
        x, layers, spec = inputs["x"], iter(self.canonical), self.spec
        if isinstance(spec, DenseSpec):
            for layer in layers:
                x = layer(x)
            return x
        if isinstance(spec, RnnSpec | LstmSpec):
            for index in range(spec.num_layers):
                x = next(layers)(x, initial_state=[inputs[name][index] for name in spec.state_names])
            return next(layers)(x)

        def convolve(x: tf.Tensor) -> tf.Tensor:
            x = next(layers)(x)
            return next(layers)(x, training=training)

        x = tf.nn.relu(convolve(x))
        for _, incoming, outgoing, stride in spec.blocks():
            y = tf.nn.relu(convolve(self.pad(x) if stride > 1 else x))
            y = convolve(y)
            if stride != 1 or incoming != outgoing:
                x = convolve(x)
            x = tf.nn.relu(y + x)
        return next(layers)(tf.reduce_mean(x, (1, 2)))
