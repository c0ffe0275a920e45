"""A user's own model: its file is loaded, and what it returns is opened as weights by path and a function of them.

`build()` in the file returns a Flax module, or a pair of parameters and a function of these and the inputs.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from faceoff.core.errors import InputError, UnsupportedError
from faceoff.core.side_file import has_loss, load_build, load_loss
from faceoff.core.weights import STATISTICS

from .masks import masking
from .own_layers import Place, part_of, place_of

Arrays = dict[str, Any]
Watch = Callable[[nnx.Module | None, Any], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Network:
    """A model as a pure function.

    Attributes:
        places: of its weights and running statistics, by path, in the order in which they were made.
        values: what they were made with, by path.
        statistics: paths of those that the model itself moves.
        call: of arrays by path, inputs in order, and whether batch statistics are to be used, to the outputs and the
            moved statistics by path. `watch`, if given, is entered with the module, if there is one, and the inputs
            meanwhile. `masks` are those of dropout layers, by path, and `dropouts` takes the calls of these.
        has_layers: whether there are modules that can be watched so.
    """

    places: dict[str, Place]
    values: Arrays
    statistics: frozenset[str]
    call: Callable[..., tuple[Any, Arrays]]
    has_layers: bool = True


def open_side(file: str) -> dict[str, Any]:
    """See `Runtime.open_side`. JAX has no generators of its own to be seeded."""
    # As its users run it, whatever was computed here before.
    with jax.enable_x64(False):
        network = open_network(file)
        return {
            "weights": [place.to_json() for place in network.places.values()],
            "arrays": {path: np.array(value, dtype=np.float32) for path, value in network.values.items()},
            "loss": has_loss(file, _variant()),
        }


def open_network(file: str, dtype: Any = None) -> Network:
    """Builds the model of a file.

    Args:
        file: its path.
        dtype: in which it will be computed; None: as its author has it.

    Raises:
        InputError: the file, or what it returns, cannot be used.
        UnsupportedError: it needs a module that is not here, or holds what has no counterpart elsewhere.
    """
    built = load_build(file, _variant())()
    if isinstance(built, nnx.Module):
        return _of_module(built, dtype, file)
    if isinstance(built, tuple) and len(built) == 2 and callable(built[1]):
        return _of_function(built[0], built[1], dtype, file)
    raise InputError(
        "`build()` returned no model", where=file, got=type(built).__name__,
        expected="a flax.nnx.Module, or a pair of parameters and a function of these and the inputs",
    )  # fmt: skip


def open_loss(file: str) -> Callable[[Any, jax.Array], jax.Array]:
    """The user's own loss, of outputs and targets; raises as `open_network` does, and InputError for no number."""
    function = load_loss(file, _variant())

    def loss(outputs: Any, targets: jax.Array) -> jax.Array:
        value = jnp.asarray(function(outputs, targets))
        if value.ndim:
            raise InputError(
                "`loss()` returned no single number", where=file, got=value.shape, expected="an array without axes"
            )
        return value

    return loss


def _variant() -> str:
    """Arrays are wide by default or not, which the constants of a file follow."""
    return str(jnp.result_type(float))


def _of_module(module: nnx.Module, dtype: Any, file: str) -> Network:
    if dtype is not None:
        _follow(module, dtype)
    graph, trained, moved, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    kept = nnx.from_flat_state([(path, _constant(leaf, dtype)) for path, leaf in nnx.to_flat_state(rest)])
    statistics = dict(nnx.to_flat_state(moved))
    variables = {**dict(nnx.to_flat_state(trained)), **statistics}
    paths = _named(sorted(variables, key=lambda path: _made(module, path)), file)
    for name, path in paths.items():
        if path in statistics and path[-1] not in ("mean", "var", *STATISTICS):
            raise UnsupportedError("a running statistic that is no mean or variance", where=file, got=name)
        _require_float(variables[path].get_value(), f"{file}: {name}")

    def call(
        arrays: Mapping[str, Any], inputs: Sequence[Any], training: bool, watch: Watch | None = None,
        masks: Mapping[str, Any] | None = None, dropouts: list[dict[str, Any]] | None = None,
    ) -> tuple[Any, Arrays]:  # fmt: skip
        held = nnx.from_flat_state([(path, variables[path].replace(arrays[name])) for name, path in paths.items()])
        made = nnx.merge(graph, held, kept, copy=True)
        # Frameworks draw differently, so dropout draws nothing; only batch norm is told.
        made.eval()
        made.set_attributes(use_running_average=not training, raise_if_not_found=False)
        masked = training and (masks or dropouts is not None)
        with (
            masking(made, masks or {}, dropouts) if masked else contextlib.nullcontext(),
            watch(made, inputs) if watch else contextlib.nullcontext(),
        ):
            outputs = _call(made, inputs, training)
        found = dict(nnx.to_flat_state(nnx.state(made, nnx.BatchStat)))
        return outputs, {name: found[path][...] for name, path in paths.items() if path in statistics}

    return Network(
        places={name: place_of(module, path, name, path in statistics) for name, path in paths.items()},
        values={name: variables[path].get_value() for name, path in paths.items()},
        statistics=frozenset(name for name, path in paths.items() if path in statistics),
        call=call,
    )


def _of_function(parameters: Any, function: Callable[..., Any], dtype: Any, file: str) -> Network:
    entries, tree = jax.tree_util.tree_flatten_with_path(parameters)
    leaves = [_constant(leaf, dtype) for _, leaf in entries]
    trained = {entry: at for at, (entry, leaf) in enumerate(entries) if _is_float_array(leaf)}
    if not trained:
        raise InputError("no arrays among its parameters", where=file, got=str(tree)[:80])
    keys = {tuple(jax.tree_util.keystr((key,), simple=True) for key in entry): entry for entry in trained}
    paths = _named(sorted(keys, key=lambda path: _inserted(parameters, keys[path])), file)
    places = {name: trained[keys[path]] for name, path in paths.items()}

    def call(
        arrays: Mapping[str, Any], inputs: Sequence[Any], training: bool, watch: Watch | None = None, **_: Any
    ) -> tuple[Any, Arrays]:
        filled = list(leaves)
        for name, at in places.items():
            filled[at] = arrays[name]
        with watch(None, inputs) if watch else contextlib.nullcontext():
            return _call(function, [jax.tree.unflatten(tree, filled), *inputs], training), {}

    return Network(
        places={name: Place(name, "", path[-1], _axes_by_name(path[-1], np.ndim(leaves[places[name]])))
                for name, path in paths.items()},
        values={name: entries[at][1] for name, at in places.items()},
        statistics=frozenset(),
        call=call,
        has_layers=False,
    )  # fmt: skip


def _axes_by_name(name: str, count: int) -> tuple[int, ...]:
    """Of an array in no layer: what everybody calls a kernel has its outputs last, and they come first canonically."""
    return (1, 0) if name == "kernel" and count == 2 else tuple(range(count))


def _call(function: Callable[..., Any], args: Sequence[Any], training: bool) -> Any:
    """Calls what may want to be told whether it is trained."""
    takes = inspect.signature(function).parameters.get("training")
    told = takes is not None and takes.kind in (takes.POSITIONAL_OR_KEYWORD, takes.KEYWORD_ONLY)
    return function(*args, training=training) if told else function(*args)


def _follow(module: nnx.Module, dtype: Any) -> None:
    """Lets layers that compute in the dtype of their weights do so in another one."""
    for _, part in nnx.iter_modules(module):
        own = getattr(part, "param_dtype", None)
        if own is None:
            continue
        if getattr(part, "dtype", None) is not None and jnp.dtype(part.dtype) == jnp.dtype(own):
            part.dtype = dtype
        part.param_dtype = dtype


def _constant(leaf: Any, dtype: Any) -> Any:
    """What a model holds beside its weights, in the dtype that it is computed in."""
    value = leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf
    if dtype is None or not _is_float_array(value):
        return leaf
    narrow = jnp.asarray(value, dtype=dtype)
    return leaf.replace(narrow) if isinstance(leaf, nnx.Variable) else narrow


def _is_float_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray)) and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _require_float(value: Any, where: str) -> None:
    if not _is_float_array(value):
        got = getattr(value, "dtype", type(value).__name__)
        raise UnsupportedError("a weight that is no array of real numbers", where=where, got=got)


def _named(paths: Sequence[tuple[Any, ...]], file: str) -> dict[str, tuple[Any, ...]]:
    """Paths by what they are called; raises InputError where two are called alike."""
    named: dict[str, tuple[Any, ...]] = {}
    for path in paths:
        name = ".".join(str(key) for key in path)
        if name in named:
            raise InputError("two weights of one name", where=file, got=name)
        named[name] = path
    return named


def _made(module: Any, path: Sequence[Any]) -> list[int]:
    """A key that sorts paths as the attributes were set; Flax sorts them by name."""
    places = []
    for key in path:
        names = [str(name) for name in (module if isinstance(module, Mapping) else getattr(module, "__dict__", ()))]
        places.append(names.index(str(key)) if str(key) in names else key if isinstance(key, int) else 0)
        module = part_of(module, key)
    return places


def _inserted(tree: Any, path: Sequence[Any]) -> list[int]:
    """A key that sorts paths as dicts were filled; JAX sorts their keys."""
    places = []
    for key in path:
        if isinstance(key, jax.tree_util.DictKey):
            places.append(list(tree).index(key.key))
            tree = tree[key.key]
        elif isinstance(key, jax.tree_util.SequenceKey):
            places.append(key.idx)
            tree = tree[key.idx]
        else:
            break  # Of another kind of node: as it lists them, the sort being stable.
    return places
