"""Dense layers with PyTorch's own."""

from itertools import pairwise

import torch
from torch import nn

SIZES, ACTIVATION = (20, 16, 8, 5), "relu"


class Dense(nn.Module):
    """Linear layers with an activation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(SIZES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = getattr(torch, ACTIVATION)(layer(x))
        return self.layers[-1](x)


def build() -> nn.Module:
    return Dense()
