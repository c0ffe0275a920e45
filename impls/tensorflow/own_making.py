"""While a user's file makes its Keras model: in every dtype, and with nothing left behind where it fails."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras.src.backend.common.global_state import GLOBAL_STATE_TRACKER

_orthogonal = keras.initializers.Orthogonal.__call__


@contextlib.contextmanager
def making() -> Iterator[None]:
    """Recurrent layers can be made in bfloat16 too, and an error leaves Keras as it was.

    TensorFlow has no QR decomposition in bfloat16, with which Keras draws the recurrent kernels. Keras 3.15 keeps the
    variables of a model that failed half-way as yet to be filled, and then fills none of later models.
    """
    before = {name: copy.copy(value) for name, value in vars(GLOBAL_STATE_TRACKER).items()}
    keras.initializers.Orthogonal.__call__ = _in_float32
    try:
        yield
    except BaseException:
        held = vars(GLOBAL_STATE_TRACKER)
        held.clear()
        held.update(before)
        raise
    finally:
        keras.initializers.Orthogonal.__call__ = _orthogonal


def _in_float32(self: keras.initializers.Orthogonal, shape: Sequence[int], dtype: Any = None) -> Any:
    wanted = keras.backend.standardize_dtype(dtype or keras.config.floatx())
    drawn = _orthogonal(self, shape, dtype="float32" if wanted == "bfloat16" else dtype)
    return keras.ops.cast(drawn, wanted)
