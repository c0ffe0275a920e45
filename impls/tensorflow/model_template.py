"""The model in Keras: put yours in its place, or import it. `build()` returns it, with its weights made."""

import keras


def build() -> keras.Model:
    """A hidden layer, layer norm, GELU, and a linear head: logits `(batch_size, 5)` of x `(batch_size, 16)`."""
    return keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(32, name="hidden"),
            # Other frameworks have another epsilon than Keras' 1e-3.
            keras.layers.LayerNormalization(epsilon=1e-5, name="norm"),
            keras.layers.Activation("gelu"),
            keras.layers.Dense(5, name="head"),
        ]
    )
