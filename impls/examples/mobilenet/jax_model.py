"""The network with Flax's own layers, channels last."""

import jax
import jax.numpy as jnp
from flax import nnx

STEM, LAST, CLASSES = 8, 64, 10
# Expanded and outgoing channels, size of the depthwise kernel, stride.
BLOCKS = ((24, 8, 3, 1), (32, 16, 5, 2), (64, 16, 3, 1))


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

    def __init__(
        self, incoming: int, outgoing: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        self.conv = nnx.Conv(
            incoming,
            outgoing,
            (kernel, kernel),
            strides=stride,
            padding=kernel // 2,  # "SAME" with a stride pads one side only.
            feature_group_count=groups,
            use_bias=False,
            rngs=rngs,
        )
        self.norm = BatchNorm(outgoing, momentum=0.99, epsilon=1e-3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class SqueezeExcitation(nnx.Module):
    """Scales each channel by what all of them are on average."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.squeeze = nnx.Conv(channels, channels // 4, (1, 1), rngs=rngs)
        self.excite = nnx.Conv(channels // 4, channels, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = jnp.mean(x, axis=(1, 2), keepdims=True)
        return x * nnx.hard_sigmoid(self.excite(nnx.relu(self.squeeze(scale))))


class Block(nnx.Module):
    """An inverted residual: expand, depthwise, squeeze and excite, project; the input added where it fits."""

    def __init__(self, incoming: int, expanded: int, outgoing: int, kernel: int, stride: int, rngs: nnx.Rngs) -> None:
        self.expand = Convolution(incoming, expanded, rngs=rngs)
        self.depthwise = Convolution(expanded, expanded, kernel, stride, groups=expanded, rngs=rngs)
        self.attend = SqueezeExcitation(expanded, rngs)
        self.project = Convolution(expanded, outgoing, rngs=rngs)
        self.is_residual = stride == 1 and incoming == outgoing

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.hard_swish(self.expand(x))
        y = nnx.hard_swish(self.depthwise(y))
        y = self.project(self.attend(y))
        return x + y if self.is_residual else y


class MobileNet(nnx.Module):
    """Stem, inverted residuals, a last wide convolution, mean over all places, a linear head."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = Convolution(3, STEM, 3, 1, rngs=rngs)
        outgoing = [STEM, *(block[1] for block in BLOCKS)]
        self.blocks = nnx.List(Block(size, *block, rngs) for size, block in zip(outgoing[:-1], BLOCKS, strict=True))
        self.last = Convolution(outgoing[-1], LAST, rngs=rngs)
        self.head = nnx.Linear(LAST, CLASSES, rngs=rngs)

    def __call__(self, picture: jax.Array) -> jax.Array:
        """Logits `(batch_size, classes)` of pictures `(batch_size, height, width, channels)`."""
        x = nnx.hard_swish(self.stem(picture))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(nnx.hard_swish(self.last(x)), axis=(1, 2)))


def build() -> nnx.Module:
    return MobileNet(nnx.Rngs(0))
