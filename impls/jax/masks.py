"""Dropout of a user's Flax module by masks that all sides are given, instead of random numbers.

Python looks `__call__` up on the class, so that of the class is another one for the length of a call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax import nnx

from faceoff.core.errors import UnsupportedError

# Channels come after places, in arrays of that many axes and more.
WITH_PLACES = 4


@contextlib.contextmanager
def masking(
    module: nnx.Module, masks: Mapping[str, jax.Array], calls: list[dict[str, Any]] | None = None
) -> Iterator[None]:
    """Lets the module's dropout layers multiply by masks, by their paths, while the block runs.

    Args:
        module: the whole model.
        masks: 1 over the kept share for what is kept, 0 for the rest.
        calls: takes each call of a layer, as `Model.dropouts` tells it.

    Raises:
        UnsupportedError: in the block, where calls are noted: one of them does more than leave elements out.
    """
    paths = {
        id(part): ".".join(str(key) for key in path)
        for path, part in nnx.iter_modules(module)
        if isinstance(part, nnx.Dropout) and part.rate
    }
    plain = nnx.Dropout.__call__

    def call(layer: nnx.Dropout, inputs: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        path = paths.get(id(layer))
        if path is None or kwargs.get("deterministic"):
            return plain(layer, inputs, *args, **kwargs)
        if calls is not None:
            if layer.broadcast_dims:
                raise UnsupportedError(
                    "dropout of another kind", where=path, got=f"broadcast_dims={layer.broadcast_dims}"
                )
            channels = inputs.ndim - 1 if inputs.ndim >= WITH_PLACES else None
            calls.append({"layer": path, "shape": list(inputs.shape), "rate": float(layer.rate), "channels": channels})
        if path in masks:
            return inputs * masks[path].astype(inputs.dtype)
        return plain(layer, inputs, *args, **kwargs)

    nnx.Dropout.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        nnx.Dropout.__call__ = plain  # type: ignore[method-assign]
