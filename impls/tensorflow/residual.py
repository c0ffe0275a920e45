"""The residual network of He et al. 2016, section 4.2, in Keras, and where its weights sit."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from faceoff.core.spec import ResidualSpec
from faceoff.core.weights import weight_shapes


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch norm by TensorFlow's fused kernel, which Keras 3 leaves unused; in float64, which it lacks, Keras' own."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalises `(batch_size, height, width, channels)` over all axes but the channels."""
        if inputs.dtype == tf.float64:
            return super().call(inputs, training=training)
        # The kernel takes narrow images, but scales and statistics in float32 alone.
        held = (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        scale, offset, mean, variance = (tf.cast(variable.value, tf.float32) for variable in held)
        if training:
            mean = variance = tf.zeros((0,))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=mean, variance=variance,
            epsilon=self.epsilon, is_training=training,
        )  # fmt: skip
        if training:
            # The kernel returns the unbiased variance; the one to keep is divided by n.
            n = math.prod(inputs.shape[:-1])
            variance *= (n - 1) / n
            mean, variance = (tf.cast(found, self.moving_mean.dtype) for found in (mean, variance))
            self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
            self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return outputs


def normalisation(spec: ResidualSpec, mode: str, name: str) -> keras.layers.BatchNormalization:
    """Batch norm; Keras' momentum is the share that the old statistics keep. XLA fuses Keras' own formula itself."""
    layer = keras.layers.BatchNormalization if mode == "xla" else FusedBatchNormalization
    return layer(momentum=1 - spec.momentum, epsilon=spec.epsilon, name=name)


def convolution(filters: int, kernel: int, stride: int, name: str) -> keras.layers.Layer:
    """A convolution without bias that keeps the size at stride 1.

    `same` padding is symmetric only there, so a strided kernel takes images that are padded already.
    """
    padding = "same" if stride == 1 or kernel == 1 else "valid"
    return keras.layers.Conv2D(filters, kernel, stride, padding, use_bias=False, name=name)


class Block(keras.layers.Layer):
    """Two 3x3 convolutions with batch norm, and a shortcut: a 1x1 projection where stride or width change.

    Args:
        spec: batch norm's constants.
        mode: as in `normalisation`.
        name: canonical.
        incoming, outgoing: channels.
        stride: of the first convolution and of the projection.
    """

    def __init__(self, spec: ResidualSpec, mode: str, name: str, incoming: int, outgoing: int, stride: int) -> None:
        super().__init__(name=name)
        self.pad = keras.layers.ZeroPadding2D(1) if stride != 1 else None
        self.conv1 = convolution(outgoing, 3, stride, "conv1")
        self.norm1 = normalisation(spec, mode, "norm1")
        self.conv2 = convolution(outgoing, 3, 1, "conv2")
        self.norm2 = normalisation(spec, mode, "norm2")
        self.projects = stride != 1 or incoming != outgoing
        if self.projects:
            self.shortcut_conv = convolution(outgoing, 1, stride, "shortcut.conv")
            self.shortcut_norm = normalisation(spec, mode, "shortcut.norm")

    @property
    def parts(self) -> list[keras.layers.Layer]:
        """Its convolutions and batch norms."""
        shortcut = [self.shortcut_conv, self.shortcut_norm] if self.projects else []
        return [self.conv1, self.norm1, self.conv2, self.norm2, *shortcut]

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps `(batch_size, height, width, incoming)` to `(batch_size, height', width', outgoing)`."""
        y = self.conv1(self.pad(x) if self.pad else x)
        y = tf.nn.relu(self.norm1(y, training=training))
        y = self.norm2(self.conv2(y), training=training)
        if self.projects:
            x = self.shortcut_norm(self.shortcut_conv(x), training=training)
        return tf.nn.relu(y + x)


class Network(keras.Model):
    """Stem, basic blocks, global average pooling, dense layer.

    Args:
        spec: sizes and batch norm's constants.
        mode: as in `normalisation`.
    """

    def __init__(self, spec: ResidualSpec, mode: str) -> None:
        super().__init__(name="network")
        self.stem_conv = convolution(spec.stage_widths[0], 3, 1, "stem.conv")
        self.stem_norm = normalisation(spec, mode, "stem.norm")
        self.stem = keras.layers.ReLU(name="stem")
        self.blocks = [Block(spec, mode, *block) for block in spec.blocks()]
        self.pool = keras.layers.GlobalAveragePooling2D(name="pool")
        self.head = keras.layers.Dense(spec.output_size, name="head")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps `x` `(batch_size, height, width, channels)` to logits `(batch_size, output_size)`."""
        x = self.stem(self.stem_norm(self.stem_conv(x), training=training))
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.pool(x))


def weight_map(spec: ResidualSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the path of the Keras variable and the axes that transpose canonical to Keras."""
    axes = {1: (0,), 2: (1, 0), 4: (1, 2, 3, 0)}
    leaves = {"weight": "kernel", "scale": "gamma", "mean": "moving_mean", "variance": "moving_variance"}
    found = {}
    for name, shape in weight_shapes(spec).items():
        owner, _, leaf = name.rpartition(".")
        for block, *_ in spec.blocks():
            owner = owner.replace(f"{block}.", f"{block}/")
        if leaf == "bias":
            leaf = "bias" if owner == "head" else "beta"
        found[name] = f"network/{owner}/{leaves.get(leaf, leaf)}", axes[len(shape)]
    return found


def ledger(spec: ResidualSpec, mode: str) -> dict[str, str]:
    """Kernel and layout."""
    norm = "Keras' formula" if mode == "xla" else "TensorFlow's fused kernel (float64: Keras' formula)"
    on_gpu = ", as written; on a GPU TensorFlow's layout optimiser chooses" if mode != "xla" else ""
    return {"kernel": f"convolutions; batch norm by {norm}", "layout": f"images NHWC, kernels HWIO{on_gpu}"}
