"""transformers' BERT with the GELU of keras-hub's, and with no token that counts as padding."""

from pytorch_model import Bert
from torch import nn


def build() -> nn.Module:
    return Bert(hidden_act="gelu_new", pad_token_id=None)
