"""The U-Net with Flax's own layers, channels last."""

import jax
import jax.numpy as jnp
from flax import nnx

CHANNELS, CLASSES = (3, 8, 16, 32), 4


class BatchNorm(nnx.BatchNorm):
    """PyTorch's running variance is the unbiased one, over n - 1; Flax's is over n."""

    def __init__(self, features: int, rngs: nnx.Rngs) -> None:
        super().__init__(features, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        kept = self.momentum * self.var[...]
        y = super().__call__(x)
        if not self.use_running_average:
            count = x.size // x.shape[-1]
            self.var[...] = kept + (self.var[...] - kept) * (count / (count - 1))
        return y


class DoubleConvolution(nnx.Module):
    """Two convolutions, each with batch norm and ReLU."""

    def __init__(self, incoming: int, outgoing: int, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(incoming, outgoing, (3, 3), use_bias=False, rngs=rngs)
        self.norm1 = BatchNorm(outgoing, rngs)
        self.conv2 = nnx.Conv(outgoing, outgoing, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = BatchNorm(outgoing, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.norm2(self.conv2(x)))


def widening(incoming: int, outgoing: int, rngs: nnx.Rngs) -> nnx.ConvTranspose:
    """PyTorch's `padding=1` takes away what this one's padding adds: 4 - 1 - 1 on every side."""
    return nnx.ConvTranspose(incoming, outgoing, (4, 4), strides=(2, 2), padding=2, transpose_kernel=True, rngs=rngs)


class UNet(nnx.Module):
    """Down by max pooling, up by transposed convolutions, with what was seen on the way down at every size."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        colours, first, second, third = CHANNELS
        self.down1 = DoubleConvolution(colours, first, rngs)
        self.down2 = DoubleConvolution(first, second, rngs)
        self.bottom = DoubleConvolution(second, third, rngs)
        self.widen2 = widening(third, second, rngs)
        self.up2 = DoubleConvolution(2 * second, second, rngs)
        self.widen1 = widening(second, first, rngs)
        self.up1 = DoubleConvolution(2 * first, first, rngs)
        self.head = nnx.Conv(first, CLASSES, (1, 1), rngs=rngs)

    def __call__(self, picture: jax.Array) -> jax.Array:
        """Logits `(batch_size, classes, height, width)` of pictures `(batch_size, height, width, channels)`."""
        large = self.down1(picture)
        middle = self.down2(nnx.max_pool(large, (2, 2), strides=(2, 2)))
        x = self.bottom(nnx.max_pool(middle, (2, 2), strides=(2, 2)))
        x = self.up2(jnp.concatenate([middle, self.widen2(x)], axis=-1))
        x = self.up1(jnp.concatenate([large, self.widen1(x)], axis=-1))
        return jnp.moveaxis(self.head(x), -1, 1)


def build() -> nnx.Module:
    return UNet(nnx.Rngs(0))
