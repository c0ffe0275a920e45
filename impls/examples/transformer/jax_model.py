"""The encoder with Flax's own layers."""

import jax
import jax.numpy as jnp
from flax import nnx

TOKENS, LENGTH, WIDTH, HEADS, HIDDEN, LAYERS, CLASSES = 50, 16, 32, 4, 64, 2, 6


class Layer(nnx.Module):
    """One pre-norm encoder layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.linear1 = nnx.Linear(WIDTH, HIDDEN, rngs=rngs)
        self.linear2 = nnx.Linear(HIDDEN, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x))
        return x + self.linear2(nnx.gelu(self.linear1(self.norm2(x)), approximate=False))


class Encoder(nnx.Module):
    """Embedding and learned positions, pre-norm encoder layers with GELU, mean over positions, a linear head."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(TOKENS, WIDTH, rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (LENGTH, WIDTH)))
        self.layers = nnx.List([Layer(rngs) for _ in range(LAYERS)])
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits `(batch_size, classes)` of tokens `(batch_size, length)`."""
        x = self.embedding(tokens) + self.positions[...]
        for layer in self.layers:
            x = layer(x)
        return self.head(jnp.mean(self.norm(x), axis=1))


def build() -> nnx.Module:
    return Encoder(nnx.Rngs(0))
