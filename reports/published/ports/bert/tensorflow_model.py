"""keras-hub's BERT, without its dropout."""

import keras
from keras_hub.models import BertBackbone


def build() -> keras.Model:
    bert = BertBackbone(
        vocabulary_size=50,
        num_layers=2,
        num_heads=4,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=16,
        dropout=0.0,
    )
    tokens = keras.Input((12,), dtype="int32")
    zeros, ones = keras.ops.zeros_like(tokens), keras.ops.ones_like(tokens)
    found = bert({"token_ids": tokens, "segment_ids": zeros, "padding_mask": ones})
    # All as one tensor: the pooled output, then that of every token.
    pooled = keras.ops.expand_dims(found["pooled_output"], 1)
    return keras.Model(tokens, keras.ops.concatenate([pooled, found["sequence_output"]], 1))
