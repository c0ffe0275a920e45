"""The encoder with Keras' own layers."""

import keras

TOKENS, LENGTH, WIDTH, HEADS, HIDDEN, LAYERS, CLASSES = 50, 16, 32, 4, 64, 2, 6


class Layer(keras.layers.Layer):
    """One pre-norm encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = keras.layers.LayerNormalization(epsilon=1e-5)
        self.attention = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
        self.norm2 = keras.layers.LayerNormalization(epsilon=1e-5)
        self.linear1 = keras.layers.Dense(HIDDEN, activation="gelu")
        self.linear2 = keras.layers.Dense(WIDTH)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        normed = self.norm1(x)
        x = x + self.attention(normed, normed)
        return x + self.linear2(self.linear1(self.norm2(x)))


class Encoder(keras.Model):
    """Embedding and learned positions, pre-norm encoder layers with GELU, mean over positions, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(TOKENS, WIDTH)
        spread = keras.initializers.RandomNormal(stddev=0.02)
        self.positions = self.add_weight(shape=(LENGTH, WIDTH), initializer=spread, name="positions")
        self.blocks = [Layer() for _ in range(LAYERS)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5)
        self.head = keras.layers.Dense(CLASSES)

    def call(self, tokens: keras.KerasTensor) -> keras.KerasTensor:
        """Logits `(batch_size, classes)` of tokens `(batch_size, length)`."""
        x = self.embedding(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(keras.ops.mean(self.norm(x), axis=1))


def build() -> keras.Model:
    encoder = Encoder()
    # Keras makes the weights when a model is called first.
    encoder(keras.ops.zeros((1, LENGTH), "int32"))
    return encoder
