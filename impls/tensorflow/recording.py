"""What the layers of a user's Keras model are given and return, run by run; and other values in the place of these."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from faceoff.core.recorded import watching

from .own_layers import ACTIVATED, kind_of, layers_of


class Recorder:
    """Records the calls of some layers of a model that runs eagerly; see `Model.layers`.

    Args:
        model: the whole one.
        paths: of the layers.
        forced: see `Model.layers`.
    """

    def __init__(self, model: keras.Model, paths: Collection[str], forced: Mapping[str, Any] | None) -> None:
        self._layers = {path: layer for path, layer in layers_of(model).items() if path in paths}
        self._forced = forced or {}
        self._events = 0
        self._called: dict[str, int] = {}
        self.calls: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Records what is called meanwhile."""
        try:
            for path, layer in self._layers.items():
                # Past Keras, which would keep account of it.
                object.__setattr__(layer, "call", self._recorded(path, layer))
            with watching(self._value):
                yield
        finally:
            for layer in self._layers.values():
                vars(layer).pop("call", None)

    def _recorded(self, path: str, layer: keras.layers.Layer) -> Callable[..., Any]:
        call, kind = layer.call, kind_of(layer)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            name = self._name(path)
            forced = self._forced.get(name, {})
            inputs, (args, kwargs) = _replaced((args, kwargs), forced.get("inputs", ()))
            found = {"name": name, "kind": kind, "entered": self._event(), "inputs": inputs}

            def left(result: Any) -> Any:
                found["outputs"], result = _replaced(result, forced.get("outputs", ()))
                self.calls.append({**found, "left": self._event()})
                return result

            if not isinstance(layer, ACTIVATED):
                return left(call(*args, **kwargs))
            # Elsewhere an activation is no part of the layer before it.
            activation = layer.activation
            object.__setattr__(layer, "activation", lambda x: activation(left(x)))
            try:
                return call(*args, **kwargs)
            finally:
                object.__setattr__(layer, "activation", activation)

        return recorded

    def _value(self, path: str, value: Any) -> Any:
        name = self._name(path)
        found, value = _replaced(value, self._forced.get(name, {}).get("inputs", ()))
        events = {"entered": self._event(), "left": self._event()}
        self.calls.append({"name": name, "kind": "", "inputs": found, "outputs": [], **events})
        return value

    def _name(self, path: str) -> str:
        number = self._called[path] = self._called.get(path, 0) + 1
        return path if number == 1 else f"{path}#{number}"

    def _event(self) -> int:
        self._events += 1
        return self._events


def _replaced(tree: Any, given: Any) -> tuple[list[np.ndarray], Any]:
    """The arrays in a tree, each once, and the tree with others in their place."""
    leaves = keras.tree.flatten(tree)
    arrays = {id(leaf): leaf for leaf in leaves if tf.is_tensor(leaf) and leaf.dtype != tf.bool}
    others = {
        key: tf.cast(value, leaf.dtype)
        for (key, leaf), value in zip(arrays.items(), given, strict=False)
        if value is not None
    }
    found = [(tf.cast(leaf, tf.float32) if leaf.dtype == tf.bfloat16 else leaf).numpy() for leaf in arrays.values()]
    return found, keras.tree.map_structure(lambda leaf: others.get(id(leaf), leaf), tree)
