"""The residual network of He et al. 2016, section 4.2, in Flax NNX, and where its weights sit."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from faceoff.core.spec import ResidualSpec
from faceoff.core.weights import weight_shapes

from .gpu import on_gpu

LEDGER = {
    "kernel": "XLA convolutions, batch norm of XLA operations, variance in two passes (on a GPU in one)",
    "layout": "images NHWC, kernels HWIO (on a GPU OHWI)",
}


class Conv(nnx.Conv):
    """Flax's convolution, with its kernel on a GPU as cuDNN reads it.

    Flax's `(kernel_height, kernel_width, input_channels, output_channels)` would be turned at every call.
    """

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        if on_gpu():
            self.kernel = nnx.Param(jnp.transpose(self.kernel[...], (3, 0, 1, 2)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(batch_size, height, width, input_channels)` to `(batch_size, height', width', output_channels)`."""
        if not on_gpu():
            return super().__call__(x)
        return lax.conv_general_dilated(
            x, self.kernel[...], (self.strides, self.strides), self.padding, dimension_numbers=("NHWC", "OHWI", "NHWC")
        )


class BatchNorm(nnx.BatchNorm):
    """Flax's batch norm with mean, variance, scale and bias folded into one factor and one offset a channel.

    Flax subtracts the mean first, and XLA's schedule for a CPU runs the backward pass of that badly: folded, the
    gradients of ResNet-20 took 0.7 of the time, and stay within float32's rounding noise. On a GPU one kernel makes
    mean and variance, as it does Flax's, since neither waits for the other.
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `(batch_size, height, width, channels)`; in training moves the running statistics on."""
        dtype = x.dtype
        # As Flax does: in float16 the slope of the root of a variance of zero is out of range.
        x, mean, variance, scale, bias = (
            value.astype(jnp.promote_types(value.dtype, jnp.float32))
            for value in (x, self.mean[...], self.var[...], self.scale[...], self.bias[...])
        )
        if not self.use_running_average:
            mean = jnp.mean(x, axis=(0, 1, 2))
            if on_gpu():
                variance = jnp.maximum(jnp.mean(jnp.square(x), axis=(0, 1, 2)) - jnp.square(mean), 0)
            else:
                variance = jnp.mean(jnp.square(x - mean), axis=(0, 1, 2))
            self._move(self.mean, mean)
            self._move(self.var, variance)
        factor = scale * lax.rsqrt(variance + self.epsilon)
        return (x * factor + (bias - mean * factor)).astype(dtype)

    def _move(self, running: nnx.BatchStat, found: jax.Array) -> None:
        moved = self.momentum * running[...] + (1 - self.momentum) * found
        running[...] = moved.astype(running[...].dtype)


class Block(nnx.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut: a 1x1 projection where stride or width change.

    Args:
        name: canonical.
        incoming, outgoing: channels.
        stride: of the first convolution and of the projection.
        conv, norm: layer classes with everything but their sizes given.
    """

    def __init__(self, name: str, incoming: int, outgoing: int, stride: int, conv: Any, norm: Any) -> None:
        self.name = name
        # Given as numbers: "SAME" would pad a strided convolution on one side only.
        self.conv1 = conv(incoming, outgoing, (3, 3), strides=stride, padding=((1, 1), (1, 1)))
        self.norm1 = norm(outgoing)
        self.conv2 = conv(outgoing, outgoing, (3, 3), padding=((1, 1), (1, 1)))
        self.norm2 = norm(outgoing)
        self.projects = stride != 1 or incoming != outgoing
        if self.projects:
            self.shortcut_conv = conv(incoming, outgoing, (1, 1), strides=stride, padding="VALID")
            self.shortcut_norm = norm(outgoing)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(batch_size, height, width, incoming)` to `(batch_size, height', width', outgoing)`."""
        y = self._seen("conv1", self.conv1(x))
        y = nnx.relu(self._seen("norm1", self.norm1(y)))
        y = self._seen("conv2", self.conv2(y))
        y = self._seen("norm2", self.norm2(y))
        if self.projects:
            x = self._seen("shortcut.conv", self.shortcut_conv(x))
            x = self._seen("shortcut.norm", self.shortcut_norm(x))
        return nnx.relu(y + x)

    def _seen(self, part: str, value: jax.Array) -> jax.Array:
        """`value`, which a trace finds under the block's name and that of the part."""
        self.sow(nnx.Intermediate, f"{self.name}.{part}", value)
        return value


class Network(nnx.Module):
    """Stem, basic blocks, global average pooling, dense layer.

    Args:
        spec: the sizes and batch norm's constants.
        dtype: of the weights; the computation follows the weights and inputs.
        rngs: where Flax draws initial weights from.
    """

    def __init__(self, spec: ResidualSpec, dtype: Any, rngs: nnx.Rngs) -> None:
        conv = partial(Conv, strides=1, use_bias=False, param_dtype=dtype, rngs=rngs)
        # Flax's momentum is the share of the old statistics that stays.
        norm = partial(BatchNorm, momentum=1 - spec.momentum, epsilon=spec.epsilon, param_dtype=dtype, rngs=rngs)
        self.stem_conv = conv(spec.channels, spec.stage_widths[0], (3, 3), padding=((1, 1), (1, 1)))
        self.stem_norm = norm(spec.stage_widths[0])
        self.blocks = nnx.List([Block(*block, conv, norm) for block in spec.blocks()])
        self.head = nnx.Linear(spec.stage_widths[-1], spec.output_size, param_dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `x` `(batch_size, height, width, channels)` to logits `(batch_size, output_size)`."""
        x = self.stem_conv(x)
        self.sow(nnx.Intermediate, "stem.conv", x)
        x = self.stem_norm(x)
        self.sow(nnx.Intermediate, "stem.norm", x)
        x = nnx.relu(x)
        self.sow(nnx.Intermediate, "stem", x)
        for block in self.blocks:
            x = block(x)
            self.sow(nnx.Intermediate, block.name, x)
        x = jnp.mean(x, axis=(1, 2))
        self.sow(nnx.Intermediate, "pool", x)
        return self.head(x)


def weight_map(spec: ResidualSpec) -> dict[str, tuple[tuple[Any, ...], tuple[int, ...]]]:
    """Canonical name to the path of the Flax variable and the axes that transpose canonical to Flax."""
    axes = {1: (0,), 2: (1, 0), 4: (0, 1, 2, 3) if on_gpu() else (1, 2, 3, 0)}
    leaves = {"weight": "kernel", "variance": "var"}
    blocks = {name: index for index, (name, *_) in enumerate(spec.blocks())}
    found: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {}
    for name, shape in weight_shapes(spec).items():
        parts = name.split(".")
        block = blocks.get(".".join(parts[:4]))
        owner = "_".join(parts[:-1] if block is None else parts[4:-1])
        leaf = leaves.get(parts[-1], parts[-1])
        found[name] = (owner, leaf) if block is None else ("blocks", block, owner, leaf), axes[len(shape)]
    return found
