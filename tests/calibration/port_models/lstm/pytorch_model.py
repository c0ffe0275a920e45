"""An LSTM with PyTorch's own layers."""

import torch
from torch import nn

INPUTS, HIDDEN, LAYERS, CLASSES, MANY = 6, 12, 2, 5, True


class Lstm(nn.Module):
    """LSTM layers, and a class at every time step or after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, HIDDEN, LAYERS, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        """Logits of `x` `(batch_size, length, inputs)` and `hidden`, `cell` `(batch_size, layers, hidden)`."""
        states, _ = self.lstm(x, (hidden.transpose(0, 1).contiguous(), cell.transpose(0, 1).contiguous()))
        return self.head(states if MANY else states[:, -1])


def build() -> nn.Module:
    return Lstm()
