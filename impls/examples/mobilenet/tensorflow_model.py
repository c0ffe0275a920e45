"""The network with Keras' own layers, channels last."""

import keras

STEM, LAST, CLASSES, SIDE = 8, 64, 10, 16
# Expanded and outgoing channels, size of the depthwise kernel, stride.
BLOCKS = ((24, 8, 3, 1), (32, 16, 5, 2), (64, 16, 3, 1))


class BatchNorm(keras.layers.BatchNormalization):
    """PyTorch's running variance is the unbiased one, over n - 1; Keras' is over n."""

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        kept = self.momentum * keras.ops.copy(self.moving_variance)
        y = super().call(x, training=training)
        if training:
            count = x.shape[0] * x.shape[1] * x.shape[2]
            self.moving_variance.assign(kept + (self.moving_variance - kept) * (count / (count - 1)))
        return y


class Convolution(keras.layers.Layer):
    """A convolution, of each channel by itself if asked for, and batch norm."""

    def __init__(self, outgoing: int, kernel: int = 1, stride: int = 1, depthwise: bool = False) -> None:
        super().__init__()
        # "same" with a stride pads one side only.
        self.pad = keras.layers.ZeroPadding2D(kernel // 2)
        if depthwise:
            self.conv = keras.layers.DepthwiseConv2D(kernel, stride, use_bias=False)
        else:
            self.conv = keras.layers.Conv2D(outgoing, kernel, stride, use_bias=False)
        self.norm = BatchNorm(momentum=0.99, epsilon=1e-3)

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        return self.norm(self.conv(self.pad(x)), training=training)


class SqueezeExcitation(keras.layers.Layer):
    """Scales each channel by what all of them are on average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = keras.layers.Conv2D(channels // 4, 1, activation="relu")
        self.excite = keras.layers.Conv2D(channels, 1, activation="hard_sigmoid")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x * self.excite(self.squeeze(keras.ops.mean(x, axis=(1, 2), keepdims=True)))


class Block(keras.layers.Layer):
    """An inverted residual: expand, depthwise, squeeze and excite, project; the input added where it fits."""

    def __init__(self, incoming: int, expanded: int, outgoing: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = Convolution(expanded)
        self.depthwise = Convolution(expanded, kernel, stride, depthwise=True)
        self.attend = SqueezeExcitation(expanded)
        self.project = Convolution(outgoing)
        self.is_residual = stride == 1 and incoming == outgoing

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        y = keras.ops.hard_swish(self.expand(x, training=training))
        y = keras.ops.hard_swish(self.depthwise(y, training=training))
        y = self.project(self.attend(y), training=training)
        return x + y if self.is_residual else y


class MobileNet(keras.Model):
    """Stem, inverted residuals, a last wide convolution, mean over all places, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(STEM, 3)
        outgoing = [STEM, *(block[1] for block in BLOCKS)]
        self.blocks = [Block(size, *block) for size, block in zip(outgoing[:-1], BLOCKS, strict=True)]
        self.last = Convolution(LAST)
        self.head = keras.layers.Dense(CLASSES)

    def call(self, picture: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Logits `(batch_size, classes)` of pictures `(batch_size, height, width, channels)`."""
        x = keras.ops.hard_swish(self.stem(picture, training=training))
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(keras.ops.mean(keras.ops.hard_swish(self.last(x, training=training)), axis=(1, 2)))


def build() -> keras.Model:
    network = MobileNet()
    # Keras makes the weights when a model is called first.
    network(keras.ops.zeros((1, SIDE, SIDE, 3)))
    return network
