"""The autoencoder with Keras' own layers, channels last."""

import keras

CHANNELS, GROUPS, SIDE, CODE = (1, 16, 32), 4, 4, 8


def group_norm() -> keras.layers.GroupNormalization:
    """Keras' own epsilon is 1e-3."""
    return keras.layers.GroupNormalization(GROUPS, epsilon=1e-5)


class Encoder(keras.layers.Layer):
    """Two strided convolutions. With a stride, "same" would pad one side only."""

    def __init__(self) -> None:
        super().__init__()
        _, few, many = CHANNELS
        self.pad = keras.layers.ZeroPadding2D(1)
        self.conv1 = keras.layers.Conv2D(few, 3, strides=2)
        self.norm1 = group_norm()
        self.conv2 = keras.layers.Conv2D(many, 3, strides=2)
        self.norm2 = group_norm()

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        x = keras.ops.silu(self.norm1(self.conv1(self.pad(x))))
        x = keras.ops.silu(self.norm2(self.conv2(self.pad(x))))
        # Flattened in PyTorch's order: channels first.
        return keras.ops.reshape(keras.ops.transpose(x, (0, 3, 1, 2)), (-1, CHANNELS[-1] * SIDE**2))


class Decoder(keras.layers.Layer):
    """Two transposed convolutions; "same" takes away what PyTorch's `padding=1` does."""

    def __init__(self) -> None:
        super().__init__()
        one, few, _ = CHANNELS
        self.conv1 = keras.layers.Conv2DTranspose(few, 4, strides=2, padding="same")
        self.norm1 = group_norm()
        self.conv2 = keras.layers.Conv2DTranspose(one, 4, strides=2, padding="same")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        x = keras.ops.transpose(keras.ops.reshape(x, (-1, CHANNELS[-1], SIDE, SIDE)), (0, 2, 3, 1))
        x = keras.ops.silu(self.norm1(self.conv1(x)))
        return keras.ops.sigmoid(self.conv2(x))


class Autoencoder(keras.Model):
    """Picture to the mean and variance of a code, and from a code drawn with the noise back to a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.mean = keras.layers.Dense(CODE)
        self.log_variance = keras.layers.Dense(CODE)
        self.expand = keras.layers.Dense(CHANNELS[-1] * SIDE**2)
        self.decoder = Decoder()

    def call(self, picture: keras.KerasTensor, noise: keras.KerasTensor) -> keras.KerasTensor:
        """Pictures `(batch_size, height, width)` of such pictures and noise `(batch_size, code)`."""
        seen = self.encoder(keras.ops.expand_dims(picture, -1))
        code = self.mean(seen) + keras.ops.exp(0.5 * self.log_variance(seen)) * noise
        return keras.ops.squeeze(self.decoder(self.expand(code)), -1)


def build() -> keras.Model:
    autoencoder = Autoencoder()
    # Keras makes the weights when a model is called first.
    autoencoder(keras.ops.zeros((1, 4 * SIDE, 4 * SIDE)), keras.ops.zeros((1, CODE)))
    return autoencoder
