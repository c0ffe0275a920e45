"""An LSTM with Flax's own layers."""

import jax
from flax import nnx

INPUTS, HIDDEN, LAYERS, CLASSES, MANY = 6, 12, 2, 5, True


class Cell(nnx.OptimizedLSTMCell):
    """PyTorch's cell has a second bias."""

    def __init__(self, in_features: int, rngs: nnx.Rngs) -> None:
        super().__init__(in_features, HIDDEN, rngs=rngs)
        self.dense_i = nnx.Linear(in_features, 4 * HIDDEN, rngs=rngs)


class Lstm(nnx.Module):
    """LSTM layers, and a class at every time step or after the last."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(nnx.RNN(Cell(size, rngs)) for size in [INPUTS] + [HIDDEN] * (LAYERS - 1))
        self.head = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array, hidden: jax.Array, cell: jax.Array) -> jax.Array:
        """Logits of `x` `(batch_size, length, inputs)` and `hidden`, `cell` `(batch_size, layers, hidden)`."""
        for number, layer in enumerate(self.layers):
            x = layer(x, initial_carry=(cell[:, number], hidden[:, number]))
        return self.head(x if MANY else x[:, -1])


def build() -> nnx.Module:
    return Lstm(nnx.Rngs(0))
