"""In which arithmetic a reference model computes: exact, or disturbed by the rounding of a narrower dtype.

The models are plain NumPy: `c = f * c + i * g`. The arrays they are given decide. `Exact.array` gives ordinary float64
arrays. An arithmetic of `faceoff.reference.following` gives arrays whose every operation it sees: `Observed` notes what
values occur and which way each ReLU goes, `Rounded` (`faceoff.reference.rounding`) disturbs each result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import numpy as np

from faceoff.core.spec import require_choice

Array: TypeAlias = np.ndarray

UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "tf32": 2.0**-11,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "mixed_bfloat16": 2.0**-8,
}
"""Half the distance from 1 to the next number, by dtype: the largest relative error of one rounding.

Of `tf32` that of a product's operands, of `mixed_bfloat16` that of what is computed; both hold weights in float32.
"""


def unit_roundoff(dtype: str) -> float:
    """The unit roundoff of `dtype`; raises InputError when it is not in `UNIT_ROUNDOFF`."""
    require_choice(dtype, tuple(UNIT_ROUNDOFF), "reference.dtype")
    return UNIT_ROUNDOFF[dtype]


class Arithmetic(ABC):
    """Decides in which arithmetic a reference model computes."""

    @abstractmethod
    def array(self, values: Any) -> Array:
        """A copy of `values`, any shape, whose operations follow this arithmetic."""

    def narrow(self, values: Array) -> Array:
        """Weights or inputs as they enter a pass; rounded where that is computed in a narrower dtype."""
        return values

    def widen(self, values: Array) -> Array:
        """What a pass has found, in the arithmetic of the weights."""
        return values

    def begin(self, part: str) -> None:
        """Says which part of a computation comes now, for whoever keeps account of it."""
        return


class Exact(Arithmetic):
    """Plain float64. Complex values stay complex, for the complex-step derivative."""

    def array(self, values: Any) -> Array:
        """A copy of `values` in float64, or in complex128 when they are complex."""
        return np.array(values, dtype=np.result_type(values, np.float64), order="C")


def noise_generator(*seed: int) -> np.random.Generator:
    """The fastest generator in NumPy; one or more whole numbers as its seed."""
    return np.random.Generator(np.random.SFC64(seed))
