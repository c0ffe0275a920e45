"""The tagger with Flax's recurrent layers."""

import jax
import jax.numpy as jnp
from flax import nnx

TOKENS, WIDTH, HIDDEN, LAYERS, CLASSES, PADDING = 30, 16, 24, 2, 5, 0


class GRUCell(nnx.GRUCell):
    """PyTorch's cell has a second bias, which the reset gate acts on; Flax's cell has none there."""

    def __init__(self, in_features: int, rngs: nnx.Rngs) -> None:
        super().__init__(in_features, HIDDEN, rngs=rngs)
        self.dense_h = nnx.Linear(HIDDEN, 3 * HIDDEN, rngs=rngs)


class Tagger(nnx.Module):
    """Embedding, a GRU in both directions, layer norm, and a class at every time step. Padding tokens bring nothing."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(TOKENS, WIDTH, rngs=rngs)
        self.layers = nnx.List(
            nnx.Bidirectional(nnx.RNN(GRUCell(size, rngs)), nnx.RNN(GRUCell(size, rngs)))
            for size in [WIDTH] + [2 * HIDDEN] * (LAYERS - 1)
        )
        self.norm = nnx.LayerNorm(2 * HIDDEN, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(2 * HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits `(batch_size, length, classes)` of tokens `(batch_size, length)`."""
        x = jnp.where((tokens == PADDING)[..., None], 0.0, self.embedding(tokens))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def build() -> nnx.Module:
    return Tagger(nnx.Rngs(0))
