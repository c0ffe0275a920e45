"""A user's own model as one more model of this framework: its weights by a port, its losses, its batch statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.stateless_scope import get_stateless_scope

from faceoff.core.errors import InputError, UnsupportedError
from faceoff.core.outputs import scored
from faceoff.core.own import OWN_LOSS, Port, port_of
from faceoff.core.spec import ModelSpec, Workload
from faceoff.core.tuning import is_tuned
from faceoff.core.weights import Weights, float_inputs, is_statistic, trainable_names

from .optimiser import held_state
from .own import Network, is_numbers
from .recording import Recorder
from .runtime import PlacedBatch, TensorFlowModel, _to_numpy


class OwnModel(TensorFlowModel):
    """A model that its user's file makes. Variables are held by their paths there, of which several canonical weights
    may share one.

    Args:
        workload, weights, mode: as of `TensorFlowModel`; the mode `tuned` knows built-in models only.

    Raises:
        InputError: the port does not fit the file.
        UnsupportedError: that mode, or what the file makes has no counterpart elsewhere.
    """

    def __init__(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> None:
        if is_tuned(mode):
            raise UnsupportedError("a model of a user's own has no tuned mode", where="tensorflow.mode", got=mode)
        self._port = port_of(workload.model)
        self._side = self._port.side("tensorflow")
        self._inputs = float_inputs(workload.model)
        self._is_repeatable = False
        super().__init__(workload, weights, mode)

    def weights(self) -> Weights:
        return self._canonical({path: variable.value for path, variable in self._held.items()})

    def optimiser_state(self) -> dict[str, Weights]:
        return {
            kind: self._canonical(dict(zip(self._trained_paths, [slot.value for slot in slots], strict=True)))
            for kind, slots in held_state(self._optimiser).items()
        }

    def canonical(self, gradients: tuple[tf.Tensor, list[tf.Tensor], dict[str, tf.Tensor]]) -> dict[str, Any]:
        loss, by_weights, by_inputs = gradients
        return {
            "loss": _to_numpy(loss),
            "weights": self._canonical(dict(zip(self._trained_paths, by_weights, strict=True))),
            "inputs": {
                name: value if (value := by_inputs[name]) is None else _to_numpy(value) for name in self._inputs
            },
        }

    def trace(self, batch: PlacedBatch, training: bool) -> dict[str, np.ndarray]:
        raise UnsupportedError("no outputs of layers", where=self._side.file)

    def layers(self, batch: PlacedBatch, training: bool, forced: Mapping[str, Any] | None) -> dict[str, Any]:
        """See `Model.layers`; whatever the mode, operation by operation."""
        recorder = Recorder(self._network.model, self._port.layers_of("tensorflow"), forced)
        with self._scope(self._read()), recorder.recording():
            outputs = self._network(training=training, **batch.inputs)
        return {"outputs": outputs, "layers": recorder.calls}

    def dropouts(self, batch: PlacedBatch) -> list[dict[str, Any]]:
        with self._scope(self._read()):
            return self._network.dropouts(**batch.inputs)

    def _make_network(self, spec: ModelSpec) -> Network:
        storage = self._workload.storage_dtype
        policy = "mixed_bfloat16" if self._workload.dtype == "mixed_bfloat16" else storage
        side = self._side
        names = [given.name for given in self._port.inputs if given.name not in side.dropouts]
        return Network(side.file, policy, storage, names, side.inputs, side.dropouts)

    def _hold(self) -> None:
        places, side = self._network.places, self._side
        _require_fit(side.file, places, [placed.path for placed in side.weights.values()], side.zeros)
        for name in self._port.weights:
            if is_statistic(name) != places[path := side.weights[name].path].is_statistic:
                raise InputError("a running statistic taken for a weight", where=side.file, got=f"{name} for {path}")
        self._held = {path: place.variable for path, place in places.items()}
        trained = {side.weights[name].path for name in trainable_names(self._workload.model)}
        self._trained_paths = [path for path in places if path in trained]
        self._trained = [self._held[path] for path in self._trained_paths]
        # Other layers look none up, and an operation more for each weight takes time where nothing is compiled.
        self._looked_up = [self._held[p] for p in self._trained_paths if places[p].layer in ("embedding", "")]
        self._statistics = [place.variable for place in places.values() if place.is_statistic]

    def _native(self, weights: Mapping[str, np.ndarray]) -> Weights:
        native = self._side.to_side(weights)
        native.update({path: np.zeros(self._held[path].shape) for path in self._side.zeros})
        for path, value in native.items():
            if value.shape != tuple(self._held[path].shape):
                raise InputError(
                    "wrong shape", where=f"{self._side.file}: {path}", got=value.shape,
                    expected=str(tuple(self._held[path].shape)),
                )  # fmt: skip
        return native

    def _scope(self, values: list[tf.Tensor]) -> keras.StatelessScope:
        # Statistics that a layer does not move stay as they are.
        statistics = [(variable, variable.value) for variable in self._statistics]
        return keras.StatelessScope([*zip(self._trained, values, strict=True), *statistics])

    def _loss(self, inputs: dict[str, tf.Tensor], targets: tf.Tensor) -> tf.Tensor:
        if not (self._is_repeatable or tf.inside_function()):
            function = tf.function(self._outputs_alone, autograph=False)
            self._require_repeatable(function.get_concrete_function(inputs).graph)
        outputs = self._outputs_in_training(inputs)
        if not self._is_repeatable:
            self._require_repeatable(tf.compat.v1.get_default_graph())
        if self._port.loss == OWN_LOSS:
            exact = targets if self._port.targets.classes else self._stored(targets)
            return self._network.own_loss(tf.nest.map_structure(self._stored, outputs), exact)
        judged = scored(outputs, self._port.output, is_numbers, self._side.file)
        self._require_comparable(judged.shape, targets.shape)
        return LOSSES[self._port.loss](self._stored(judged), targets, self._port)

    def _stored(self, value: tf.Tensor | None) -> tf.Tensor | None:
        """In the dtype of the weights, which a policy of mixed precision has for its losses; None stays None."""
        dtype = tf.as_dtype(self._workload.storage_dtype)
        return value if value is None or value.dtype == dtype else tf.cast(value, dtype)

    def _outputs_in_training(self, inputs: dict[str, tf.Tensor]) -> Any:
        """With weights of which rows may be looked up as whole ones: within the tape, so that gradients are whole."""
        outer = get_stateless_scope()
        values = [(variable, outer.get_current_value(variable)) for variable in self._looked_up]
        with keras.StatelessScope() as scope:
            scope.state_mapping.update(outer.state_mapping)
            scope.state_mapping.update({id(variable): _with_whole_gradient(value) for variable, value in values})
            outputs = self._network(training=True, **inputs)
        for variable in self._statistics:
            outer.add_update((variable, scope.get_current_value(variable)))
        return outputs

    def _outputs_alone(self, inputs: dict[str, tf.Tensor]) -> Any:
        with self._scope(self._read()):
            return self._network(training=True, **inputs)

    def _canonical(self, values: Mapping[str, tf.Tensor | None]) -> Weights:
        arrays = {path: None if value is None else _to_numpy(value) for path, value in values.items()}
        return self._side.to_canonical(arrays, self._port.weights)

    def _require_repeatable(self, graph: tf.Graph) -> None:
        """Raises UnsupportedError where training draws random numbers: no other framework draws the same."""
        if any("Random" in operation.type for operation in graph.get_operations()):
            raise UnsupportedError(
                "draws random numbers in training, which no other framework follows", where=self._side.file,
                next_step="let `build()` make the model without drop-out",
            )  # fmt: skip
        self._is_repeatable = True

    def _require_comparable(self, shape: tf.TensorShape, targets: tf.TensorShape) -> None:
        if shape.rank is None:
            return  # A graph need not know.
        sizes, axis, expected = shape.as_list(), self._port.class_axis, f"targets {tuple(targets)}"
        if self._port.loss == "cross-entropy":
            classes = self._port.targets.classes
            expected += f" and {classes} classes along axis {axis}"
            if not -len(sizes) <= axis < len(sizes) or (sizes[axis] or classes) < classes:
                raise InputError("no outputs for all classes", where=self._side.file, got=sizes, expected=expected)
            del sizes[axis]
        if not targets.is_compatible_with(sizes):
            raise InputError(
                "its outputs do not fit the targets", where=self._side.file, got=tuple(shape), expected=expected
            )


def _require_fit(file: str, places: Mapping[str, Any], filled: Sequence[str], zeros: Sequence[str]) -> None:
    """Raises InputError unless the port fills every weight of the file."""
    told = {*filled, *zeros}
    if told != set(places):
        missing, unknown = sorted(set(places) - told), sorted(told - set(places))
        raise InputError(
            "its weights are not those of the port", where=file, got=f"missing {missing}, unknown {unknown}"
        )


@tf.custom_gradient
def _with_whole_gradient(value: tf.Tensor) -> tuple[tf.Tensor, Callable[[Any], tf.Tensor]]:
    """The same value. What looks rows up gives a gradient of these rows alone; fused optimisers take whole ones."""
    return tf.identity(value), tf.convert_to_tensor


def _cross_entropy(outputs: tf.Tensor, targets: tf.Tensor, port: Port) -> tf.Tensor:
    axis, rank = port.class_axis % len(outputs.shape), len(outputs.shape)
    last = outputs if axis == rank - 1 else tf.transpose(outputs, [*np.delete(range(rank), axis), axis])
    if port.targets.ignored is None:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, last))
    asked = targets != port.targets.ignored
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(asked, targets, tf.zeros_like(targets)), last)
    kept = tf.cast(asked, losses.dtype)
    return tf.reduce_sum(losses * kept) / tf.reduce_sum(kept)


def _squared_error(outputs: tf.Tensor, targets: tf.Tensor, port: Port) -> tf.Tensor:
    return tf.reduce_mean(tf.square(outputs - tf.cast(targets, outputs.dtype)))


def _binary_cross_entropy(outputs: tf.Tensor, targets: tf.Tensor, port: Port) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(targets, outputs.dtype), outputs))


LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor, Port], tf.Tensor]] = {
    "cross-entropy": _cross_entropy,
    "squared-error": _squared_error,
    "binary-cross-entropy": _binary_cross_entropy,
}
