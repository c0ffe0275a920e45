"""The models in TensorFlow's eager mode by hand: Keras layers, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from faceoff.core.spec import DenseSpec, LstmSpec, ResidualSpec, RnnSpec, Workload
from tests.benchmarks.handwritten.tensorflow_update import Placed, Steps, Tensors, Update, mean_loss


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
