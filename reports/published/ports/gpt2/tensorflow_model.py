"""keras-hub's GPT-2, without its dropout."""

import keras
from keras_hub.models import GPT2Backbone


def build() -> keras.Model:
    gpt2 = GPT2Backbone(
        vocabulary_size=50,
        num_layers=2,
        num_heads=4,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=16,
        dropout=0.0,
    )
    tokens = keras.Input((12,), dtype="int32")
    return keras.Model(tokens, gpt2({"token_ids": tokens, "padding_mask": keras.ops.ones_like(tokens)}))
