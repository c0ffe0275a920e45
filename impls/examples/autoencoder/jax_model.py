"""The autoencoder with Flax's own layers, channels last."""

import jax
import jax.numpy as jnp
from flax import nnx

CHANNELS, GROUPS, SIDE, CODE = (1, 16, 32), 4, 4, 8


class Encoder(nnx.Module):
    """Two strided convolutions."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        one, few, many = CHANNELS
        self.conv1 = nnx.Conv(one, few, (3, 3), strides=2, padding=1, rngs=rngs)
        self.norm1 = nnx.GroupNorm(few, GROUPS, epsilon=1e-5, rngs=rngs)
        self.conv2 = nnx.Conv(few, many, (3, 3), strides=2, padding=1, rngs=rngs)
        self.norm2 = nnx.GroupNorm(many, GROUPS, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.silu(self.norm1(self.conv1(x)))
        x = nnx.silu(self.norm2(self.conv2(x)))
        # Flattened in PyTorch's order: channels first.
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


class Decoder(nnx.Module):
    """Two transposed convolutions; PyTorch's `padding=1` is 4 - 1 - 1 here."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        one, few, many = CHANNELS
        self.conv1 = nnx.ConvTranspose(many, few, (4, 4), strides=2, padding=2, transpose_kernel=True, rngs=rngs)
        self.norm1 = nnx.GroupNorm(few, GROUPS, epsilon=1e-5, rngs=rngs)
        self.conv2 = nnx.ConvTranspose(few, one, (4, 4), strides=2, padding=2, transpose_kernel=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1, SIDE, SIDE).transpose(0, 2, 3, 1)
        x = nnx.silu(self.norm1(self.conv1(x)))
        return nnx.sigmoid(self.conv2(x))


class Autoencoder(nnx.Module):
    """Picture to the mean and variance of a code, and from a code drawn with the noise back to a picture."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        size = CHANNELS[-1] * SIDE**2
        self.encoder = Encoder(rngs)
        self.mean = nnx.Linear(size, CODE, rngs=rngs)
        self.log_variance = nnx.Linear(size, CODE, rngs=rngs)
        self.expand = nnx.Linear(CODE, size, rngs=rngs)
        self.decoder = Decoder(rngs)

    def __call__(self, picture: jax.Array, noise: jax.Array) -> jax.Array:
        """Pictures `(batch_size, height, width)` of such pictures and noise `(batch_size, code)`."""
        seen = self.encoder(picture[..., None])
        code = self.mean(seen) + jnp.exp(0.5 * self.log_variance(seen)) * noise
        return self.decoder(self.expand(code))[..., 0]


def build() -> nnx.Module:
    return Autoencoder(nnx.Rngs(0))
