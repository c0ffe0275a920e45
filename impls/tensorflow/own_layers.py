"""What is known of Keras' layers: where a model keeps its weights, and which axes of them are which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.models.functional import Functional

from faceoff.core.errors import InputError, UnsupportedError

layers = keras.layers
CONVOLUTIONS = (BaseConv, BaseDepthwiseConv, BaseSeparableConv)
NORMS = (
    layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization, layers.RMSNormalization,
)  # fmt: skip
CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
KINDS: tuple[tuple[Any, str], ...] = (
    (layers.Dense, "linear"), (layers.EinsumDense, "einsum"), (CONVOLUTIONS, "convolution"),
    (BaseConvTranspose, "transposed convolution"), (NORMS, "norm"), (layers.Embedding, "embedding"),
    ((*CELLS, layers.RNN, layers.Bidirectional), "recurrent"),
    ((layers.MultiHeadAttention, layers.GroupQueryAttention), "attention"),
)  # fmt: skip
# Those that end with an activation.
ACTIVATED = (layers.Dense, layers.EinsumDense, *CONVOLUTIONS, BaseConvTranspose)
# What Keras calls c is g elsewhere, and its h is n.
STACKED: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (layers.LSTMCell, ("i", "f", "g", "o")), (layers.GRUCell, ("z", "r", "n")),
)  # fmt: skip
# Lists of all that a layer holds.
TRACKED = ("_layers", "_trainable_variables", "_non_trainable_variables")
STATISTICS = {"moving_mean": "mean", "moving_variance": "variance"}
PARTS = {"kernel": "weight", "embeddings": "weight", "gamma": "scale", "beta": "bias", **STATISTICS}


@dataclass(frozen=True)
class Place:
    """A weight or running statistic of a user's model.

    Args:
        path: its name in the model.
        variable: it itself.
        layer: the kind of the layer that it belongs to; empty where not known.
        part: what it is there.
        axes: the permutation of the canonical axes that makes the model's.
        stacked: names of the equal parts that lie one after the other in it.
    """

    path: str
    variable: keras.Variable
    layer: str
    part: str
    axes: tuple[int, ...]
    stacked: tuple[str, ...] = ()

    @property
    def is_statistic(self) -> bool:
        """Whether the model itself moves it."""
        return self.part in STATISTICS.values()

    def to_json(self) -> dict[str, Any]:
        """As `Runtime.open_side` tells it."""
        return {
            "path": self.path, "layer": self.layer, "part": self.part, "axes": list(self.axes),
            "stacked": list(self.stacked), "trained": not self.is_statistic,
        }  # fmt: skip


def places_of(model: keras.Model, file: str) -> dict[str, Place]:
    """Where a model keeps its weights and running statistics, by path, in the order in which they were made.

    Raises:
        InputError: two of one path.
        UnsupportedError: one that has no counterpart elsewhere, or that Keras does more with than train it.
    """
    found: dict[str, Place] = {}
    seen: set[int] = set()
    for outer, owner, called in _walk(model, ()):
        for variable in (*owner._trainable_variables, *owner._non_trainable_variables):
            if id(variable) in seen:
                continue  # One layer in two places.
            seen.add(id(variable))
            # Keras numbers those that were given no name.
            nameless = variable.name.rstrip("_0123456789") == "variable"
            names = called.get(id(variable), (variable.name,)) if nameless else (variable.name,)
            place = _place("/".join((*outer, *names)), owner, variable)
            _require_plain(place, f"{file}: {place.path}")
            if place.path in found:
                raise InputError(
                    "two weights of one name", where=file, got=place.path, next_step="give each layer its own name"
                )
            found[place.path] = place
    return found


def layers_of(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers of a model by their paths, each once, without those that are called in a loop over time."""
    found: dict[str, keras.layers.Layer] = {}
    loops: list[str] = []
    seen = {id(model)}
    for names, layer, _ in _walk(model, ()):
        path = "/".join(names)
        if id(layer) not in seen and not any(path.startswith(f"{loop}/") for loop in loops):
            found[path] = layer
        seen.add(id(layer))
        if isinstance(layer, (layers.RNN, layers.TimeDistributed)):
            loops.append(path)
    return found


def kind_of(layer: keras.layers.Layer) -> str:
    """What kind of layer it is; empty where it is none that is known."""
    return next((kind for classes, kind in KINDS if isinstance(layer, classes)), "")


def _walk(
    owner: keras.layers.Layer, outer: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], keras.layers.Layer, Mapping[int, tuple[str, ...]]]]:
    """Every layer: its names, outermost first, it itself, and what it calls what it holds, by ids."""
    called = {} if _is_named(owner) else _attributes(owner)
    yield outer, owner, called
    for layer in owner._flatten_layers(include_self=False, recursive=False):
        yield from _walk(layer, (*outer, *called.get(id(layer), (layer.name,))))


def _is_named(owner: keras.layers.Layer) -> bool:
    """Whether the names of what it holds say more than its attributes: Keras' own classes, and layers in a graph."""
    return type(owner).__module__.partition(".")[0] == "keras" or isinstance(owner, (Functional, keras.Sequential))


def _attributes(owner: keras.layers.Layer) -> dict[int, tuple[str, ...]]:
    """What a user's class calls the layers and weights that it holds, by their ids."""
    found: dict[int, tuple[str, ...]] = {}

    def note(value: Any, names: tuple[str, ...]) -> None:
        if isinstance(value, (keras.layers.Layer, keras.Variable)):
            found.setdefault(id(value), names)
        elif isinstance(value, Mapping):
            for key, part in value.items():
                note(part, (*names, str(key)))
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            for index, part in enumerate(value):
                note(part, (*names, str(index)))

    # What Keras and TensorFlow keep of them themselves begins so.
    own = [name for name in vars(owner) if name not in TRACKED and not name.startswith("_self_")]
    for name in sorted(own, key=lambda name: name.startswith("_")):
        note(vars(owner)[name], (name.lstrip("_"),))
    return found


def _place(path: str, owner: keras.layers.Layer, variable: keras.Variable) -> Place:
    leaf, rank = path.rpartition("/")[2], len(variable.shape)
    layer = kind_of(owner)
    part = PARTS.get(leaf, leaf)
    if part in STATISTICS.values() and not isinstance(owner, layers.BatchNormalization):
        # Nothing else is called like a running statistic.
        part = "weight"
    axes = _kernel_axes(owner, rank) if leaf.endswith("kernel") else tuple(range(rank))
    stacked = next((gates for cls, gates in STACKED if isinstance(owner, cls)), ())
    if layer == "recurrent":
        part = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh"}.get(leaf, part)
    return Place(path, variable, layer, part, axes, stacked)


def _kernel_axes(owner: keras.layers.Layer, rank: int) -> tuple[int, ...]:
    spatial = tuple(range(1, rank - 1))
    if isinstance(owner, (*CONVOLUTIONS, BaseConvTranspose)):
        # Last come the outputs; of a depthwise one the filters of each channel; of a transposed one what comes in.
        return (*spatial, rank - 1, 0)
    if isinstance(owner, (layers.Dense, *CELLS)) and rank == 2:
        return (1, 0)
    if isinstance(owner, layers.EinsumDense):
        return _einsum_axes(owner.equation)
    return tuple(range(rank))


def _einsum_axes(equation: str) -> tuple[int, ...]:
    """Canonical: what comes out before what comes in."""
    operands, _, result = equation.replace("...", "").partition("->")
    kernel = operands.partition(",")[2]
    canonical = [axis for axis in kernel if axis in result] + [axis for axis in kernel if axis not in result]
    return tuple(canonical.index(axis) for axis in kernel)


def _require_plain(place: Place, where: str) -> None:
    variable = place.variable
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise UnsupportedError("a weight that is no array of real numbers", where=where, got=dtype)
    if not variable.trainable and not place.is_statistic:
        raise UnsupportedError(
            "a weight that is not trained", where=where, got="trainable=False", expected="weights that all are",
            next_step="leave `trainable` as it is in `build()`",
        )  # fmt: skip
    for what, beside in (("a regulariser", variable.regularizer), ("a constraint", variable.constraint)):
        if beside is not None:
            raise UnsupportedError(
                f"a weight with {what}, which the other sides know nothing of", where=where,
                got=type(beside).__name__, next_step="let `build()` make the model without it",
            )  # fmt: skip
