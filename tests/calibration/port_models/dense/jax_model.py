"""Dense layers with Flax's own."""

from itertools import pairwise

import jax
from flax import nnx

SIZES, ACTIVATION = (20, 16, 8, 5), "relu"


class Dense(nnx.Module):
    """Linear layers with an activation between them."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(nnx.Linear(*sizes, rngs=rngs) for sizes in pairwise(SIZES))

    def __call__(self, x: jax.Array) -> jax.Array:
        *hidden, last = self.layers
        for layer in hidden:
            x = getattr(nnx, ACTIVATION)(layer(x))
        return last(x)


def build() -> nnx.Module:
    return Dense(nnx.Rngs(0))
