"""A user's own model as one more model of this framework: its weights by a port, its losses, its batch statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from faceoff.core.errors import InputError, UnsupportedError
from faceoff.core.outputs import named_leaves, scored
from faceoff.core.own import OWN_LOSS, Port, port_of
from faceoff.core.weights import Weights, is_statistic

from .disturbance import Disturbance
from .own import Watch, open_loss, open_network
from .recording import Recorder
from .runtime import Arrays, JaxModel, PlacedBatch, _to_numpy
from .stochastic import inner_programs

DRAWS = ("random_bits", "rng_bit_generator", "rng_uniform")


class OwnModel(JaxModel):
    """A model that its user's file makes, in the mode `jit`.

    Arrays are held by their paths there, of which several canonical weights may share one.
    """

    def _make_network(self, mode: str) -> None:
        self._port = port_of(self._workload.model)
        self._side = self._port.side("jax")
        dtype = jnp.bfloat16 if self._mixed else jnp.dtype(self._workload.storage_dtype)
        self._network = open_network(self._side.file, dtype)
        self._ledger = {"kernel": "the user's own", "file": self._side.file}
        self._draws: bool | None = None
        self._noting: list[dict[str, Any]] | None = None
        self._noisy_layers: Disturbance | None = None
        self._calls: dict[Any, list[dict[str, Any]]] = {}
        self._check_places()

    def _check_places(self) -> None:
        """Raises InputError unless the port fills every weight of the file, with what fits."""
        file, places = self._side.file, self._network.places
        told = {*(placed.path for placed in self._side.weights.values()), *self._side.zeros}
        if told != set(places):
            missing, unknown = sorted(set(places) - told), sorted(told - set(places))
            raise InputError(
                "its weights are not those of the port", where=file, got=f"missing {missing}, unknown {unknown}"
            )
        for name, placed in self._side.weights.items():
            if placed.path in self._network.statistics and not is_statistic(name):
                raise InputError("a running statistic taken for a weight", where=file, got=f"{name} for {placed.path}")
        shapes = {name: np.zeros(shape, dtype=bool) for name, shape in self._port.weights.items()}
        for path, value in self._side.to_side(shapes).items():
            wanted = np.shape(self._network.values[path])
            if value.shape != wanted:
                raise InputError("wrong shape", where=f"{file}: {path}", got=value.shape, expected=str(wanted))

    def trace(self, batch: PlacedBatch, training: bool) -> dict[str, np.ndarray]:
        raise UnsupportedError("no outputs of layers", where=self._side.file)

    def disturb(self, dtype: str, unit_roundoff: float | None, seed: int, alike: bool) -> None:
        super().disturb(dtype, unit_roundoff, seed, alike)
        if self._noisy_layers is None:
            self._noisy_layers = Disturbance((partial(self._record, False), partial(self._record, True)))
        self._noisy_layers.begin(dtype, unit_roundoff, seed, alike)

    def layers(self, batch: PlacedBatch, training: bool, forced: Mapping[str, Any] | None) -> dict[str, Any]:
        record = partial(jax.jit(self._record, static_argnums=0), training)
        if self._noisy_layers:
            record = self._noisy_layers.verbs[training]
        outputs, arrays = jax.tree.map(_to_numpy, record(self._trained, self._statistics, batch[0], forced))
        calls = self._calls[training, jax.tree.structure(forced)]
        if not (calls or self._network.has_layers):
            raise UnsupportedError(
                "a plain function has no layers", where=self._side.file,
                next_step='name values in it: x = faceoff.record("x", x)',
            )  # fmt: skip
        return {
            "outputs": outputs,
            "layers": [{**call, **held} for call, held in zip(calls, arrays, strict=True)],
        }

    def _record(self, training: bool, trained: Arrays, statistics: Arrays, inputs: Arrays, forced: Any) -> Any:
        """The outputs, and what each layer is given and returns, with `_calls` in the same order."""
        recorder = Recorder(self._port.layers_of("jax"), forced)
        outputs, _ = self._outputs(trained, statistics, inputs, training, recorder.recording)
        self._calls[training, jax.tree.structure(forced)] = recorder.calls
        return outputs, recorder.arrays

    def dropouts(self, batch: PlacedBatch) -> list[dict[str, Any]]:
        self._noting = []
        try:
            jax.eval_shape(lambda: self._outputs(self._trained, self._statistics, batch[0], training=True))
            return self._noting
        finally:
            self._noting = None

    def operations(self, step: str, batch: PlacedBatch) -> int | None:
        # Not before it is wanted: importing it takes time that a cold start need not spend.
        from .counting import count_products

        held = self._trained, self._statistics
        trace = {
            "inference": lambda: jax.make_jaxpr(self._logits)(*held, batch[0]),
            "gradients": lambda: jax.make_jaxpr(self._differentiate)(*held, *batch),
            "training": lambda: jax.make_jaxpr(self._step)(*held, self._optimiser_state, *batch),
        }[step]
        return count_products(trace().jaxpr)

    def _native(self, weights: Mapping[str, np.ndarray]) -> Weights:
        return self._side.to_side(weights)

    def _is_statistic(self, name: str) -> bool:
        return name in self._network.statistics

    def _to_canonical(self, arrays: Arrays) -> Weights:
        held = {path: _to_numpy(value) for path, value in arrays.items()}
        found = self._side.to_canonical(held, self._port.weights)
        return {name: value for name, value in found.items() if value is not None}

    def _logits(self, trained: Arrays, statistics: Arrays, inputs: Arrays) -> Any:
        return self._outputs(trained, statistics, inputs, training=False)[0]

    def _loss(
        self, trained: Arrays, inputs: Arrays, statistics: Arrays, targets: jax.Array
    ) -> tuple[jax.Array, Arrays]:
        outputs, moved = self._outputs(trained, statistics, inputs, training=True)
        outputs = jax.tree.map(lambda part: part.astype(self._workload.storage_dtype), outputs)
        found = {
            # Flax computes them in float32 at least.
            path: moved[path].astype(value.dtype) if path in moved else value
            for path, value in statistics.items()
        }
        if self._port.loss == OWN_LOSS:
            exact = targets if self._port.targets.classes else targets.astype(self._workload.storage_dtype)
            return open_loss(self._side.file)(outputs, exact), found
        judged = scored(outputs, self._port.output, is_numbers, self._side.file)
        self._require_comparable(judged, targets)
        return LOSSES[self._port.loss](judged, targets, self._port), found

    def _outputs(
        self, trained: Arrays, statistics: Arrays, inputs: Arrays, training: bool, watch: Watch | None = None
    ) -> tuple[Any, Arrays]:
        zeros = {path: jnp.zeros_like(self._network.values[path]) for path in self._side.zeros}
        arrays = {**self._narrow({**trained, **zeros}), **statistics}
        narrow = self._narrow(inputs)
        turned = {own.name: self._turned(own.name, narrow[own.name]) for own in self._port.inputs}
        given = [value for name, value in turned.items() if name not in self._side.dropouts]
        masks = {path: turned[name] for name, path in self._side.dropouts.items()}
        if training:
            self._require_no_draws(arrays, given)
        outputs, moved = self._network.call(arrays, given, training, watch, masks=masks, dropouts=self._noting)
        named_leaves(outputs, is_numbers, self._side.file)
        return outputs, moved

    def _turned(self, name: str, value: jax.Array) -> jax.Array:
        axes = self._side.inputs.get(name)
        return value if axes is None else jnp.transpose(value, axes)

    def _require_no_draws(self, arrays: Arrays, given: list[jax.Array]) -> None:
        """Raises UnsupportedError where training draws random numbers: no other framework draws the same."""
        if self._draws is None:
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (arrays, given))
            program = jax.make_jaxpr(lambda arrays, given: self._network.call(arrays, given, training=True))(*shapes)
            self._draws = _draws(program.jaxpr)
        if self._draws:
            raise UnsupportedError(
                "draws random numbers in training, which no other framework follows", where=self._side.file,
                next_step="draw with nnx.Dropout, or let `build()` make the model without dropout",
            )  # fmt: skip

    def _require_comparable(self, outputs: jax.Array, targets: jax.Array) -> None:
        shape, axis = outputs.shape, self._port.class_axis
        expected = f"targets {targets.shape}"
        if self._port.loss == "cross-entropy":
            expected += f" and {self._port.targets.classes} classes along axis {axis}"
            if not -len(shape) <= axis < len(shape) or shape[axis] < self._port.targets.classes:
                raise InputError("no outputs for all classes", where=self._side.file, got=shape, expected=expected)
            shape = tuple(np.delete(shape, axis).tolist())
        if shape != targets.shape:
            raise InputError(
                "its outputs do not fit the targets", where=self._side.file, got=outputs.shape, expected=expected
            )


def _draws(program: Any) -> bool:
    return any(
        equation.primitive.name in DRAWS
        or any(_draws(getattr(inner, "jaxpr", inner)) for inner in inner_programs(equation))
        for equation in program.eqns
    )


def is_numbers(value: Any) -> bool:
    """Whether it is an array of real numbers."""
    return isinstance(value, jax.Array) and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _cross_entropy(outputs: jax.Array, targets: jax.Array, port: Port) -> jax.Array:
    last = jnp.moveaxis(outputs, port.class_axis, -1)
    if port.targets.ignored is None:
        return optax.softmax_cross_entropy_with_integer_labels(last, targets).mean()
    asked = targets != port.targets.ignored
    losses = optax.softmax_cross_entropy_with_integer_labels(last, jnp.where(asked, targets, 0))
    return jnp.where(asked, losses, 0).sum() / asked.sum()


def _squared_error(outputs: jax.Array, targets: jax.Array, port: Port) -> jax.Array:
    return jnp.square(outputs - targets.astype(outputs.dtype)).mean()


def _binary_cross_entropy(outputs: jax.Array, targets: jax.Array, port: Port) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(outputs, targets.astype(outputs.dtype)).mean()


LOSSES: dict[str, Callable[[jax.Array, jax.Array, Port], jax.Array]] = {
    "cross-entropy": _cross_entropy,
    "squared-error": _squared_error,
    "binary-cross-entropy": _binary_cross_entropy,
}
