"""The encoder with PyTorch's own layers."""

import torch
from torch import nn

TOKENS, LENGTH, WIDTH, HEADS, HIDDEN, LAYERS, CLASSES = 50, 16, 32, 4, 64, 2, 6


class Encoder(nn.Module):
    """Embedding and learned positions, pre-norm encoder layers with GELU, mean over positions, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, HIDDEN, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits `(batch_size, classes)` of tokens `(batch_size, length)`."""
        return self.head(self.layers(self.embedding(tokens) + self.positions).mean(dim=1))


def build() -> nn.Module:
    return Encoder()
