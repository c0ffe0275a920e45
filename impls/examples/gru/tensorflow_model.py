"""The tagger with Keras' recurrent layers."""

import keras

TOKENS, LENGTH, WIDTH, HIDDEN, LAYERS, CLASSES, PADDING = 30, 6, 16, 24, 2, 5, 0


class Tagger(keras.Model):
    """Embedding, a GRU in both directions, layer norm, and a class at every time step. Padding tokens bring nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(TOKENS, WIDTH)
        self.recurrent = [
            keras.layers.Bidirectional(keras.layers.GRU(HIDDEN, return_sequences=True)) for _ in range(LAYERS)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5)
        self.head = keras.layers.Dense(CLASSES)

    def call(self, tokens: keras.KerasTensor) -> keras.KerasTensor:
        """Logits `(batch_size, length, classes)` of tokens `(batch_size, length)`."""
        is_padding = keras.ops.expand_dims(keras.ops.equal(tokens, PADDING), -1)
        x = self.embedding(tokens)
        x = keras.ops.where(is_padding, keras.ops.zeros_like(x), x)
        for layer in self.recurrent:
            x = layer(x)
        return self.head(self.norm(x))


def build() -> keras.Model:
    tagger = Tagger()
    # Keras makes the weights when a model is called first.
    tagger(keras.ops.zeros((1, LENGTH), "int32"))
    return tagger
