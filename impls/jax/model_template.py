"""The model in Flax: put yours in its place, or import it. `build()` returns it."""

import jax
from flax import nnx


class Net(nnx.Module):
    """A hidden layer, layer norm, GELU, and a linear head."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(16, 32, rngs=rngs)
        self.norm = nnx.LayerNorm(32, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(32, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits `(batch_size, 5)` of x `(batch_size, 16)`."""
        # Other frameworks have no approximation here, and another epsilon than Flax' 1e-6 above.
        return self.head(nnx.gelu(self.norm(self.hidden(x)), approximate=False))


def build() -> nnx.Module:
    return Net(nnx.Rngs(0))
