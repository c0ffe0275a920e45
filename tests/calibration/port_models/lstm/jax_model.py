"""An LSTM with Flax's own layers."""

import jax
from flax import nnx

INPUTS, HIDDEN, LAYERS, CLASSES, MANY = 6, 12, 2, 5, True


class Lstm(nnx.Module):
    """LSTM layers, and a class at every time step or after the last."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        sizes = [INPUTS] + [HIDDEN] * (LAYERS - 1)
        self.layers = nnx.List(nnx.RNN(nnx.LSTMCell(size, HIDDEN, rngs=rngs)) for size in sizes)
        self.head = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array, hidden: jax.Array, cell: jax.Array) -> jax.Array:
        """Logits of `x` `(batch_size, length, inputs)` and `hidden`, `cell` `(batch_size, layers, hidden)`."""
        for number, layer in enumerate(self.layers):
            x = layer(x, initial_carry=(cell[:, number], hidden[:, number]))
        return self.head(x if MANY else x[:, -1])


def build() -> nnx.Module:
    return Lstm(nnx.Rngs(0))
