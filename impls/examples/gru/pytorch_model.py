"""The tagger with PyTorch's own layers."""

import torch
from torch import nn

TOKENS, WIDTH, HIDDEN, LAYERS, CLASSES, PADDING = 30, 16, 24, 2, 5, 0


class Tagger(nn.Module):
    """Embedding, a GRU in both directions, layer norm, and a class at every time step. Padding tokens bring nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.gru = nn.GRU(WIDTH, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(2 * HIDDEN)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits `(batch_size, length, classes)` of tokens `(batch_size, length)`."""
        x = self.embedding(tokens).masked_fill((tokens == PADDING).unsqueeze(-1), 0.0)
        states, _ = self.gru(x)
        return self.head(self.norm(states))


def build() -> nn.Module:
    return Tagger()
