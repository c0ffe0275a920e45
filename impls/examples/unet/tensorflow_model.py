"""The U-Net with Keras' own layers, channels last."""

import keras

CHANNELS, CLASSES, SIDE = (3, 8, 16, 32), 4, 16


class BatchNorm(keras.layers.BatchNormalization):
    """PyTorch's running variance is the unbiased one, over n - 1; Keras' is over n."""

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        kept = self.momentum * keras.ops.copy(self.moving_variance)
        y = super().call(x, training=training)
        if training:
            count = x.shape[0] * x.shape[1] * x.shape[2]
            self.moving_variance.assign(kept + (self.moving_variance - kept) * (count / (count - 1)))
        return y


class DoubleConvolution(keras.layers.Layer):
    """Two convolutions, each with batch norm and ReLU."""

    def __init__(self, outgoing: int) -> None:
        super().__init__()
        self.conv1 = keras.layers.Conv2D(outgoing, 3, padding="same", use_bias=False)
        self.norm1 = BatchNorm(momentum=0.9, epsilon=1e-5)
        self.conv2 = keras.layers.Conv2D(outgoing, 3, padding="same", use_bias=False)
        self.norm2 = BatchNorm(momentum=0.9, epsilon=1e-5)

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        x = keras.ops.relu(self.norm1(self.conv1(x), training=training))
        return keras.ops.relu(self.norm2(self.conv2(x), training=training))


def widening(outgoing: int) -> keras.layers.Conv2DTranspose:
    """Padding "same" takes away what PyTorch's `padding=1` does."""
    return keras.layers.Conv2DTranspose(outgoing, 4, strides=2, padding="same")


class UNet(keras.Model):
    """Down by max pooling, up by transposed convolutions, with what was seen on the way down at every size."""

    def __init__(self) -> None:
        super().__init__()
        _, first, second, third = CHANNELS
        self.down1 = DoubleConvolution(first)
        self.down2 = DoubleConvolution(second)
        self.bottom = DoubleConvolution(third)
        self.widen2 = widening(second)
        self.up2 = DoubleConvolution(second)
        self.widen1 = widening(first)
        self.up1 = DoubleConvolution(first)
        self.head = keras.layers.Conv2D(CLASSES, 1)
        self.pool = keras.layers.MaxPooling2D(2)

    def call(self, picture: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Logits `(batch_size, classes, height, width)` of pictures `(batch_size, height, width, channels)`."""
        large = self.down1(picture, training=training)
        middle = self.down2(self.pool(large), training=training)
        x = self.bottom(self.pool(middle), training=training)
        x = self.up2(keras.ops.concatenate([middle, self.widen2(x)], -1), training=training)
        x = self.up1(keras.ops.concatenate([large, self.widen1(x)], -1), training=training)
        return keras.ops.moveaxis(self.head(x), -1, 1)


def build() -> keras.Model:
    unet = UNet()
    # Keras makes the weights when a model is called first.
    unet(keras.ops.zeros((1, SIDE, SIDE, CHANNELS[0])))
    return unet
