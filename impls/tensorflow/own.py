"""A user's own Keras model: its file is loaded, and what it returns is opened as weights by path and a function."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell
from keras.src.models.functional import Functional
from keras.src.utils.naming import reset_uids

from faceoff.core.errors import InputError, UnsupportedError
from faceoff.core.outputs import named_leaves
from faceoff.core.own import port_of
from faceoff.core.side_file import has_loss, load_build, load_loss
from faceoff.core.spec import ModelSpec

from .own_layers import Place, places_of
from .own_making import making

layers = keras.layers
RATES: tuple[tuple[Any, tuple[str, ...]], ...] = (
    ((layers.Dropout, layers.GaussianDropout, layers.AlphaDropout), ("rate",)),
    (layers.GaussianNoise, ("stddev",)),
    (DropoutRNNCell, ("dropout", "recurrent_dropout")),
)
# Of those, the ones that a layer of its own has.
DROPPING = (("rate",), ("stddev",))
# Channels come after places, in arrays of that many axes and more.
WITH_PLACES = 4


def open_side(file: str, seed: int) -> dict[str, Any]:
    """See `Runtime.open_side`."""
    keras.utils.set_random_seed(seed)
    network = Network(file, "float32")
    return {
        "weights": [place.to_json() for place in network.places.values()],
        "arrays": {path: np.array(place.variable.value, np.float32) for path, place in network.places.items()},
        "loss": has_loss(file, "float32"),
    }


class Network:
    """A user's model that takes its inputs by name, and where its weights sit.

    Args:
        file: whose `build()` returns it.
        dtype: in which it is computed: a dtype, or a policy of Keras'.
        storage: the dtype of its weights; that dtype, unless told.
        names: of its inputs, in order.
        axes: the permutation of axes in which it takes an input that is not as given.
        dropouts: paths of dropout layers that are given masks, by the names of these.

    Raises:
        InputError: the file, or what it returns, cannot be used.
        UnsupportedError: it needs a module that is not here, or holds what has no counterpart elsewhere.
    """

    def __init__(
        self, file: str, dtype: str, storage: str = "", names: Sequence[str] = (),
        axes: Mapping[str, Sequence[int]] | None = None, dropouts: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._file, self._policy, self._floats = file, dtype, storage or dtype
        self._names, self._axes = names, axes or {}
        with self._in_force(), making():
            # Else names would say how many layers this process has made before.
            reset_uids()
            build = load_build(file, dtype)
            # The file may have asked for others as it was imported.
            with self._in_force():
                model = build()
        if not isinstance(model, keras.Model):
            raise InputError(
                "`build()` returned no model", where=file, got=type(model).__name__, expected="a keras.Model"
            )
        self.model = model
        if not model.built or not model.weights:
            raise InputError(
                "a model without weights", where=file, got=f"{type(model).__name__}, which was not called yet",
                expected="a model whose layers have their weights",
                next_step="call it once in `build()`, on zeros, or begin with keras.Input",
            )  # fmt: skip
        self.places: dict[str, Place] = places_of(model, file)
        for path, place in self.places.items():
            if place.variable.dtype != self._floats:
                raise UnsupportedError(
                    f"a weight in {place.variable.dtype} where all is computed in {self._floats}",
                    where=f"{file}: {path}", next_step="leave the layer's dtype to Keras' policy",
                )  # fmt: skip
        self._dropping = _leave_out_dropout(model, file)
        self._notes: list[dict[str, Any]] | None = None
        self._masks: dict[str, tf.Tensor] = {}
        self._paths = dropouts or {}
        for path in self._paths.values():
            self._give_masks(path)

    @property
    def dtype_policy(self) -> keras.DTypePolicy:
        """Of the whole model."""
        return self.model.dtype_policy

    def __call__(self, training: bool, **inputs: tf.Tensor) -> Any:
        """The outputs, as the model returns them; raises InputError where they are no tensors of real numbers."""
        turned = {
            name: tf.transpose(value, self._axes[name]) if name in self._axes else value
            for name, value in inputs.items()
        }
        self._masks = {path: turned[name] for name, path in self._paths.items()}
        given = {name: turned[name] for name in self._names}
        with self._in_force():
            outputs = self.model(*self._arguments(given), training=training)
        named_leaves(outputs, is_numbers, self._file)
        return outputs

    def dropouts(self, **inputs: tf.Tensor) -> list[dict[str, Any]]:
        """See `Model.dropouts`."""
        for path, (layer, _) in self._dropping.items():
            if type(layer) is not layers.Dropout:
                raise UnsupportedError("dropout of another kind", where=path, got=type(layer).__name__)
            self._give_masks(path)
        self._notes = []
        try:
            self(training=True, **inputs)
            return self._notes
        finally:
            self._notes = None

    def _give_masks(self, path: str) -> None:
        """Lets a layer multiply by its mask in training; without one it does nothing."""
        layer, rate = self._dropping[path]

        def call(inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
            if self._notes is not None:
                shape = inputs.shape.as_list()
                channels = len(shape) - 1 if len(shape) >= WITH_PLACES else None
                self._notes.append({"layer": path, "shape": shape, "rate": rate, "channels": channels})
            if not training or path not in self._masks:
                return inputs
            return inputs * tf.cast(self._masks[path], inputs.dtype)

        layer.call = call

    @cached_property
    def _loss_of_file(self) -> Callable[[Any, Any], Any]:
        """Loaded once: an eager model asks for it in every timed call."""
        return load_loss(self._file, self._policy)

    def own_loss(self, outputs: Any, targets: tf.Tensor) -> tf.Tensor:
        """What the file's `loss` makes of them; raises InputError where that is no single number."""
        with self._in_force():
            loss = tf.convert_to_tensor(self._loss_of_file(outputs, targets))
        if loss.shape.rank:
            raise InputError(
                "`loss()` returned no single number", where=self._file, got=tuple(loss.shape),
                expected="a tensor without axes",
            )  # fmt: skip
        return loss

    def _arguments(self, given: dict[str, tf.Tensor]) -> list[Any]:
        """As the model takes them: one by one, as a list, or as a dict."""
        inputs = list(given.values())
        if isinstance(self.model, (Functional, keras.Sequential)):
            wanted = [tensor.name for tensor in self.model.inputs]
            if len(wanted) != len(given):
                raise InputError(
                    "takes another number of inputs", where=self._file, got=", ".join(wanted), expected=", ".join(given)
                )
            if isinstance(self.model, Functional) and isinstance(self.model.input, dict):
                return [given]
            ordered = [given[name] for name in wanted] if set(wanted) == set(given) else inputs
            return ordered if len(ordered) == 1 else [ordered]
        takes = inspect.signature(self.model.call).parameters
        together = len(takes.keys() - {"training", "mask"}) == 1 and "args" not in takes
        return [inputs] if together and len(inputs) > 1 else inputs

    @contextlib.contextmanager
    def _in_force(self) -> Iterator[None]:
        """New layers, inputs and constants are of the dtype; inputs follow `floatx`, layers the policy."""
        floats, policy = keras.config.floatx(), keras.config.dtype_policy()
        keras.config.set_floatx(self._floats)
        keras.config.set_dtype_policy(self._policy)
        try:
            yield
        finally:
            keras.config.set_floatx(floats)
            keras.config.set_dtype_policy(policy)


def is_numbers(value: Any) -> bool:
    """Whether it is a tensor of real numbers."""
    return bool(tf.is_tensor(value) and value.dtype.is_floating)


def ledger(spec: ModelSpec, mode: str) -> dict[str, str]:
    """Kernel and layout."""
    return {"kernel": "the user's own", "layout": "the user's own", "file": port_of(spec).side("tensorflow").file}


def _leave_out_dropout(model: keras.Model, file: str) -> dict[str, tuple[keras.Layer, float]]:
    """Switches dropout off, as each framework draws other masks; returns its layers and their rates, by path.

    Attention and recurrent layers drop out by themselves, which is no layer. A loss that a layer adds itself is
    refused: no other side adds it.
    """
    found = {}
    all_layers = model._flatten_layers()
    inner = {id(layer._dropout_layer) for layer in all_layers if isinstance(layer, layers.MultiHeadAttention)}
    for layer in all_layers:
        for kinds, rates in RATES:
            if isinstance(layer, kinds):
                if rates in DROPPING and id(layer) not in inner and getattr(layer, rates[0]):
                    # Two may be called alike in parts that users name.
                    name = layer.name if layer.name not in found else f"{layer.name}, number {len(found) + 1}"
                    found[name] = layer, float(getattr(layer, rates[0]))
                for rate in rates:
                    setattr(layer, rate, 0.0)
        if layer.activity_regularizer is not None:
            raise UnsupportedError(
                "a layer that adds a loss of its own, which the other sides know nothing of",
                where=f"{file}: {layer.name}", next_step="let `build()` make it without its regulariser",
            )  # fmt: skip
    return found
