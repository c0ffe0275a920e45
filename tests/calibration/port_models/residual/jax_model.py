"""He's residual network for CIFAR with Flax's own layers, channels last."""

import jax
import jax.numpy as jnp
from flax import nnx

COLOURS, WIDTHS, BLOCKS, CLASSES = 3, (4, 8), 1, 10


class BatchNorm(nnx.BatchNorm):
    """PyTorch's running variance is the unbiased one, over n - 1; Flax's is over n."""

    def __call__(self, x: jax.Array) -> jax.Array:
        kept = self.momentum * self.var[...]
        y = super().__call__(x)
        if not self.use_running_average:
            count = x.size // x.shape[-1]
            self.var[...] = kept + (self.var[...] - kept) * (count / (count - 1))
        return y


class Convolution(nnx.Module):
    """A convolution and batch norm."""

    def __init__(self, incoming: int, outgoing: int, kernel: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(
            incoming, outgoing, (kernel, kernel), strides=stride, padding=kernel // 2, use_bias=False, rngs=rngs
        )
        self.norm = BatchNorm(outgoing, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class Block(nnx.Module):
    """A basic block; a projection where height, width or channels change."""

    def __init__(self, incoming: int, outgoing: int, stride: int, rngs: nnx.Rngs) -> None:
        self.first = Convolution(incoming, outgoing, 3, stride, rngs=rngs)
        self.second = Convolution(outgoing, outgoing, 3, rngs=rngs)
        changes = stride != 1 or incoming != outgoing
        self.shortcut = Convolution(incoming, outgoing, 1, stride, rngs=rngs) if changes else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.second(nnx.relu(self.first(x)))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Residual(nnx.Module):
    """Stem, stages of basic blocks, mean over all places, a linear head."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = Convolution(COLOURS, WIDTHS[0], 3, rngs=rngs)
        blocks, incoming = [], WIDTHS[0]
        for stage, outgoing in enumerate(WIDTHS):
            for block in range(BLOCKS):
                blocks.append(Block(incoming, outgoing, 2 if stage > 0 and block == 0 else 1, rngs))
                incoming = outgoing
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(incoming, CLASSES, rngs=rngs)

    def __call__(self, picture: jax.Array) -> jax.Array:
        """Logits `(batch_size, classes)` of pictures `(batch_size, height, width, channels)`."""
        x = nnx.relu(self.stem(picture))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


def build() -> nnx.Module:
    return Residual(nnx.Rngs(0))
